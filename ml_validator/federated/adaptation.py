"""How much each participant is asked to do, by what the chain has seen of it.

Block times alone, no self-reports: how long a participant took to join is about its way to the
chain, what it took longer to commit its update is its local steps. Integers, so that everyone can
check the steps and weights that a coordinator writes into `round.open`. docs/spec/aggregation.md,
section 7.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Final

STEPS_MIN: Final = 2
STEPS_MAX: Final = 40
WEIGHT_WHOLE: Final = 1_000
"""Weight of a participant whose update is not stale."""

_MARGIN: Final = (4, 5)
"""Of the time to the deadline, what is planned for: 0.8."""

_MEMORY: Final = 4
"""An average moves by 1 / 4 of the way to what was seen last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Averages of one participant, in block time.

    Parameters
    ----------
    way_us : int
        From the block that opens a phase to that which has the participant's transaction, without
        work in between, in microseconds.
    step_us : int
        A local step.
    """

    way_us: int
    step_us: int

    def seen(self, *, joined_after_ms: int, committed_after_ms: int, steps: int) -> "Pace":
        """Return the averages after one more federated round.

        Parameters
        ----------
        joined_after_ms : int
            From `round.open` to the participant's `round.join`.
        committed_after_ms : int
            From the block in which training could begin to `update.commit`.
        steps : int
            Local steps that it was asked for.
        """
        first = first_pace(
            joined_after_ms=joined_after_ms, committed_after_ms=committed_after_ms, steps=steps
        )
        return Pace(
            way_us=self.way_us + (first.way_us - self.way_us) // _MEMORY,
            step_us=max(self.step_us + (first.step_us - self.step_us) // _MEMORY, 1),
        )


def first_pace(*, joined_after_ms: int, committed_after_ms: int, steps: int) -> Pace:
    """Return the pace of a participant that was seen in one federated round."""
    worked_ms = max(committed_after_ms - joined_after_ms, 0)
    return Pace(way_us=1_000 * joined_after_ms, step_us=max(1_000 * worked_ms // steps, 1))


def local_steps(pace: Pace, *, deadline_ms: int) -> int:
    """Return the steps to ask for: as many as fit into 0.8 of the time, 2 to 40."""
    part, whole = _MARGIN
    room_us = 1_000 * deadline_ms * part // whole - pace.way_us
    return min(max(room_us // pace.step_us, STEPS_MIN), STEPS_MAX)


def stale_weight(staleness: int) -> int:
    """Return the weight of an update that is `staleness` rounds old: (1 + staleness)^−½."""
    return max(isqrt(WEIGHT_WHOLE * WEIGHT_WHOLE // (1 + staleness)), 1)

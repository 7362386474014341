"""Participants of different speed, in simulated time: what adapting the steps is worth.

How long a step takes and how far the chain is differ by a factor of twenty between participants,
and from round to round by a quarter. What `adaptation` is told are times of blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ml_validator.federated.adaptation import (
    STEPS_MAX,
    Pace,
    first_pace,
    local_steps,
    stale_weight,
)
from ml_validator.federated.local_training import Network, train
from ml_validator.federated.scores import score
from ml_validator.federated.server_optimisers import Doubles, FedAdam
from ml_validator.federated.task import Part

STEP_MS: Final = (5.0, 100.0)
WAY_MS: Final = (50.0, 1_000.0)
JITTER: Final = (0.8, 1.25)
BLOCK_MS: Final = 100
DEADLINE_MS: Final = 1_000
FIRST_STEPS: Final = 10
RATE: Final = 0.1
ROUNDS_MAX: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Times of one participant, in milliseconds of the simulation."""

    step_ms: float
    way_ms: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _UnderWay:
    """An update that is being made: of which round, when it arrives, what it says of a step."""

    number: int
    arrives_ms: float
    per_step: Doubles


def draw_participants(count: int, *, random: np.random.Generator) -> list[Participant]:
    """Draw speeds, evenly on a logarithmic scale."""
    return [
        Participant(
            step_ms=float(np.exp(random.uniform(*np.log(STEP_MS)))),
            way_ms=float(np.exp(random.uniform(*np.log(WAY_MS)))),
        )
        for _ in range(count)
    ]


def synchronous_ms(
    clients: Sequence[Part],
    participants: Sequence[Participant],
    network: Network,
    hold_out: Part,
    *,
    target: float,
    random: np.random.Generator,
) -> float | None:
    """Return how long it takes to reach `target` where all do `STEPS_MAX` steps and all wait.

    None if it is not reached in `ROUNDS_MAX` rounds.
    """
    model, optimiser, now = network.start(random).astype(np.float64), FedAdam(rate=RATE), 0.0
    for _ in range(ROUNDS_MAX):
        now += max(
            _blocks(p.way_ms * _jitter(random) + STEPS_MAX * p.step_ms * _jitter(random))
            for p in participants
        )
        changes = [_change(network, model, part, STEPS_MAX, random) for part in clients]
        model = optimiser.step(model, np.mean(changes, axis=0))
        if _accuracy(network, model, hold_out) >= target:
            return now
    return None


def adaptive_ms(
    clients: Sequence[Part],
    participants: Sequence[Participant],
    network: Network,
    hold_out: Part,
    *,
    target: float,
    random: np.random.Generator,
) -> float | None:
    """Return the same where steps follow the pace, and late updates count for less.

    Every round lasts until its deadline. An update is divided by its steps, and what a round makes
    of them is multiplied by the steps that were asked for on average.
    """
    model, optimiser, now = network.start(random).astype(np.float64), FedAdam(rate=RATE), 0.0
    paces: list[Pace | None] = [None] * len(clients)
    under_way: list[_UnderWay | None] = [None] * len(clients)
    for number in range(ROUNDS_MAX):
        asked = []
        for index, (part, participant) in enumerate(zip(clients, participants, strict=True)):
            if under_way[index] is not None:
                continue  # Still at an earlier one.
            pace = paces[index]
            steps = FIRST_STEPS if pace is None else local_steps(pace, deadline_ms=DEADLINE_MS)
            asked.append(steps)
            joined = _blocks(participant.way_ms * _jitter(random))
            took = participant.way_ms * _jitter(random)
            took += steps * participant.step_ms * _jitter(random)
            seen = {
                "joined_after_ms": joined,
                "committed_after_ms": _blocks(took),
                "steps": steps,
            }
            paces[index] = first_pace(**seen) if pace is None else pace.seen(**seen)
            change = _change(network, model, part, steps, random)
            under_way[index] = _UnderWay(
                number=number, arrives_ms=now + took, per_step=change / steps
            )
        now += DEADLINE_MS
        arrived = [(i, u) for i, u in enumerate(under_way) if u and u.arrives_ms <= now]
        if arrived:
            weights = [stale_weight(number - update.number) for _, update in arrived]
            per_step = np.average([u.per_step for _, u in arrived], axis=0, weights=weights)
            mean_steps = float(np.mean(asked)) if asked else 1.0
            model = optimiser.step(model, per_step * mean_steps)
        for index, _ in arrived:
            under_way[index] = None
        if _accuracy(network, model, hold_out) >= target:
            return now
    return None


def _change(
    network: Network, model: Doubles, part: Part, steps: int, random: np.random.Generator
) -> Doubles:
    start = model.astype(np.float32)
    end = train(network, start, part.scaled, part.classes, steps=steps, rate=RATE, random=random)
    return (end - start).astype(np.float64)


def _accuracy(network: Network, model: Doubles, part: Part) -> float:
    return score(network.predict(model.astype(np.float32), part.scaled), part.classes).accuracy


def _jitter(random: np.random.Generator) -> float:
    return float(random.uniform(*JITTER))


def _blocks(milliseconds: float) -> int:
    """Return the time of the block that has what comes after so long."""
    return -(-int(milliseconds) // BLOCK_MS) * BLOCK_MS

"""Tells an operator that the wall clock of this node is wrong, as the blocks of the others show.

A node with a wrong clock refuses the blocks of the others, and has its own refused if it is ahead
(DESIGN rule 13); the chain goes on without it, and nobody but its operator can mend that. Nothing
is decided by what is measured here.
"""

from statistics import median_low
from typing import Final

import structlog

from chain.miners import MinerSet
from chain.types import Address, Round, TimestampMs
from consensus.timers import Timing
from node.ports import Clock

_NS_PER_MS: Final = 1_000_000

log = structlog.get_logger(__name__)


class ClockWatch:
    """Compares the wall clock with the times of fresh blocks, as they arrive from their proposers.

    Notes
    -----
    Of each proposer the last is kept, by the monotonic clock: a step of the wall clock shows at
    once, without another block. What a block was under way counts as being ahead.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # What a proposer's clock showed when this node's monotonic clock stood at zero; bounded by
        # the members of the height, for `look` drops all others.
        self._zeros_ms: dict[Address, int] = {}
        self._is_wrong = False

    def on_fresh_block(self, proposer: Address, time_ms: TimestampMs) -> None:
        """Take note of a block that a miner has just proposed, in a session with that miner."""
        self._zeros_ms[proposer] = time_ms - self._monotonic_ms()

    def offsets_ms(self) -> list[int]:
        """Return how far this clock is ahead of that of each proposer which is known."""
        now_ms = self._clock.wall_ms() - self._monotonic_ms()
        return [now_ms - zero_ms for zero_ms in self._zeros_ms.values()]

    def offset_ms(self) -> int | None:
        """Return how far this clock is ahead of the median of the proposers'; None: none is known.

        Of two in the middle the one nearer to this clock counts, lest one liar be enough.
        """
        offsets = self.offsets_ms()
        if not offsets:
            return None
        return min(median_low(offsets), -median_low([-offset for offset in offsets]), key=abs)

    def look(self, miners: MinerSet, timing: Timing) -> None:
        """Tell where this node would refuse the fresh blocks of f + 1 others, and when it is over.

        So at least one of these is honest.
        """
        for miner in [miner for miner in self._zeros_ms if miner not in miners]:
            del self._zeros_ms[miner]
        offsets = self.offsets_ms()
        ahead = sum(offset > timing.precision_ms + timing.delay_ms(Round(0)) for offset in offsets)
        behind = sum(offset < -timing.precision_ms for offset in offsets)
        is_wrong = max(ahead, behind) >= miners.weak_quorum
        if is_wrong != self._is_wrong:
            self._is_wrong = is_wrong
            if is_wrong:
                log.warning(
                    "the clock of this node is wrong; it takes no part until that is mended",
                    offset_ms=self.offset_ms(),
                )
            else:
                log.info("the clock of this node is right again", offset_ms=self.offset_ms())

    def _monotonic_ms(self) -> int:
        return self._clock.monotonic_ns() // _NS_PER_MS

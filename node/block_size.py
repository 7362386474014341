"""How large a fresh block should be: as large as this network agrees on in time.

The chain's limits say what a block may hold at most. Where machines are too slow for that, round 0
of every height would run out of time, and the halving of later rounds would begin anew with each
height. So what it taught is kept: a height that was decided in a later round shrinks the next
blocks, one decided at once lets them grow by little. Nobody checks it; it is each proposer's own
prudence.
"""

from typing import Final

FULL: Final = 1_024
"""The share that stands for the chain's limits themselves."""
GROWTH: Final = FULL // 32
SHARE_MIN: Final = FULL // 64


class BlockSize:
    """The share of the chain's limits that the next fresh block may take."""

    def __init__(self) -> None:
        self._share = FULL

    def on_committed(self, round: int) -> None:
        """Learn from a height that was decided in `round`.

        A proposer that failed is taken for a block that was too large: the growth makes up for it
        within some blocks.
        """
        if round == 0:
            self._share = min(FULL, self._share + GROWTH)
        else:
            self._share = max(SHARE_MIN, self._share >> round)

    def of(self, limit: int, *, least: int = 1) -> int:
        """Return what a block may hold where the chain allows `limit`.

        Parameters
        ----------
        least : int
            So much is not too large for anybody: a round that failed has other reasons.
        """
        return max(min(limit, least), limit * self._share // FULL)

"""Pruning in the background: what the operator does not keep is removed, a little at a time.

The store decides what rules may still look at, and spares it whatever is configured.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from node.damage import report_damage
from node.errors import DamagedEntry
from node.metrics import Metrics
from node.ports import Executor
from node.storage.chain_store import ChainStore
from node.storage.pruning import INDEX_PARTS, PRUNED_CLASSES, TRANSACTION_CLASSES
from node.storage.schema import KEPT_APART, RECEIPTS

PERIOD_S: Final = 10.0
"""How often is looked for what can go."""
PAUSE_S: Final = 0.05
"""Between two steps, so that pruning takes the smaller part of the disk and of a core."""
COMPACT_BLOCKS: Final = 512
"""After so many blocks their room is given back to the disk."""
COMPACT_INDEXES: Final = 1_000_000
"""The same for the indexes, in transactions: it reads all of them that are left."""

NAMES: Final = {what: name for name, what in KEPT_APART.items()}
"""The classes by the name that people read."""

_DAY_MS: Final = 24 * 3_600_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How much of a class is kept at least.

    Parameters
    ----------
    blocks : int, optional
        That of so many last blocks.
    days : int, optional
        That of blocks up to so many days older than the last one. With neither everything is kept,
        with both what either keeps.
    """

    blocks: int | None = None
    days: int | None = None

    def first(self, chain: ChainStore) -> int:
        """Return from which height on it is kept; runs aside, for it reads headers."""
        height = chain.height
        found: list[int] = []
        if self.blocks is not None:
            found.append(height + 1 - self.blocks)
        if self.days is not None:
            oldest_ms = chain.tip.header.time_ms - self.days * _DAY_MS
            found.append(chain.first_after(oldest_ms, height))
        return max(0, min(found, default=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningPolicy:
    """What is kept, by class; of a class that is not named, everything."""

    keep: Mapping[bytes, Keep] = field(default_factory=dict)

    @property
    def is_idle(self) -> bool:
        """Whether everything is kept."""
        return all(keep == Keep() for keep in self.keep.values())

    def firsts(self, chain: ChainStore) -> dict[bytes, int]:
        """Return from which height on each class is to be kept; runs aside."""
        spared = chain.spared_from()
        firsts = {what: min(spared, keep.first(chain)) for what, keep in self.keep.items()}
        # Receipts name the transactions that are kept.
        firsts[RECEIPTS] = min(firsts.get(what, 0) for what in PRUNED_CLASSES)
        return firsts


class Pruner:
    """Removes what `policy` does not keep.

    Parameters
    ----------
    executor : Executor
        For what the store itself does not do aside.
    """

    def __init__(
        self, *, chain: ChainStore, executor: Executor, policy: PruningPolicy, metrics: Metrics
    ) -> None:
        self._chain = chain
        self._executor = executor
        self._policy = policy
        self._metrics = metrics
        self._compacted = {what: chain.first(what) for what in PRUNED_CLASSES}
        self._unindexed = 0

    async def run(self) -> None:
        """Prune until cancelled.

        Raises
        ------
        StorageError
            The disk refused; the node cannot go on.
        """
        if self._policy.is_idle:
            return
        try:
            while True:
                for what, count in (await self.prune()).items():
                    kept_from = self._chain.first(what)
                    log.info("pruned", what=NAMES[what], count=count, kept_from=kept_from)
                await asyncio.sleep(PERIOD_S)
        except DamagedEntry as error:
            # What belongs to a body that cannot be read is not known; the node does without.
            report_damage(error, self._metrics)
            log.error("pruning has stopped at a damaged block; the node goes on without it")

    async def prune(self, pause_s: float = PAUSE_S) -> dict[bytes, int]:
        """Remove all that the policy does not keep now; return how much of each class went."""
        firsts = await self._executor.run(self._policy.firsts, self._chain)
        removed: dict[bytes, int] = {}
        for what in PRUNED_CLASSES:
            below = firsts.get(what, 0)
            gone = 0
            while max(1, self._chain.first(what)) < below:
                count = await self._chain.prune(what, below)
                self._metrics.pruned(NAMES[what], count)
                gone += count
                await self._give_back(what, COMPACT_BLOCKS, pause_s)
                await asyncio.sleep(pause_s)
            if what in TRANSACTION_CLASSES:
                self._unindexed += gone
            if gone:
                removed[what] = gone
        if self._unindexed >= COMPACT_INDEXES:
            await self.compact_indexes(pause_s)
        return removed

    async def compact(self) -> None:
        """Give all the room of what was pruned back at once, that of indexes too."""
        for what in PRUNED_CLASSES:
            await self._give_back(what, 1, 0)
        if self._unindexed:
            await self.compact_indexes(0)

    async def compact_indexes(self, pause_s: float) -> None:
        """Give the room of index entries back, part for part."""
        for part in range(INDEX_PARTS):
            await self._chain.compact_indexes(part)
            await asyncio.sleep(pause_s)
        self._unindexed = 0

    async def _give_back(self, what: bytes, blocks: int, pause_s: float) -> None:
        while self._chain.first(what) - self._compacted[what] >= blocks:
            start = self._compacted[what]
            stop = min(self._chain.first(what), start + COMPACT_BLOCKS)
            await self._chain.compact(range(start, stop))
            self._compacted[what] = stop
            await asyncio.sleep(pause_s)

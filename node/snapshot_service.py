"""Making a snapshot of the state at each multiple of an interval, beside the chain's work.

The state is held still by what both its parts can do anyway: the store iterates over a consistent
view, and the tree is immutable. So nothing waits while pieces are cut, proven and written.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from node.ports import Executor
from node.storage.chain_store import ChainStore, StateView
from node.storage.snapshots import SnapshotStore

INTERVAL_BLOCKS_DEFAULT: Final = 1_000
KEEP_DEFAULT: Final = 2
KEEP_MAX: Final = 4
"""As many as a status can name."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSettings:
    """When snapshots are made, and how many are kept.

    Parameters
    ----------
    interval_blocks : int
        At heights that are multiples of it; 0 makes none.
    keep : int
        The latest so many are kept.
    """

    interval_blocks: int = INTERVAL_BLOCKS_DEFAULT
    keep: int = KEEP_DEFAULT


class SnapshotService:
    """Makes snapshots.

    Parameters
    ----------
    highest_seen : callable
        Returns how far the others are: of a node that has more than an interval to catch up with,
        snapshots would be dropped at once.
    on_made : callable
        Told of each new snapshot.

    Attributes
    ----------
    heights : tuple of int
        Of the snapshots that are there, ascending.
    """

    def __init__(
        self,
        *,
        chain: ChainStore,
        snapshots: SnapshotStore,
        executor: Executor,
        interval_blocks: int,
        highest_seen: Callable[[], int],
        on_made: Callable[[], None],
    ) -> None:
        self._chain = chain
        self._snapshots = snapshots
        self._executor = executor
        self._interval = interval_blocks
        self._highest_seen = highest_seen
        self._on_made = on_made
        self.heights = snapshots.heights()
        # One that is due; a later one is passed over until it has been made.
        self._due: StateView | None = None
        self._is_due = asyncio.Event()

    def on_committed(self) -> None:
        """Hold the state still if a snapshot of it is due; called before the next block."""
        if not self._interval or self._chain.height % self._interval or self._due is not None:
            return
        if self._highest_seen() < self._chain.height + self._interval:
            self._due = self._chain.view()
            self._is_due.set()

    async def run(self) -> None:
        """Make snapshots until cancelled."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            view = self._due
            assert view is not None, "one is due"
            await self._executor.run(self._snapshots.make, view)
            self.heights = await self._executor.run(self._snapshots.heights)
            self._due = None
            log.info("snapshot made", height=view.header.height)
            self._on_made()

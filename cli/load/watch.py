"""Watching transactions commit, on one node, block by block."""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

from cli.client import Client
from node.clock import SystemClock

LATE_S: Final = 5.0
"""What is not committed after this long does not count as under way any more: it may have been
refused by a block, and nobody tells."""

_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Where and when a transaction was committed.

    Parameters
    ----------
    latency_ms : float
        From just before it was sent until the block was seen.
    at_ns : int
        Monotonic.
    """

    height: int
    index: int
    latency_ms: float
    at_ns: int


class CommitWatch:
    """Notes what is sent and when it commits.

    Parameters
    ----------
    client : Client
        Of the node whose blocks are followed.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._clock = SystemClock()
        self._under_way: dict[str, int] = {}
        self._late: dict[str, int] = {}
        self._moved = asyncio.Event()
        self.commits: dict[str, Commit] = {}
        self.height = 0

    async def run(self, first: int) -> None:
        """Follow the blocks from height `first` on, until cancelled."""
        async with aclosing(self._client.follow_blocks(first)) as blocks:
            async for block in blocks:
                self._on_block(block["header"]["height"], block["transaction_ids"])

    def note_sent(self, ids: Iterable[str]) -> None:
        """Tell that these transactions are about to be sent."""
        now = self._clock.monotonic_ns()
        self._under_way.update(dict.fromkeys(ids, now))

    def note_refused(self, id: str) -> None:
        """Tell that a transaction was refused and will not commit."""
        self._under_way.pop(id, None)
        self._late.pop(id, None)

    def outstanding(self) -> list[str]:
        """Return what was sent and is neither committed nor refused."""
        return [*self._late, *self._under_way]

    async def room(self, limit: int) -> None:
        """Return once fewer than `limit` transactions are under way."""
        while True:
            self._retire()
            if len(self._under_way) < limit:
                return
            await self.block_or(0.2)

    async def settled(self, ids: Iterable[str], *, timeout_s: float) -> bool:
        """Wait until all of `ids` are committed or refused; tell whether that was in time."""
        left = set(ids)
        deadline = self._clock.monotonic_ns() + int(timeout_s * _NS_PER_S)
        while True:
            left = {id for id in left if id in self._under_way or id in self._late}
            if not left:
                return True
            if self._clock.monotonic_ns() > deadline:
                return False
            await self.block_or(0.2)

    async def block_or(self, seconds: float) -> None:
        """Return at the next block, or after `seconds`."""
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()

    def _on_block(self, height: int, ids: list[str]) -> None:
        now = self._clock.monotonic_ns()
        self.height = height
        for index, id in enumerate(ids):
            sent = self._under_way.pop(id, None) or self._late.pop(id, None)
            if sent is not None:
                self.commits[id] = Commit(
                    height=height, index=index, latency_ms=(now - sent) / 1e6, at_ns=now
                )
        self._moved.set()

    def _retire(self) -> None:
        oldest = self._clock.monotonic_ns() - int(LATE_S * _NS_PER_S)
        # They stand in the order in which they were sent.
        while self._under_way:
            id, sent = next(iter(self._under_way.items()))
            if sent >= oldest:
                return
            self._late[id] = self._under_way.pop(id)


def percentile(values: Iterable[float], percent: int) -> float:
    """Return the smallest value that `percent` of 100 values do not exceed; 0 where none are."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

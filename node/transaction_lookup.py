"""Where a transaction is in its life, now or once that is decided."""

import asyncio
from typing import Final

from chain.types import Digest
from node.api import TransactionStatus
from node.mempool import Mempool
from node.ports import Clock
from node.storage.chain_store import ChainStore

WAIT_STEP_S: Final = 0.5
"""How often a request that waits for a transaction looks for a rejection, which makes no block."""


class TransactionLookup:
    """Looks in the pool and on the chain, and lets those who ask wait for the next block."""

    def __init__(self, *, chain: ChainStore, mempool: Mempool, clock: Clock) -> None:
        self._chain = chain
        self._mempool = mempool
        self._clock = clock
        self._next_block = asyncio.Event()

    def status(self, id: Digest) -> TransactionStatus:
        """Return where a transaction is in its life; may be called from any thread."""
        # In this order: what leaves the pool between the two looks is on the chain by then.
        fate = self._mempool.fate(id)
        found = self._chain.transaction(id)
        if found is not None:
            return TransactionStatus(
                status="committed",
                transaction=found.transaction,
                height=found.height,
                receipt=found.receipt,
            )
        if fate is None:
            first = self._chain.whole_from
            detail = f"this node does not keep all of what lies below block {first}"
            return TransactionStatus(status="unknown", detail=detail if first else None)
        return TransactionStatus(
            status=fate.status, transaction=self._mempool.find(id), code=fate.code
        )

    async def wait(self, id: Digest, timeout_ms: int) -> TransactionStatus:
        """Return the status once the transaction is no longer pending, or when time is up."""
        deadline_ns = self._clock.monotonic_ns() + timeout_ms * 1_000_000
        status = self.status(id)
        while status.status == "pending":
            left_ns = deadline_ns - self._clock.monotonic_ns()
            if left_ns <= 0:
                break
            try:
                async with asyncio.timeout(min(left_ns / 1e9, WAIT_STEP_S)):
                    await self._next_block.wait()
            except TimeoutError:
                pass  # it may have been rejected without a block
            status = self.status(id)
        return status

    async def wait_height(self, height: int) -> None:
        """Return once block `height` is committed here."""
        while self._chain.height < height:
            await self._next_block.wait()

    def on_committed(self) -> None:
        """Wake whoever waits for a block."""
        waiting, self._next_block = self._next_block, asyncio.Event()
        waiting.set()

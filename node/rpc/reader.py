"""Blocks read and decoded beside the event loop: a large one takes many milliseconds."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from chain.blocks import Block
from node.executor_pool import ThreadPool
from node.rpc.limits import CACHED_BLOCKS_MAX, CACHED_TRANSACTIONS_MAX, READERS
from node.storage.chain_store import ChainStore

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Values by key, the one used longest ago dropped where they weigh too much.

    Parameters
    ----------
    weight_max : int
        Bound of the weights of all values; the latest value is kept whatever it weighs.
    count_max : int
        Bound of their number.
    """

    def __init__(self, *, weight_max: int, count_max: int) -> None:
        self._weight_max = weight_max
        self._count_max = count_max
        self._weight = 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value of `key`, or None."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep the value of `key`."""
        self._weight += weight - self._values.pop(key, (None, 0))[1]
        self._values[key] = (value, weight)
        while len(self._values) > 1 and (
            self._weight > self._weight_max or len(self._values) > self._count_max
        ):
            _, (_, dropped) = self._values.popitem(last=False)
            self._weight -= dropped


class BlockReader:
    """Reads from the chain in threads; decoded blocks are kept for a while.

    Parameters
    ----------
    chain : ChainStore
        Its blocks, headers and receipts may be read from any thread.

    Notes
    -----
    Closed by whoever made it, after the last reader has ended.
    """

    def __init__(self, chain: ChainStore) -> None:
        self._chain = chain
        self._threads = ThreadPool(READERS, name="rpc-reader")
        self._blocks: Cache[int, Block] = Cache(
            weight_max=CACHED_TRANSACTIONS_MAX, count_max=CACHED_BLOCKS_MAX
        )
        self._reading = asyncio.Lock()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Return ``function(*args)``, called in a thread."""
        return await self._threads.run(function, *args)

    async def block(self, height: int) -> Block | None:
        """Return a committed block, or None where this node has none of that height."""
        if height > self._chain.height:
            return None
        # One at a time, so that many who want the same block decode it once.
        async with self._reading:
            block = self._blocks.get(height)
            if block is None:
                block = await self.run(self._chain.block, height)
                if block is not None:
                    self._blocks.put(height, block, len(block.transactions))
            return block

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

"""The events of committed blocks, rendered once for all subscribers and by type as they are asked.

A block of thousands of transactions costs a tenth of a second to render whole; whoever follows the
blocks alone pays for their headers alone.
"""

import asyncio
import json
from collections.abc import Collection, Iterator, Sequence
from heapq import merge
from itertools import groupby
from typing import Any, Final

from chain.blocks import render_header
from chain.transactions import Transaction, decode_transaction
from chain.types import Digest
from node.api import NodeApi
from node.rpc import render
from node.rpc.limits import FEED_EVENTS_MAX, FEED_LISTS_MAX
from node.rpc.paging import INDEX_MAX
from node.rpc.reader import BlockReader, Cache
from node.storage.chain_reader import PAGE_MAX
from node.storage.chain_store import ChainStore

TYPES: Final = ("block", "transaction", "verdict", "event")
"""The types of events, in the order in which those of one position come."""

Events = Sequence[tuple[int, str, str]]
"""Position, type and JSON, in the order of the block."""


class EventFeed:
    """Events of blocks by height and type.

    Position 0 of a block is the block itself, i + 1 its transaction i, the last one its end.

    Parameters
    ----------
    reader : BlockReader
        Reads and renders beside the event loop.
    """

    def __init__(self, node: NodeApi, reader: BlockReader) -> None:
        self._node = node
        self._reader = reader
        self._rendered: Cache[tuple[int, str], Events] = Cache(
            weight_max=FEED_EVENTS_MAX, count_max=FEED_LISTS_MAX
        )
        self._counts: Cache[int, int] = Cache(weight_max=0, count_max=FEED_LISTS_MAX)
        self._rendering = asyncio.Lock()

    async def count(self, height: int) -> int:
        """Return how many positions a committed block has; raises `Pruned`."""
        count = self._counts.get(height)
        if count is None:
            count = len(await self._wires(height)) + 2
            self._counts.put(height, count, 0)
        return count

    async def events(
        self, height: int, types: Collection[str]
    ) -> Iterator[tuple[int, list[tuple[str, str]]]]:
        """Return the events of `types` of a committed block: position, and type and JSON of each.

        Raises
        ------
        Pruned
            The node does not keep the block any more.
        """
        lists = [await self._events(height, type_) for type_ in TYPES if type_ in types]
        # `merge` keeps the order of the lists where positions are equal.
        merged = merge(*lists, key=_position)
        return (
            (position, [(type_, data) for _, type_, data in group])
            for position, group in groupby(merged, key=_position)
        )

    async def _events(self, height: int, type_: str) -> Events:
        # One at a time, so that many who want the same events render them once.
        async with self._rendering:
            events = self._rendered.get((height, type_))
            if events is None:
                events = await self._render(height, type_)
                self._rendered.put((height, type_), events, len(events))
            return events

    async def _render(self, height: int, type_: str) -> Events:
        chain = self._node.chain
        match type_:
            case "block":
                header = chain.header(height)
                assert header is not None, "it is committed"
                count = await self.count(height) - 2
                return [
                    _event(0, type_, {"header": render_header(header), "transaction_count": count})
                ]
            case "transaction":
                block = await self._reader.block(height)
                assert block is not None, "it is committed"
                return await self._reader.run(_transactions, block.transactions, height)
            case "verdict":
                wires = await self._wires(height)
                found = await self._reader.run(_find_verdicts, chain, wires, height)
                # The state's cache belongs to the event loop.
                known = render.thresholds(chain.state, [verdict for _, verdict in found])
                return await self._reader.run(_verdicts, found, height, known)
            case _:
                await self.count(height)
                return await self._reader.run(_brought_about, chain, height)

    async def _wires(self, height: int) -> tuple[bytes, ...]:
        wires = await self._reader.run(self._node.chain.wires, height)
        assert wires is not None, "it is committed"
        return wires


def _position(event: tuple[int, str, str]) -> int:
    return event[0]


def _event(position: int, type_: str, data: dict[str, Any]) -> tuple[int, str, str]:
    return position, type_, json.dumps(data, separators=(",", ":"))


def _transactions(transactions: Sequence[Transaction], height: int) -> Events:
    return [
        _event(index + 1, "transaction", render.transaction(transaction, (height, index)))
        for index, transaction in enumerate(transactions)
    ]


def _find_verdicts(
    chain: ChainStore, wires: Sequence[bytes], height: int
) -> list[tuple[int, Transaction]]:
    found: list[tuple[int, Transaction]] = []
    after = (height - 1, INDEX_MAX) if height else None
    while True:
        page = chain.verdict_transactions(after=after, limit=PAGE_MAX)
        found += [(i, decode_transaction(wires[i])) for at, i, _ in page if at == height]
        if len(page) < PAGE_MAX or page[-1][0] > height:
            return found
        after = page[-1][:2]


def _verdicts(
    found: Sequence[tuple[int, Transaction]], height: int, known: dict[Digest, int]
) -> Events:
    return [
        _event(index + 1, "verdict", render.verdict(transaction, (height, index), known))
        for index, transaction in found
    ]


def _brought_about(chain: ChainStore, height: int) -> Events:
    receipts = chain.receipts(height)
    by_transactions = [
        _event(receipt.index + 1, "event", render.event(event, height, receipt))
        for receipt in receipts
        for event in receipt.events
    ]
    by_the_end = [
        _event(len(receipts) + 1, "event", render.event(event, height, None))
        for event in chain.block_receipt(height).events
    ]
    return [*by_transactions, *by_the_end]

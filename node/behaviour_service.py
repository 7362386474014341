"""Watches how devices behave, block by block; beside consensus, and off the event loop.

What it knows is a view of this node: it is made anew at a start from the last blocks that the node
keeps, and no verdict rests on it (docs/adr/0022-behaviour-is-a-view.md).
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from chain.kinds import KINDS
from chain.payloads import Flow
from chain.records.devices import DEVICE_TABLE
from chain.types import Address
from ml_validator.behaviour import Behaviour, Watch, watched_values
from node.damage import report_damage
from node.errors import DamagedEntry, Pruned
from node.metrics import Metrics
from node.ports import Executor
from node.storage.chain_store import ChainStore

LOOK_BACK_BLOCKS: Final = 10_000
"""So many blocks before the last one are looked at after a start, as far as they are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How a device behaves, as far as this node has looked.

    Parameters
    ----------
    from_height, height : int
        The blocks that were looked at.
    behaviour : Behaviour
        Without quantities of a device that sent nothing in them.
    """

    from_height: int
    height: int
    behaviour: Behaviour


@dataclass(slots=True)
class _Sent:
    """What one device has in a block."""

    count: int = 0
    values: list[dict[str, int]] = field(default_factory=list)


class BehaviourService:
    """Takes in blocks in the order of their heights."""

    def __init__(self, *, chain: ChainStore, executor: Executor, metrics: Metrics) -> None:
        self._chain = chain
        self._executor = executor
        self._metrics = metrics
        self._watch = Watch()
        self._from = self._next = self._first()
        self._changed = asyncio.Event()
        self._changed.set()
        # One at a time works on the sums, in whatever thread.
        self._turn = asyncio.Lock()

    @property
    def device_count(self) -> int:
        """How many devices it knows."""
        return self._watch.device_count

    def on_committed(self) -> None:
        """Look for work after a block."""
        self._changed.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._next <= self._chain.height:
                # What has been pruned meanwhile is passed over.
                self._next = max(self._next, self._first())
                await self._take(self._next)
                self._next += 1

    async def report(self, device: Address, group: Address) -> Watched:
        """Return how a device of a group behaves."""
        async with self._turn:
            found = await self._executor.run(self._watch.report, device, group)
        return Watched(from_height=self._from, height=self._next - 1, behaviour=found)

    def _first(self) -> int:
        return max(1, self._chain.height + 1 - LOOK_BACK_BLOCKS, self._chain.first_block())

    async def _take(self, height: int) -> None:
        try:
            time_ms, sent = await self._executor.run(_sent_in, self._chain, height)
        except DamagedEntry as error:
            report_damage(error, self._metrics)
            return
        groups = {device: self._group_of(device) for device in sent}
        async with self._turn:
            await self._executor.run(self._feed, time_ms, sent, groups)

    def _feed(
        self, time_ms: int, sent: dict[Address, _Sent], groups: dict[Address, Address]
    ) -> None:
        for device, what in sent.items():
            self._watch.take(
                device, groups[device], time_ms=time_ms, sent=what.count, values=what.values
            )

    def _group_of(self, device: Address) -> Address:
        record = self._chain.state.get(DEVICE_TABLE, device)
        assert record is not None, "a committed report comes from a registered device"
        return record.organisation


def _sent_in(chain: ChainStore, height: int) -> tuple[int, dict[Address, _Sent]]:
    """Return the time of a block and what each device has in it; nothing of a block not kept."""
    try:
        block = chain.block(height)
    except Pruned:
        block = None  # since it was looked at where that which is kept begins
    if block is None:
        return 0, {}
    sent: dict[Address, _Sent] = {}
    for transaction in block.transactions:
        kind = KINDS[transaction.payload.kind]
        if not kind.metered:
            continue
        what = sent.setdefault(transaction.payload.sender, _Sent())
        what.count += 1
        payload = kind.decode(transaction).payload
        if isinstance(payload, Flow) and (values := watched_values(payload)):
            what.values.append(values)
    return block.header.time_ms, sent

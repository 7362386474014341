"""Watching behaviour: every committed block once, from what is kept, off the event loop."""

import asyncio
from contextlib import asynccontextmanager

from chain.kinds.device_data import DeviceData
from chain.lookback import LOOKBACK_MS_MAX
from chain.payloads import Flow
from ml_validator import NSL_KDD_SCHEMA
from ml_validator.behaviour import WINDOW
from node import behaviour_service
from node.behaviour_service import BehaviourService
from node.metrics import Metrics
from node.ports import WriteBatch
from node.storage import schema
from tests.builders import reading
from tests.unit.node.fakes import simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain, shrink_windows


def flow(src_bytes):
    names = [column.name for column in NSL_KDD_SCHEMA.integers]
    integers = tuple(src_bytes if name == "src_bytes" else 0 for name in names)
    return DeviceData(
        payload=Flow(schema=NSL_KDD_SCHEMA.digest, integers=integers, categories=("tcp",) * 3)
    )


class Observed:
    """A chain, and a service that watches it."""

    def __init__(self):
        self.stored = StoredChain()
        self.chain = self.stored.chain
        self.device, self.registration = self.chain.registration("device")

    def service(self, executor=None):
        return BehaviourService(
            chain=self.stored.store,
            executor=executor or self.stored.executor,
            metrics=Metrics(),
        )

    async def register(self):
        await self.stored.commit(self.registration)

    async def send(self, *bodies):
        await self.stored.commit(*[self.chain.by_device(self.device, body) for body in bodies])

    async def report(self, service):
        record = self.chain.device(self.device)
        return await service.report(self.device.id, record.organisation)


@asynccontextmanager
async def running(service):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(service.run())
        await asyncio.sleep(0.1)
        yield
        service.on_committed()
        await asyncio.sleep(0.1)
        task.cancel()


@simulated
async def test_blocks_before_the_start_and_after_it_are_taken_in_once():
    observed = Observed()
    await observed.register()
    for _ in range(3):
        await observed.send(*[flow(100)] * WINDOW)
    service = observed.service()
    async with running(service):
        await observed.send(*[flow(4_000)] * WINDOW, reading())

    found = await observed.report(service)

    assert (found.from_height, found.height) == (1, 5)
    assert found.behaviour.reason.startswith("src_bytes 40 × this device's normal")
    by_name = {quantity.name: quantity for quantity in found.behaviour.quantities}
    assert by_name["src_bytes"].count == 3 * WINDOW


@simulated
async def test_a_start_looks_at_the_last_blocks_alone(monkeypatch):
    monkeypatch.setattr(behaviour_service, "LOOK_BACK_BLOCKS", 2)
    observed = Observed()
    await observed.register()
    for _ in range(3):
        await observed.send(*[flow(100)] * WINDOW)
    service = observed.service()
    async with running(service):
        pass

    found = await observed.report(service)

    assert (found.from_height, found.height) == (3, 4)
    latest = src_bytes_of(found)
    assert (latest.count, latest.latest_mean) == (WINDOW, 100)


@simulated
async def test_a_device_that_sent_nothing_has_no_behaviour():
    observed = Observed()
    await observed.register()
    service = observed.service()
    async with running(service):
        pass

    assert (await observed.report(service)).behaviour.quantities == ()


@simulated
async def test_a_node_that_came_from_a_snapshot_watches_from_what_it_keeps():
    observed = Observed()
    await observed.register()
    for _ in range(3):
        await observed.send(flow(100))
    forget_below(observed, 3)
    service = observed.service()
    async with running(service):
        await observed.send(flow(100))

    found = await observed.report(service)

    assert (found.from_height, found.height) == (3, 5)
    assert src_bytes_of(found).group_count == 3


@simulated
async def test_a_block_that_is_pruned_while_it_is_looked_for_is_passed_over(monkeypatch):
    shrink_windows(monkeypatch)
    observed = Observed()
    store = observed.stored.store
    await observed.register()
    for _ in range(8):
        await observed.send(flow(100))
        await observed.stored.commit(time_ms=observed.chain.next_time_ms + LOOKBACK_MS_MAX)
    kept_from = store.spared_from()
    assert kept_from > 2

    class PrunesFirst(Inline):
        async def run(self, function, *args):
            while store.first(schema.TELEMETRY) < kept_from:
                await store.prune(schema.TELEMETRY, kept_from)
            return await super().run(function, *args)

    service = observed.service(PrunesFirst())
    async with running(service):
        pass

    kept = sum(len(block.transactions) for block in observed.chain.blocks[kept_from - 1 :])
    assert src_bytes_of(await observed.report(service)).group_count == kept


def src_bytes_of(found):
    (quantity,) = [q for q in found.behaviour.quantities if q.name == "src_bytes"]
    return quantity


def forget_below(observed, first):
    """Let the store keep no more of the blocks below `first` than one made of a snapshot does."""
    batch = WriteBatch()
    for what in (schema.HEADER, schema.BODY, schema.CERTIFICATE, schema.RECEIPTS, schema.SUMMARY):
        for height in range(1, first):
            batch.delete(what + schema.height_bytes(height))
        batch.put(schema.first_key(what), schema.height_bytes(first))
    observed.stored.kv.write(batch)
    observed.stored.store = observed.stored.open()

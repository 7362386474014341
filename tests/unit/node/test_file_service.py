"""The files of devices: named by blocks, found again at a start, fetched, and let go."""

import asyncio
from random import Random
from typing import Any

import pytest

from chain.blobs import CHUNK_SIZE
from chain.kinds.device_data import DeviceData
from chain.manifests import MANIFEST_SIZE_MAX
from chain.merkle import merkle_root
from chain.payloads import Chunked
from chain.types import Digest
from node.blobs.ledger import FileLimits
from node.blobs.store import BlobLimits
from node.file_service import ATTEMPT_S, RETRY_S, FileService
from node.metrics import Metrics
from tests.builders import chunked, digest_of, make_genesis, named_file
from tests.simulation.disk import SimulatedDisk
from tests.unit.node.blobs.stored import blob, blob_store, put
from tests.unit.node.fakes import clock_of, simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain

ORGANISATIONS = ("acme", "globex", "initech", "umbrella", "hooli", "stark")


class Others:
    """Stands for the peers: holds what it is given, and notes what is asked for."""

    def __init__(self) -> None:
        self.held: set[Digest] = set()
        self.asked: list[Digest] = []
        self.slow: set[Digest] = set()

    async def fetch(self, digest: Digest, *, size_max: int) -> bool:
        self.asked.append(digest)
        if digest in self.slow:
            await asyncio.Event().wait()
        return digest in self.held


class Node:
    """A stored chain with one device, and the service over it."""

    def __init__(self, limits: FileLimits | None = None) -> None:
        self.stored = StoredChain(genesis=make_genesis(organisations=ORGANISATIONS))
        self.device, registration = self.stored.chain.registration("camera")
        self.first = [registration]
        self.limits = limits or FileLimits()
        self.others = Others()
        self.disk = SimulatedDisk(Random(1)).files
        self.blobs = blob_store(self.disk)
        self.metrics = Metrics()
        self.clock = clock_of(
            asyncio.get_running_loop(),  # type: ignore[arg-type]
            start_ms=self.stored.chain.tip.header.time_ms,
        )
        self.service = self.start()

    def start(self) -> FileService:
        fetcher: Any = self.others
        self.service = FileService(
            chain=self.stored.store,
            blobs=self.blobs,
            fetcher=fetcher,
            clock=self.clock,
            executor=Inline(),
            metrics=self.metrics,
            limits=self.limits,
        )
        return self.service

    async def send(self, label: str) -> None:
        await self.commit(named_file(label))

    async def commit(self, report: DeviceData) -> None:
        while self.first:
            await self.stored.commit(self.first.pop())
        await self.stored.commit(self.stored.chain.by_device(self.device, report))
        self.service.on_committed(self.stored.chain.blocks[-1])


def blobs_of(label: str) -> set[Digest]:
    file = chunked(label)
    return {file.chunks, file.manifest}


@simulated
async def test_what_a_block_names_is_taken_in_from_then_on_and_again_after_a_start():
    node = Node()
    await node.send("one")
    assert set(node.blobs.files) == blobs_of("one")

    node.blobs = blob_store()
    node.start()

    assert set(node.blobs.files) == blobs_of("one")
    assert node.service.count == 1


@simulated
async def test_what_was_too_old_at_a_start_is_not_named():
    node = Node()
    await node.send("one")
    await asyncio.sleep(node.limits.keep_ms / 1000 + 60)

    node.start()

    assert node.service.count == 0


@simulated
async def test_a_blob_is_asked_for_after_pauses_that_grow_until_somebody_has_it():
    node = Node()
    await node.send("one")
    file = chunked("one")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(node.service.run())
        await asyncio.sleep(RETRY_S / 2)
        assert node.others.asked == []
        node.others.held.add(file.manifest)
        await asyncio.sleep(60)
        assert node.others.asked.count(file.manifest) == 1
        # After 1, 1, 2, 4, 8, 16 and 32 seconds.
        assert node.others.asked.count(file.chunks) == 6

        node.others.held.add(file.chunks)
        await asyncio.sleep(60)
        asked = len(node.others.asked)
        await asyncio.sleep(10_000)
        assert len(node.others.asked) == asked
        running.cancel()


@simulated
async def test_files_that_come_slowly_hold_up_no_other():
    node = Node()
    slow, quick = [chunked(f"slow {number}") for number in range(9)], chunked("quick")
    node.others.slow = {file.manifest for file in slow} | {file.chunks for file in slow}
    for number in range(9):
        await node.send(f"slow {number}")
    await node.send("quick")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(node.service.run())
        # Eighteen blobs that never come, four at a time.
        await asyncio.sleep(5 * ATTEMPT_S + RETRY_S)
        task.cancel()

    assert {quick.manifest, quick.chunks} <= set(node.others.asked)


@simulated
@pytest.mark.parametrize("count", [1, 5])
async def test_slow_files_of_some_organisations_hold_up_none_of_another(count):
    """Whoever has registered them may have a peer that hands them out as slowly as it likes."""
    node = Node()
    honest = node.device
    for number in range(count):
        organisation = ORGANISATIONS[1 + number]
        node.device, registration = node.stored.chain.registration(
            "meter", organisation=organisation
        )
        await node.stored.commit(registration)
        for label in (f"slow {organisation} {number}" for number in range(10)):
            await node.send(label)
            node.others.slow |= blobs_of(label)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(node.service.run())
        await asyncio.sleep(ATTEMPT_S / 2)
        node.device = honest
        await node.send("quick")
        await asyncio.sleep(4 * ATTEMPT_S)
        task.cancel()

    assert blobs_of("quick") <= set(node.others.asked)


@simulated
async def test_a_node_that_fetches_nothing_takes_in_all_the_same():
    node = Node(FileLimits(fetches=False))
    await node.send("one")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(node.service.run())
        await asyncio.sleep(1_000)
        running.cancel()

    assert node.others.asked == []
    assert set(node.blobs.files) == blobs_of("one")


@simulated
async def test_a_larger_file_than_the_store_takes_is_asked_of_nobody():
    node = Node()
    node.blobs.limits = BlobLimits(blob_size_max=MANIFEST_SIZE_MAX)
    await node.commit(DeviceData(payload=chunked("large", size=MANIFEST_SIZE_MAX + 1)))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(node.service.run())
        await asyncio.sleep(100)
        running.cancel()

    assert set(node.others.asked) == {chunked("large").manifest}


@simulated
async def test_a_file_goes_from_the_disk_once_it_is_too_old():
    data = blob(CHUNK_SIZE + 1)
    parts = [data[:CHUNK_SIZE], data[CHUNK_SIZE:]]
    file = Chunked(root=merkle_root(parts), size_bytes=len(data), manifest=digest_of("manifest"))
    node = Node(FileLimits(keep_ms=24 * 3_600_000))
    await node.commit(DeviceData(payload=file))
    assert put(node.blobs, data) == file.chunks
    begun = node.blobs.begin_part(300, file.manifest)
    begun.write(0, blob(300))
    assert len(node.disk.sizes()) == 2
    async with asyncio.TaskGroup() as group:
        running = group.create_task(node.service.run())
        await asyncio.sleep(23 * 3_600)
        assert len(node.disk.sizes()) == 2
        await asyncio.sleep(2 * 3_600)
        running.cancel()

    assert node.disk.sizes() == {}
    assert node.blobs.held == (0, 0)


@simulated
async def test_what_is_beyond_a_share_is_counted_and_not_taken_in():
    node = Node(FileLimits(device_size_max=1))
    await node.send("one")

    assert node.blobs.files == {}
    assert "securenet_files_beyond_share_total 1.0" in node.metrics.render().decode()

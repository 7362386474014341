"""Pruning in the background: the operator's numbers decide, what rules look at is spared."""

import asyncio

import pytest

from node import pruner as pruner_module
from node.metrics import Metrics
from node.ports import WriteBatch
from node.pruner import Keep, Pruner, PruningPolicy
from node.storage import schema
from node.storage.leveldb import LevelDbStore
from tests.unit.node.storage.stored_chain import StoredChain, shrink_windows
from tests.unit.node.storage.test_verify import findings

HOUR_MS = 3_600_000
ALL = PruningPolicy(
    keep=dict.fromkeys(
        (schema.TELEMETRY, schema.VERDICTS, schema.REGISTRY, schema.RECEIPTS), Keep(blocks=1)
    )
)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    shrink_windows(monkeypatch)


async def aged(kv=None, *, blocks: int = 4) -> StoredChain:
    stored = StoredChain(kv)
    await stored.fill(blocks)
    for _ in range(8):
        await stored.commit(time_ms=stored.chain.next_time_ms + HOUR_MS)
    return stored


def pruner(stored: StoredChain, policy: PruningPolicy) -> Pruner:
    return Pruner(chain=stored.store, executor=stored.executor, policy=policy, metrics=Metrics())


async def test_nothing_is_pruned_unless_asked_for():
    stored = await aged()

    await pruner(stored, PruningPolicy()).run()

    assert stored.store.whole_from == 0


@pytest.mark.parametrize(
    ("keep", "first"),
    [
        (Keep(blocks=9), 6),
        (Keep(blocks=100), 0),
        (Keep(days=1), 0),
        (Keep(blocks=9, days=1), 0),
        (Keep(), 0),
    ],
)
async def test_what_is_kept_is_what_either_number_keeps(keep, first):
    stored = await aged()

    await pruner(stored, PruningPolicy(keep={schema.TELEMETRY: keep})).prune(0)

    assert stored.store.height == 14
    assert stored.store.first(schema.TELEMETRY) == first


async def test_days_count_from_the_last_block():
    stored = await aged()
    await stored.commit(time_ms=stored.chain.next_time_ms + 40 * HOUR_MS)
    for _ in range(6):
        await stored.commit(time_ms=stored.chain.next_time_ms + HOUR_MS)

    await pruner(stored, PruningPolicy(keep={schema.TELEMETRY: Keep(days=1)})).prune(0)

    assert stored.store.first(schema.TELEMETRY) == 15


async def test_what_rules_look_at_is_spared_whatever_is_asked_for():
    stored = await aged()
    spared = stored.store.spared_from()

    await pruner(stored, ALL).prune(0)

    assert [stored.store.first(what) for what in ALL.keep] == [spared] * 4
    assert stored.open().tip.header == stored.store.tip.header


async def test_receipts_of_what_is_kept_stay():
    stored = await aged()
    keep = {**ALL.keep, schema.REGISTRY: Keep()}

    await pruner(stored, PruningPolicy(keep=keep)).prune(0)

    assert stored.store.first(schema.TELEMETRY) == stored.store.spared_from()
    assert stored.store.first(schema.RECEIPTS) == 0


async def test_a_damaged_block_stops_pruning_and_not_the_node():
    stored = await aged()
    stored.kv.write(WriteBatch(writes={schema.BODY + schema.height_bytes(3): b"\x00"}))

    async with asyncio.timeout(5):
        await pruner(stored, ALL).run()

    assert stored.store.first(schema.TELEMETRY) == 0


async def test_it_goes_on_with_what_is_new(monkeypatch):
    monkeypatch.setattr(pruner_module, "PERIOD_S", 0.0)
    monkeypatch.setattr(pruner_module, "PAUSE_S", 0.0)
    stored = await aged()
    task = asyncio.create_task(pruner(stored, ALL).run())

    async with asyncio.timeout(5):
        for _ in range(3):
            await stored.commit(time_ms=stored.chain.next_time_ms + HOUR_MS)
            while stored.store.first(schema.RECEIPTS) < stored.store.spared_from():
                await asyncio.sleep(0)
    task.cancel()

    assert stored.store.first(schema.RECEIPTS) == stored.store.spared_from() > 7


async def test_the_disk_has_its_room_back(tmp_path):
    kv = LevelDbStore(tmp_path / "db")
    stored = StoredChain(kv)
    device, registration = stored.chain.registration("device", limits="100000:1")
    await stored.commit(registration)
    for _ in range(40):
        await stored.commit(*[stored.chain.by_device(device) for _ in range(60)])
    for _ in range(8):
        await stored.commit(time_ms=stored.chain.next_time_ms + HOUR_MS)
    kv.compact()
    before = size_of(tmp_path / "db")

    background = pruner(stored, ALL)
    await background.prune(0)
    await background.compact()

    after = size_of(tmp_path / "db")
    assert findings(kv, stored.chain.genesis) == []
    kv.close()
    assert after < before / 4, (before, after)


def size_of(directory) -> int:
    """Return the bytes of tables; a log holds what was written last, whatever it was."""
    return sum(file.stat().st_size for file in directory.iterdir() if file.suffix == ".ldb")

"""The simulated disk keeps what was synced, and forgets the rest as a real one may."""

import asyncio
from random import Random

import pytest

from node.errors import CorruptLog, DiskFull, StorageClosed, StorageFailed
from node.ports import WriteBatch
from tests.simulation.disk import UNSYNCED_BATCHES_MAX, PowerLost, SimulatedDisk, SimulatedExecutor

SEEDS = range(40)


def put(key: bytes, value: bytes = b"x") -> WriteBatch:
    return WriteBatch(writes={key: value})


def keys(disk: SimulatedDisk) -> list[bytes]:
    return [key for key, _ in disk.open_store().scan(start=b"", stop=b"\xff")]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_synced_survives_every_crash(seed: int):
    disk = SimulatedDisk(Random(seed))
    store, log = disk.open_store(), disk.open_log()
    for index in range(5):
        store.write(put(b"lost%d" % index), sync=False)
        store.write(put(b"kept%d" % index))
        log.append([b"%d" % index])

    disk.crash()

    assert {key for key in keys(disk) if key.startswith(b"kept")} == {
        b"kept%d" % index for index in range(5)
    }
    assert list(disk.open_log().records()) == [b"%d" % index for index in range(5)]


def test_each_batch_that_was_not_synced_may_be_lost_without_the_others():
    outcomes = set()
    for seed in SEEDS:
        disk = SimulatedDisk(Random(seed))
        store = disk.open_store()
        store.write(put(b"a"), sync=False)
        store.write(put(b"b"), sync=False)
        store.write(put(b"c"))
        disk.crash()
        outcomes.add(tuple(keys(disk)))

    assert outcomes == {(b"c",), (b"a", b"c"), (b"b", b"c"), (b"a", b"b", b"c")}


def test_batches_that_wait_for_the_disk_are_bounded():
    disk = SimulatedDisk(Random(1))
    store = disk.open_store()
    for index in range(UNSYNCED_BATCHES_MAX + 10):
        store.write(put(b"%03d" % index), sync=False)

    disk.crash()

    assert keys(disk)[:10] == [b"%03d" % index for index in range(10)]


def test_a_kill_of_the_process_loses_nothing_that_was_written():
    disk = SimulatedDisk(Random(1))
    disk.open_store().write(put(b"a"), sync=False)

    disk.kill()

    assert keys(disk) == [b"a"]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_store_shows_when_it_is_opened_is_durable(seed: int):
    disk = SimulatedDisk(Random(seed))
    disk.open_store().write(put(b"a"), sync=False)
    disk.kill()

    disk.open_store().write(put(b"b"))
    disk.crash()

    assert keys(disk) == [b"a", b"b"]


def test_a_crash_closes_what_is_open():
    disk = SimulatedDisk(Random(1))
    store, log = disk.open_store(), disk.open_log()

    disk.crash()

    with pytest.raises(StorageClosed):
        store.get(b"a")
    with pytest.raises(StorageClosed):
        log.append([b"a"])
    disk.open_store().close()
    disk.open_log().close()


def work(disk: SimulatedDisk) -> list[str]:
    """Write as a node does; return what was acknowledged before the power failed."""
    done = []
    try:
        log, store = disk.open_log(), disk.open_store()
        for index in range(4):
            log.append([b"vote %d" % index, b"x" * 900])
            done.append(f"vote {index}")
            store.write(put(b"block %d" % index))
            done.append(f"block {index}")
        log.rewrite([b"all"])
        done.append("rewritten")
    except PowerLost:
        pass
    return done


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_of_power_in_any_sync_keeps_all_that_was_acknowledged(seed: int):
    whole = SimulatedDisk(Random(seed))
    work(whole)

    for number in range(1, whole.syncs + 1):
        disk = SimulatedDisk(Random(seed))
        disk.lose_power_at = number
        done = work(disk)

        records = list(disk.open_log().records())
        if "rewritten" in done or records == [b"all"]:
            assert records == [b"all"]
            assert {"vote 3", "block 3"} <= set(done)
        else:
            votes = [record.decode() for record in records[::2]]
            acknowledged = [word for word in done if word.startswith("vote")]
            assert votes[: len(acknowledged)] == acknowledged
            assert len(votes) <= len(acknowledged) + 1
        blocks = [key.decode() for key in keys(disk)]
        acknowledged = [word for word in done if word.startswith("block")]
        assert blocks[: len(acknowledged)] == acknowledged
        assert len(blocks) <= len(acknowledged) + 1


def test_a_kill_in_any_sync_keeps_all_that_was_written():
    whole = SimulatedDisk(Random(1))
    work(whole)

    for number in range(1, whole.syncs + 1):
        disk = SimulatedDisk(Random(1))
        disk.kill_at = number
        done = work(disk)

        # A kill loses nothing, so that what a second one finds is what the first one found.
        found = list(disk.open_log().records()), keys(disk)
        disk.kill()
        assert (list(disk.open_log().records()), keys(disk)) == found
        assert len(found[1]) >= sum(word.startswith("block") for word in done)
        if "rewritten" in done:
            assert found[0] == [b"all"]


def test_a_log_that_was_being_replaced_when_the_process_was_killed_is_the_new_one():
    disk = SimulatedDisk(Random(1))
    log = disk.open_log()
    log.append([b"old"])
    disk.kill_at = disk.syncs + 2

    with pytest.raises(PowerLost):
        log.rewrite([b"new"])

    assert list(disk.open_log().records()) == [b"new"]


def test_one_seed_is_one_history():
    def history(seed: int) -> list[object]:
        disk = SimulatedDisk(Random(seed))
        disk.lose_power_at = 6
        return [work(disk), list(disk.open_log().records()), keys(disk), disk.syncs]

    assert all(history(seed) == history(seed) for seed in SEEDS)
    assert len({str(history(seed)) for seed in SEEDS}) > 1


@pytest.mark.parametrize(("fault", "error"), [("full", DiskFull), ("failing", StorageFailed)])
@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_fault_nothing_is_written_until_the_store_is_opened_again(
    fault: str, error: type[Exception], seed: int
):
    disk = SimulatedDisk(Random(seed))
    store, log = disk.open_store(), disk.open_log()
    store.write(put(b"a"))
    log.append([b"a"])

    setattr(disk, fault, True)
    with pytest.raises(error):
        store.write(put(b"b"))
    with pytest.raises(error):
        log.append([b"b"])
    setattr(disk, fault, False)

    with pytest.raises(StorageClosed):
        store.write(put(b"c"))
    with pytest.raises(StorageClosed):
        log.append([b"c"])
    assert store.get(b"a") == b"x"
    store.close()
    log.close()
    assert keys(disk) in ([b"a"], [b"a", b"b"])
    assert list(disk.open_log().records()) in ([b"a"], [b"a", b"b"])


def test_a_failing_disk_cannot_be_read():
    disk = SimulatedDisk(Random(1))
    store = disk.open_store()
    store.write(put(b"a"))
    entries = store.scan(start=b"", stop=b"b")

    disk.failing = True

    with pytest.raises(StorageFailed):
        store.get(b"a")
    with pytest.raises(StorageFailed):
        next(entries)
    with pytest.raises(StorageFailed):
        disk.open_log()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flipped_bit_of_a_log_is_refused(seed: int):
    disk = SimulatedDisk(Random(seed))
    log = disk.open_log()
    log.append([b"one", b"two"])
    log.close()

    disk.flip_bit()

    for _ in range(2):
        with pytest.raises(CorruptLog):
            disk.open_log()


async def test_a_slow_disk_takes_its_time_in_the_executor():
    disk = SimulatedDisk(Random(1))
    store = disk.open_store()
    disk.latency_ns = 30_000_000
    executor = SimulatedExecutor(disk)
    loop = asyncio.get_running_loop()
    begun = loop.time()

    await executor.run(store.write, put(b"a"))

    assert loop.time() - begun >= 0.03
    assert store.get(b"a") == b"x"

"""LevelDB: what it refuses to open, what damage it finds, and what a kill leaves."""

import random
import shutil
from pathlib import Path

import pytest

from node.errors import CorruptStore, StorageError, StorageFailed, StoreLocked
from node.ports import WriteBatch
from node.storage.leveldb import LevelDbStore
from tests.unit.node.storage.writers import acknowledged_before_kill, start, store_after

END = b"\xff"
BITS_PER_FILE = 25


def content(path: Path) -> dict[bytes, bytes]:
    store = LevelDbStore(path)
    try:
        found = dict(store.scan(start=b"", stop=END))
        assert dict(store.scan(start=b"", stop=END, reverse=True)) == found
        assert {key: store.get(key) for key in found} == found
        return found
    finally:
        store.close()


def fill(path: Path) -> list[dict[bytes, bytes]]:
    """Make a store with tables, a log and a manifest; return its content after each batch."""
    history: list[dict[bytes, bytes]] = [{}]
    store = LevelDbStore(path)
    for number in range(60):
        batch = WriteBatch()
        for part in range(8):
            batch.put(b"%03d/%d" % (number, part), random.randbytes(40))
        batch.delete(b"%03d/0" % (number - 5))
        store.write(batch)
        after = history[-1] | {key: value for key, value in batch.writes.items() if value}
        after.pop(b"%03d/0" % (number - 5), None)
        history.append(after)
        if number == 30:
            store.compact()
        if number == 45:
            store.close()
            store = LevelDbStore(path)
    store.close()
    return history


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path, list[dict[bytes, bytes]]]:
    """Return a store, where to put a copy of it to damage, and its history."""
    history = fill(tmp_path / "store")
    return tmp_path / "store", tmp_path / "copy", history


def copied(store: Path, copy: Path, name: str, image: bytes) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy)
    (copy / name).write_bytes(image)


def test_a_store_and_its_directories_are_made_where_they_are_missing(tmp_path: Path):
    path = tmp_path / "a" / "b" / "db"

    LevelDbStore(path).close()

    assert content(path) == {}


def test_a_flipped_bit_is_found_or_harmless(copies):
    store, copy, history = copies
    files = [file for file in store.iterdir() if file.name[-3:] in ("ldb", "log")]
    files += [file for file in store.iterdir() if file.name.startswith(("MANIFEST", "CURRENT"))]
    assert {file.name[:3] for file in files} >= {"MAN", "CUR"}
    assert {file.suffix for file in files} >= {".ldb", ".log"}
    refused = 0

    for file in files:
        image = file.read_bytes()
        for _ in range(BITS_PER_FILE):
            bit = random.randrange(8 * len(image))
            damaged = bytearray(image)
            damaged[bit // 8] ^= 1 << bit % 8
            copied(store, copy, file.name, bytes(damaged))
            try:
                assert content(copy) == history[-1], f"bit {bit} of {file.name}"
            except CorruptStore:
                refused += 1

    assert refused > BITS_PER_FILE


def test_a_flipped_bit_of_a_length_is_found_and_not_taken_for_a_torn_end(copies):
    store, copy, _ = copies
    (file,) = store.glob("*.log")
    image = file.read_bytes()
    length = int.from_bytes(image[4:6], "little")
    second = 7 + length

    for header in (0, second):
        for bit in range(16):
            damaged = bytearray(image)
            damaged[header + 4 + bit // 8] ^= 1 << bit % 8
            copied(store, copy, file.name, bytes(damaged))
            with pytest.raises(CorruptStore):
                content(copy)


def test_a_log_cut_anywhere_shows_the_store_after_some_batch(copies):
    store, copy, history = copies
    (file,) = store.glob("*.log")
    image = file.read_bytes()

    for size in sorted({*random.sample(range(len(image)), 25), 0, 1, 6, 7, 8, len(image) - 1}):
        copied(store, copy, file.name, image[:size])
        assert content(copy) in history


def test_a_table_cut_anywhere_is_damage_and_no_fault_of_the_disk(copies):
    store, copy, _ = copies
    for file in store.glob("*.ldb"):
        image = file.read_bytes()
        for size in (0, 1, 47, 48, len(image) // 3, len(image) // 2, len(image) - 1):
            copied(store, copy, file.name, image[:size])
            with pytest.raises(CorruptStore, match="restore this directory"):
                content(copy)


def test_a_store_that_lost_its_current_file_is_not_made_anew(copies):
    store, _, _ = copies
    (store / "CURRENT").unlink()

    with pytest.raises(CorruptStore, match=r"CURRENT is missing.*restore this directory"):
        LevelDbStore(store)

    assert not (store / "CURRENT").exists()


def test_a_store_that_lost_a_table_is_refused(copies):
    store, _, _ = copies
    next(store.glob("*.ldb")).unlink()

    with pytest.raises(CorruptStore):
        LevelDbStore(store)


def test_a_store_killed_while_it_was_made_is_made_again(tmp_path: Path):
    path = tmp_path / "db"
    LevelDbStore(path).close()
    for file in path.iterdir():
        if file.name != "MANIFEST-000001":
            file.unlink()
    (path / "MANIFEST-000001").write_bytes(b"")

    assert content(path) == {}


def test_a_store_refused_as_damaged_is_not_left_locked(copies):
    store, copy, history = copies
    (store / "CURRENT").rename(copy)
    with pytest.raises(CorruptStore):
        LevelDbStore(store)

    copy.rename(store / "CURRENT")

    assert content(store) == history[-1]


def test_a_file_in_the_place_of_the_store_is_refused(tmp_path: Path):
    (tmp_path / "db").touch()

    with pytest.raises(StorageFailed) as refusal:
        LevelDbStore(tmp_path / "db")

    assert refusal.value.path == tmp_path / "db"


def test_an_opened_store_is_refused_to_another_process(tmp_path: Path):
    path = tmp_path / "db"
    with start("store", path) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(StoreLocked, match="in use by process") as refusal:
            LevelDbStore(path)
        writer.kill()

    assert refusal.value.holder == writer.pid


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path):
    path = tmp_path / "db"

    with start("large store", path) as writer:
        assert writer.stdout is not None
        acknowledged = len(writer.stdout.readlines())

    assert writer.returncode == 0
    assert acknowledged > 10
    assert content(path) in (store_after(acknowledged), store_after(acknowledged + 1))


@pytest.mark.parametrize("attempt", range(5))
def test_a_kill_leaves_whole_batches_and_all_that_were_acknowledged(tmp_path: Path, attempt: int):
    path = tmp_path / "db"

    acknowledged = acknowledged_before_kill("store", path, after=random.randint(1, 150))

    assert content(path) in (store_after(acknowledged), store_after(acknowledged + 1))


@pytest.mark.parametrize("sync", [True, False])
def test_a_batch_is_synced_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
):
    # No kill shows the difference, only a loss of power.
    store = LevelDbStore(tmp_path / "db")
    asked: list[bool] = []

    class Spy:
        def __init__(self, database):
            self.database = database

        def write_batch(self, *, sync):
            asked.append(sync)
            return self.database.write_batch(sync=sync)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_database", Spy(store._database))
        store.write(WriteBatch(writes={b"a": b"1"}), sync=sync)

    assert asked == [sync]
    store.close()


def test_compacting_gives_the_room_of_deleted_entries_back(tmp_path: Path):
    path = tmp_path / "db"
    store = LevelDbStore(path)
    for number in range(40):
        batch = WriteBatch()
        batch.put(b"block/%03d" % number, random.randbytes(100_000))
        store.write(batch, sync=False)
    store.compact()
    before = store.approximate_size(start=b"block/", stop=b"block0")

    batch = WriteBatch()
    for number in range(35):
        batch.delete(b"block/%03d" % number)
    store.write(batch)
    store.compact(start=b"block/", stop=b"block0")

    assert before > 3_900_000
    assert store.approximate_size(start=b"block/", stop=b"block0") < 700_000
    store.close()
    assert sum(file.stat().st_size for file in path.iterdir()) < 1_000_000


def test_every_refusal_is_a_storage_error_that_names_the_store(copies):
    store, _, _ = copies
    (table, *_) = store.glob("*.ldb")
    table.write_bytes(b"")

    with pytest.raises(StorageError) as refusal:
        content(store)

    assert refusal.value.path == store

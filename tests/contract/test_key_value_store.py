"""What every :class:`node.ports.KeyValueStore` does."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain, combinations, product
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node.errors import StorageClosed, StoreLocked
from node.ports import KeyValueStore, WriteBatch
from node.storage.kv import MemoryStore
from node.storage.leveldb import LevelDbStore
from tests.simulation.disk import SimulatedDisk

END = b"\xff" * 8

Open = Callable[[], KeyValueStore]


def batch(**writes: bytes | None) -> WriteBatch:
    return WriteBatch(writes={key.encode(): value for key, value in writes.items()})


def powerset(keys: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    return chain.from_iterable(combinations(keys, size) for size in range(len(keys) + 1))


def everything(store: KeyValueStore) -> list[tuple[bytes, bytes]]:
    return list(store.scan(start=b"", stop=END))


@pytest.fixture(params=["leveldb", "simulated"])
def open_durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Return how to open one and the same store on disk."""
    opened: list[KeyValueStore] = []
    disk = SimulatedDisk(Random(1))

    def open_store() -> KeyValueStore:
        on_disk = request.param == "leveldb"
        store = LevelDbStore(tmp_path / "db") if on_disk else disk.open_store()
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture(params=["memory", "leveldb", "simulated"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyValueStore]:
    made: KeyValueStore
    match request.param:
        case "memory":
            made = MemoryStore()
        case "leveldb":
            made = LevelDbStore(tmp_path / "db")
        case _:
            made = SimulatedDisk(Random(1)).open_store()
    yield made
    made.close()


def test_what_was_written_is_read(store: KeyValueStore):
    store.write(batch(a=b"1", b=b""))

    assert store.get(b"a") == b"1"
    assert store.get(b"b") == b""
    assert store.get(b"c") is None


def test_a_batch_overwrites_and_deletes_and_may_delete_what_is_not_there(store: KeyValueStore):
    store.write(batch(a=b"1", b=b"2"))

    store.write(batch(a=b"3", b=None, c=None))

    assert everything(store) == [(b"a", b"3")]


def test_the_last_word_on_a_key_within_a_batch_holds(store: KeyValueStore):
    writes = WriteBatch()
    writes.put(b"a", b"1")
    writes.delete(b"a")
    writes.delete(b"b")
    writes.put(b"b", b"2")

    store.write(writes)

    assert everything(store) == [(b"b", b"2")]


def test_an_empty_batch_changes_nothing(store: KeyValueStore):
    store.write(WriteBatch())

    assert everything(store) == []


def test_a_batch_may_be_changed_by_its_owner_after_the_write(store: KeyValueStore):
    writes = batch(a=b"1")
    store.write(writes, sync=False)

    writes.put(b"b", b"2")

    assert everything(store) == [(b"a", b"1")]


def test_keys_are_ordered_as_bytes(store: KeyValueStore):
    keys = [b"", b"\x00", b"\x00\x00", b"\x7f", b"\x80", b"a", b"a\x00", b"b", b"\xfe\xff"]
    store.write(WriteBatch(writes=dict.fromkeys(reversed(keys), b"x")))

    assert [key for key, _ in everything(store)] == sorted(keys)
    assert [key for key, _ in store.scan(start=b"", stop=END, reverse=True)] == sorted(
        keys, reverse=True
    )


@pytest.mark.parametrize(
    ("start", "stop", "found"),
    [
        (b"b", b"d", [b"b", b"c"]),
        (b"b", b"c\x00", [b"b", b"c"]),
        (b"a\x00", b"c", [b"b"]),
        (b"b", b"b", []),
        (b"c", b"b", []),
        (b"", b"", []),
        (b"x", b"y", []),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_includes_its_start_and_excludes_its_stop(
    store: KeyValueStore, start: bytes, stop: bytes, found: list[bytes], reverse: bool
):
    store.write(batch(a=b"", b=b"", c=b"", d=b""))

    keys = [key for key, _ in store.scan(start=start, stop=stop, reverse=reverse)]

    assert keys == (found[::-1] if reverse else found)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_right_for_every_small_range(store: KeyValueStore, reverse: bool):
    bounds = [b"", b"a", b"b", b"c", b"d", b"e"]
    for keys in powerset([b"", b"b", b"c", b"d"]):
        writes = dict.fromkeys(bounds) | dict.fromkeys(keys, b"x")
        store.write(WriteBatch(writes=writes), sync=False)
        for start, stop in product(bounds, bounds):
            found = [key for key, _ in store.scan(start=start, stop=stop, reverse=reverse)]
            assert found == sorted((k for k in keys if start <= k < stop), reverse=reverse)


def test_a_scan_shows_the_store_as_it_was_when_it_began(store: KeyValueStore):
    store.write(batch(a=b"1", b=b"2", c=b"3"))
    untouched = store.scan(start=b"", stop=END)
    begun = store.scan(start=b"", stop=END)
    next(begun)

    store.write(batch(a=b"9", b=None, d=b"4"))

    assert list(untouched) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    assert list(begun) == [(b"b", b"2"), (b"c", b"3")]


def test_a_scan_may_be_left_in_the_middle(store: KeyValueStore):
    store.write(batch(a=b"1", b=b"2"))

    for _ in range(3):
        next(iter(store.scan(start=b"", stop=END)))

    store.write(batch(c=b"3"))
    assert store.get(b"c") == b"3"


def test_a_closed_store_refuses_everything(store: KeyValueStore):
    store.close()

    with pytest.raises(StorageClosed):
        store.get(b"a")
    with pytest.raises(StorageClosed):
        store.scan(start=b"", stop=END)
    with pytest.raises(StorageClosed):
        store.write(batch(a=b"1"))


def test_closing_twice_is_no_error(store: KeyValueStore):
    store.close()
    store.close()


def test_a_large_value_comes_back(store: KeyValueStore):
    value = bytes(range(256)) * 20_000

    store.write(batch(a=value))

    assert store.get(b"a") == value


def test_what_was_written_is_there_after_reopening(open_durable: Open):
    store = open_durable()
    store.write(batch(a=b"1", b=b"2"))
    store.write(batch(b=None, c=b"3"), sync=False)
    store.close()

    assert everything(open_durable()) == [(b"a", b"1"), (b"c", b"3")]


def test_a_store_is_opened_once_at_a_time(open_durable: Open):
    store = open_durable()

    # Twice, since a first refusal must not loosen the lock for a second try.
    for _ in range(2):
        with pytest.raises(StoreLocked):
            open_durable()

    store.write(batch(a=b"1"))
    store.close()
    assert open_durable().get(b"a") == b"1"


def test_a_scan_of_a_store_closed_meanwhile_is_an_error(open_durable: Open):
    store = open_durable()
    store.write(batch(a=b"1", b=b"2"))
    entries = store.scan(start=b"", stop=END)
    next(entries)

    store.close()

    with pytest.raises(StorageClosed):
        next(entries)


KEYS = st.binary(max_size=3) | st.sampled_from([b"a", b"b", b"c", b"ab", b"\xff\xff"])
WRITES = st.dictionaries(KEYS, st.none() | st.binary(max_size=40), max_size=6)


class StoreAgainstModel(RuleBasedStateMachine):
    """Whatever is done to a store, it answers as a dictionary does."""

    def open(self) -> KeyValueStore:
        raise NotImplementedError

    @initialize()
    def begin(self):
        self.model: dict[bytes, bytes] = {}
        self.scans: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []
        self.store = self.open()

    def expected(self, start: bytes, stop: bytes, reverse: bool) -> list[tuple[bytes, bytes]]:
        found = sorted(entry for entry in self.model.items() if start <= entry[0] < stop)
        return found[::-1] if reverse else found

    @rule(writes=WRITES, sync=st.booleans())
    def write(self, writes: dict[bytes, bytes | None], sync: bool):
        self.store.write(WriteBatch(writes=dict(writes)), sync=sync)
        for key, value in writes.items():
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value

    @rule(key=KEYS)
    def get(self, key: bytes):
        assert self.store.get(key) == self.model.get(key)

    @rule(start=KEYS, stop=KEYS, reverse=st.booleans())
    def scan(self, start: bytes, stop: bytes, reverse: bool):
        found = list(self.store.scan(start=start, stop=stop, reverse=reverse))
        assert found == self.expected(start, stop, reverse)

    @rule(start=KEYS, stop=KEYS, reverse=st.booleans())
    def begin_scan(self, start: bytes, stop: bytes, reverse: bool):
        entries = self.store.scan(start=start, stop=stop, reverse=reverse)
        self.scans.append((entries, self.expected(start, stop, reverse)))

    @rule()
    def finish_scans(self):
        for entries, expected in self.scans:
            assert list(entries) == expected
        self.scans.clear()

    @rule()
    def reopen(self):
        self.finish_scans()
        self.store.close()
        self.store = self.open()

    @invariant()
    def holds_the_model(self):
        assert everything(self.store) == self.expected(b"", END, False)

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


class LevelDbAgainstModel(StoreAgainstModel):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    def open(self) -> KeyValueStore:
        return LevelDbStore(self.folder / "db")

    @rule()
    def compact(self):
        assert isinstance(self.store, LevelDbStore)
        self.store.compact()

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.folder)


class SimulatedAgainstModel(StoreAgainstModel):
    def __init__(self):
        super().__init__()
        self.disk = SimulatedDisk(Random(1))

    def open(self) -> KeyValueStore:
        return self.disk.open_store()


TestLevelDbAgainstModel = LevelDbAgainstModel.TestCase
TestLevelDbAgainstModel.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
TestSimulatedAgainstModel = SimulatedAgainstModel.TestCase
TestSimulatedAgainstModel.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None
)

"""What every :class:`node.ports.Log` does."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from node.errors import LogFull, RecordTooLarge, StorageClosed, StoreLocked
from node.ports import Log
from node.random_source import SystemRandom
from node.storage import wal_format
from node.storage.wal import Wal
from tests.simulation.disk import PowerLost, SimulatedDisk, tear

Open = Callable[[], Log]


@pytest.fixture(params=["file", "simulated"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Return how to open one and the same log."""
    opened: list[Log] = []
    disk = SimulatedDisk(Random(1))

    def open_() -> Log:
        log: Log
        if request.param == "file":
            log = Wal(tmp_path / "log", random=SystemRandom())
        else:
            log = disk.open_log()
        opened.append(log)
        return log

    yield open_
    for log in opened:
        log.close()


def reopened(log: Log, open_log: Open) -> list[bytes]:
    log.close()
    return list(open_log().records())


def test_a_new_log_has_no_records(open_log: Open):
    assert list(open_log().records()) == []


def test_records_come_back_in_order(open_log: Open):
    log = open_log()
    log.append([b"one", b""])
    log.append([b"two"])

    assert reopened(log, open_log) == [b"one", b"", b"two"]


def test_records_are_those_found_at_opening(open_log: Open):
    log = open_log()
    log.append([b"one"])

    assert list(log.records()) == []


def test_appending_nothing_is_no_error(open_log: Open):
    log = open_log()
    log.append([])

    assert reopened(log, open_log) == []


def test_appending_goes_on_after_reopening(open_log: Open):
    log = open_log()
    log.append([b"one"])
    log.close()
    log = open_log()
    log.append([b"two"])

    assert reopened(log, open_log) == [b"one", b"two"]


def test_rewriting_replaces_everything_and_appending_goes_on(open_log: Open):
    log = open_log()
    log.append([b"one", b"two", b"three"])

    log.rewrite([b"three"])
    log.append([b"four"])

    assert reopened(log, open_log) == [b"three", b"four"]


def test_a_log_may_be_rewritten_to_nothing(open_log: Open):
    log = open_log()
    log.append([b"one"])
    log.rewrite([])

    assert reopened(log, open_log) == []


def test_a_record_above_its_bound_is_refused_and_the_log_goes_on(
    open_log: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wal_format, "RECORD_BYTES_MAX", 10)
    log = open_log()
    log.append([b"x" * 10])

    with pytest.raises(RecordTooLarge) as refusal:
        log.append([b"first", b"x" * 11])

    assert (refusal.value.size, refusal.value.limit) == (11, 10)
    log.append([b"last"])
    assert reopened(log, open_log) == [b"x" * 10, b"last"]


def test_an_append_above_its_bound_is_refused_and_the_log_goes_on(
    open_log: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wal_format, "APPEND_BYTES_MAX", 28)
    log = open_log()
    log.append([b"x" * 10] * 2)

    with pytest.raises(RecordTooLarge):
        log.append([b"x" * 10, b"x" * 11])

    assert reopened(log, open_log) == [b"x" * 10] * 2


def test_a_full_log_takes_records_again_once_it_is_rewritten(
    open_log: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wal_format, "LOG_BYTES_MAX", 200)
    log = open_log()
    log.append([b"x" * 50])
    log.append([b"y" * 40])

    with pytest.raises(LogFull):
        log.append([b"z"])
    with pytest.raises(LogFull):
        log.rewrite([b"z" * 200])

    log.rewrite([b"y"])
    log.append([b"z"])
    assert reopened(log, open_log) == [b"y", b"z"]


def test_a_rewrite_may_be_larger_than_an_append(open_log: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wal_format, "APPEND_BYTES_MAX", 100)
    log = open_log()
    records = [bytes([index]) * 40 for index in range(20)]

    log.rewrite(records)

    assert reopened(log, open_log) == records


def test_a_closed_log_refuses_writes(open_log: Open):
    log = open_log()
    log.close()
    log.close()

    with pytest.raises(StorageClosed):
        log.append([b"one"])
    with pytest.raises(StorageClosed):
        log.rewrite([])


def test_a_log_is_opened_once_at_a_time(open_log: Open):
    log = open_log()

    for _ in range(2):
        with pytest.raises(StoreLocked):
            open_log()

    log.rewrite([b"one"])
    with pytest.raises(StoreLocked):
        open_log()
    assert reopened(log, open_log) == [b"one"]


RECORDS = st.lists(
    st.binary(max_size=30) | st.integers(0, 1500).map(bytes) | st.just(wal_format.MARKER * 9),
    max_size=4,
)
CHANCE = st.integers(0, 2**32).map(Random)


class LogAgainstModel(RuleBasedStateMachine):
    """Whatever is done to a log, all appended is there after a crash, and at most one more."""

    def open(self) -> Log:
        raise NotImplementedError

    def crash_in_append(self, records: list[bytes], random: Random):
        raise NotImplementedError

    @initialize()
    def begin(self):
        self.model: list[bytes] = []
        self.log = self.open()

    @rule(records=RECORDS)
    def append(self, records: list[bytes]):
        self.log.append(records)
        self.model += records

    @rule(records=RECORDS)
    def rewrite(self, records: list[bytes]):
        self.log.rewrite(records)
        self.model = list(records)

    @rule()
    def reopen(self):
        self.log.close()
        self.log = self.open()
        assert list(self.log.records()) == self.model

    @rule(records=RECORDS.filter(bool), random=CHANCE)
    def append_and_crash(self, records: list[bytes], random: Random):
        self.crash_in_append(records, random)
        self.log = self.open()
        found = list(self.log.records())
        assert found in (self.model, self.model + records)
        self.model = found

    def teardown(self):
        if hasattr(self, "log"):
            self.log.close()


class FileAgainstModel(LogAgainstModel):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "log"

    def open(self) -> Log:
        return Wal(self.path, random=SystemRandom())

    def crash_in_append(self, records: list[bytes], random: Random):
        before = self.path.read_bytes()
        self.log.append(records)
        self.log.close()
        written = self.path.read_bytes()[len(before) :]
        self.path.write_bytes(before + tear(written, offset=len(before), random=random))

    @invariant()
    def nothing_is_left_beside_it(self):
        assert {path.name for path in self.folder.iterdir()} <= {"log", "log.lock"}

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.folder)


class SimulatedAgainstModel(LogAgainstModel):
    def __init__(self):
        super().__init__()
        self.disk = SimulatedDisk(Random(1))

    def open(self) -> Log:
        return self.disk.open_log()

    def crash_in_append(self, records: list[bytes], random: Random):
        self.disk.random = random
        self.disk.lose_power_at = self.disk.syncs + 1
        with pytest.raises(PowerLost):
            self.log.append(records)


TestFileAgainstModel = FileAgainstModel.TestCase
TestFileAgainstModel.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
TestSimulatedAgainstModel = SimulatedAgainstModel.TestCase
TestSimulatedAgainstModel.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None
)

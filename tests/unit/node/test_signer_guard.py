"""The guard of the log: it notes each signature, and tells a log that is an older copy."""

import shutil
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import DecodeError
from chain.types import HEIGHT_MAX, ROUND_MAX, Address, Digest, Height, Round
from consensus.durable import (
    Floor,
    LostMemory,
    Signed,
    WalRecord,
    decode_record,
    encode_record,
    recover,
)
from consensus.messages import Phase, Position, Prepare
from node.errors import StorageFailed
from node.signer_guard import GUARD_RECORDS_MAX, GuardedLog, decode_position, encode_position
from node.storage.wal import Wal
from tests.simulation.disk import SimulatedDisk
from tests.simulation.random_source import SeededRandom


def signed(height: int, round: int = 0) -> Signed:
    return Signed(
        message=Prepare(
            sender=Address(bytes(32)),
            height=Height(height),
            round=Round(round),
            digest=Digest(bytes(32)),
        )
    )


FRESH = Floor(height=Height(0))


class Home:
    """A log in one directory, its guard in another."""

    def __init__(self, path: Path) -> None:
        self.log = path / "data" / "log"
        self.guard = path / "elsewhere" / "guard"
        self.log.parent.mkdir()
        self.guard.parent.mkdir()

    def open(self) -> GuardedLog:
        random = SeededRandom(1)
        return GuardedLog(Wal(self.log, random=random), Wal(self.guard, random=random))

    def write(self, *records: WalRecord) -> None:
        with closing(self.open()) as log:
            for record in records:
                log.append([encode_record(record)])

    def read(self) -> list[WalRecord]:
        with closing(self.open()) as log:
            return [decode_record(record) for record in log.records()]

    def back_up(self) -> Path:
        copy = self.log.with_name("backup")
        shutil.copyfile(self.log, copy)
        return copy

    def restore(self, copy: Path) -> None:
        shutil.copyfile(copy, self.log)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_log_that_is_whole_is_shown_as_it_is(home: Home):
    home.write(FRESH, signed(1), signed(2))

    assert home.read() == home.read() == [FRESH, signed(1), signed(2)]


def test_an_older_copy_of_a_log_has_lost_its_memory_and_keeps_that(home: Home):
    home.write(FRESH, signed(1))
    copy = home.back_up()
    home.write(signed(1, 1), signed(3))
    home.restore(copy)

    assert home.read() == [FRESH, signed(1), LostMemory(height=Height(3))]
    assert home.read() == [FRESH, signed(1), LostMemory(height=Height(3))]
    assert recover(home.read()).floor is None


def test_a_copy_of_the_same_height_that_lacks_its_last_signature_is_older(home: Home):
    home.write(FRESH, signed(4))
    copy = home.back_up()
    home.write(signed(4, 1))
    home.restore(copy)

    assert home.read() == [FRESH, signed(4), LostMemory(height=Height(4))]


def test_a_log_that_is_gone_has_lost_its_memory(home: Home):
    home.write(FRESH, signed(7))
    home.log.unlink()

    assert home.read() == [LostMemory(height=Height(7))]


def test_an_older_copy_that_forgets_nothing_that_was_signed_is_none(home: Home):
    home.write(FRESH, signed(1))
    copy = home.back_up()
    home.write(Floor(height=Height(2)))
    home.restore(copy)

    assert home.read() == [FRESH, signed(1)]


def test_a_loss_of_memory_is_not_forgotten_either(home: Home):
    home.write(FRESH, signed(1))
    copy = home.back_up()
    home.write(LostMemory(height=Height(5)))
    home.restore(copy)

    assert home.read()[-1] == LostMemory(height=Height(5))


def test_once_the_floor_is_known_the_miner_signs_again(home: Home):
    home.write(FRESH, signed(1), LostMemory(height=Height(5)), Floor(height=Height(8)), signed(8))

    assert recover(home.read()).last == Position(Height(8), Round(0), Phase.PREPARE)


def test_a_log_that_was_rewritten_is_guarded_too(home: Home):
    home.write(FRESH)
    copy = home.back_up()
    with closing(home.open()) as log:
        log.rewrite([encode_record(record) for record in (Floor(height=Height(3)), signed(3))])
    home.restore(copy)

    assert home.read()[-1] == LostMemory(height=Height(3))


def test_a_guard_stays_small(home: Home):
    home.write(FRESH, signed(1))
    one = home.guard.stat().st_size
    with closing(home.open()) as log:
        for height in range(2, GUARD_RECORDS_MAX + 20):
            log.append([encode_record(signed(height))])

    assert home.guard.stat().st_size < one * 40
    assert recover(home.read()).last.height == GUARD_RECORDS_MAX + 19


def test_a_guard_holds_notes_and_nothing_else(home: Home):
    with closing(Wal(home.guard, random=SeededRandom(1))) as guard:
        guard.append([b"\x93\x01\x02\x04"])

    with ExitStack() as stack:
        log = stack.enter_context(closing(Wal(home.log, random=SeededRandom(1))))
        guard = stack.enter_context(closing(Wal(home.guard, random=SeededRandom(1))))
        with pytest.raises(DecodeError):
            GuardedLog(log, guard)


def test_a_guard_that_cannot_be_written_stops_the_miner_before_it_sends():
    disk, other = SimulatedDisk(Random(1)), SimulatedDisk(Random(2))
    log = GuardedLog(disk.open_log(), other.open_log())
    other.failing = True

    with pytest.raises(StorageFailed):
        log.append([encode_record(signed(1))])


@given(
    st.builds(
        Position,
        st.integers(0, HEIGHT_MAX),
        st.integers(0, ROUND_MAX),
        st.sampled_from(list(Phase)),
    )
)
def test_a_note_reads_back_as_it_was_written(position: Position):
    assert decode_position(encode_position(position)) == position

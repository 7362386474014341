"""The log on a real file: what reaches the disk, in which order, and what a kill leaves."""

import errno
import os
import random
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from node.errors import CorruptLog, DiskFull, StorageClosed, StorageFailed, StoreLocked
from node.random_source import SystemRandom
from node.storage.wal import Wal
from tests.unit.node.storage.writers import acknowledged_before_kill, log_after, records_of, start


def open_wal(path: Path) -> Wal:
    return Wal(path, random=SystemRandom())


def found_in(path: Path) -> list[bytes]:
    wal = open_wal(path)
    wal.close()
    return list(wal.records())


def failing(name: str, number: int, monkeypatch: pytest.MonkeyPatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)


def test_a_log_and_its_directories_are_made_where_they_are_missing(tmp_path: Path):
    path = tmp_path / "a" / "b" / "log"

    wal = open_wal(path)
    wal.append([b"one"])
    wal.close()

    assert found_in(path) == [b"one"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_torn_end_is_cut_off_with_a_log_line(tmp_path: Path):
    path = tmp_path / "log"
    wal = open_wal(path)
    wal.append([b"one"])
    size = path.stat().st_size
    wal.append([b"two" * 100])
    wal.close()
    os.truncate(path, size + 77)

    with capture_logs() as lines:
        wal = open_wal(path)

    assert list(wal.records()) == [b"one"]
    assert path.stat().st_size == size
    wal.append([b"three"])
    wal.close()
    assert found_in(path) == [b"one", b"three"]
    assert [
        (line["event"], line["log_level"], line["offset"], line["size_bytes"]) for line in lines
    ] == [("torn end of the log cut off", "warning", size, 77)]


def test_a_damaged_log_is_refused_and_left_as_it_is(tmp_path: Path):
    path = tmp_path / "log"
    wal = open_wal(path)
    wal.append([b"one"])
    wal.append([b"two"])
    wal.close()
    image = bytearray(path.read_bytes())
    image[70] ^= 1
    path.write_bytes(image)

    for _ in range(2):
        with pytest.raises(CorruptLog) as refusal:
            open_wal(path)
        assert refusal.value.path == path

    assert path.read_bytes() == image


@pytest.mark.parametrize(
    ("call", "number", "error"),
    [
        ("pwrite", errno.ENOSPC, DiskFull),
        ("pwrite", errno.EDQUOT, DiskFull),
        ("pwrite", errno.EIO, StorageFailed),
        ("fsync", errno.EIO, StorageFailed),
        ("fsync", errno.ENOSPC, DiskFull),
    ],
)
def test_after_a_failed_append_nothing_is_written_until_it_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[Exception]
):
    path = tmp_path / "log"
    wal = open_wal(path)
    wal.append([b"one"])

    with monkeypatch.context() as patch:
        failing(call, number, patch)
        with pytest.raises(error) as refusal:
            wal.append([b"two"])

    assert os.strerror(number) in str(refusal.value)
    with pytest.raises(StorageClosed):
        wal.append([b"three"])
    with pytest.raises(StorageClosed):
        wal.rewrite([])
    wal.close()
    assert found_in(path) in ([b"one"], [b"one", b"two"])


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_rewrite_that_fails_early_leaves_the_log_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    path = tmp_path / "log"
    wal = open_wal(path)
    wal.append([b"one"])

    with monkeypatch.context() as patch:
        failing(call, errno.ENOSPC, patch)
        with pytest.raises(DiskFull):
            wal.rewrite([b"two"])

    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log", "log.lock"]
    wal.append([b"three"])
    wal.close()
    assert found_in(path) == [b"one", b"three"]


def test_a_rewrite_that_fails_late_ends_the_use_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "log"
    wal = open_wal(path)
    wal.append([b"one"])

    with monkeypatch.context() as patch:
        failing("replace", errno.EIO, patch)
        with pytest.raises(StorageFailed):
            wal.rewrite([b"two"])

    with pytest.raises(StorageClosed):
        wal.append([b"three"])
    wal.close()
    assert found_in(path) == [b"one"]


def test_an_unfinished_rewrite_is_forgotten(tmp_path: Path):
    path = tmp_path / "log"
    wal = open_wal(path)
    wal.append([b"one"])
    wal.close()
    (tmp_path / "log.new").write_bytes(path.read_bytes()[:40])

    assert found_in(path) == [b"one"]
    assert not (tmp_path / "log.new").exists()


def test_every_append_is_synced_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    wal = open_wal(tmp_path / "log")

    def recorded(name, real):
        def record(*args):
            calls.append(name)
            return real(*args)

        return record

    for name in ("pwrite", "fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))

    wal.append([b"one", b"two"])
    wal.append([])
    assert calls == ["pwrite", "fsync"]

    calls.clear()
    wal.rewrite([b"three"])
    assert calls == ["pwrite", "fsync", "replace", "fsync"]
    wal.close()


def test_what_was_found_is_synced_before_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # After a kill it may have been in the cache alone; a node acts on what it is shown.
    path = tmp_path / "log"
    open_wal(path).close()
    synced: list[int] = []
    real = os.fsync

    def record(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    open_wal(path).close()

    assert {path.stat().st_ino, tmp_path.stat().st_ino} <= set(synced)


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "log"
    wal = open_wal(path)
    real = os.pwrite

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, bytes(data[:5]), offset))
        wal.append([b"one" * 20])

    wal.close()
    assert found_in(path) == [b"one" * 20]


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path):
    path = tmp_path / "log"

    with start("appending log", path) as writer:
        assert writer.stdout is not None
        acknowledged = len(writer.stdout.readlines())

    assert writer.returncode == 0
    assert acknowledged > 10
    assert found_in(path) == [
        record for operation in range(acknowledged) for record in records_of(operation)
    ]


def test_an_opened_log_is_refused_to_another_process(tmp_path: Path):
    path = tmp_path / "log"
    with start("log", path) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(StoreLocked) as refusal:
            open_wal(path)
        writer.kill()

    assert refusal.value.holder == writer.pid


@pytest.mark.parametrize("attempt", range(5))
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, attempt: int):
    path = tmp_path / "log"

    acknowledged = acknowledged_before_kill("log", path, after=random.randint(1, 150))

    assert found_in(path) in (log_after(acknowledged), log_after(acknowledged + 1))

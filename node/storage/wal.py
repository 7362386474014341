"""The write-ahead log on disk: :class:`node.ports.Log` over a file.

:mod:`node.storage.wal_format` knows the bytes; this module knows in which order they become
durable. docs/spec/durability.md
"""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from node.errors import StorageClosed
from node.ports import Random
from node.storage.files import FILE_MODE, storage_error, sync_directory
from node.storage.lock import FileLock
from node.storage.wal_format import (
    LOG_BYTES_MAX,
    SALT_SIZE,
    encode_frame,
    encode_log,
    recover,
)

log = structlog.get_logger(__name__)

_READ_BYTES: Final = 1 << 20


class Wal:
    """An append-only file of records.

    Opening reads the records, cuts off a torn last append with a log line, and makes durable what
    it found: after a kill, the last append may have been in the system's cache alone.

    Parameters
    ----------
    path : Path
        The log; made where it is missing. Beside it lie its lock ``<name>.lock`` and, while it is
        being rewritten, ``<name>.new``.
    random : Random
        Gives each file its salt, so that nobody can prepare a record that looks like a frame.

    Raises
    ------
    StoreLocked
        Another process has it open, or another part of this one.
    CorruptLog
        It is damaged, elsewhere than in a torn last append.
    DiskFull, StorageFailed
        The system refused.

    Notes
    -----
    Calls may come from several threads; they take turns.
    """

    def __init__(self, path: Path, *, random: Random) -> None:
        self._path = path
        self._new_path = path.with_name(path.name + ".new")
        self._random = random
        self._turn = threading.Lock()
        self._usable = True
        self._descriptor = -1
        self._salt = b""
        self._end = 0
        self._records: tuple[bytes, ...] = ()
        self._lock = FileLock(path.with_name(path.name + ".lock"), guards=path)
        try:
            self._new_path.unlink(missing_ok=True)
            if path.exists():
                self._open()
            else:
                self._replace([])
        except OSError as error:
            self._lock.release()
            raise storage_error(path, error) from error
        except BaseException:
            self._lock.release()
            raise

    def records(self) -> Sequence[bytes]:
        """Return the records found at opening, oldest first."""
        return self._records

    def append(self, records: Sequence[bytes]) -> None:
        """Append and fsync `records`; on return all of them are durable.

        Raises
        ------
        RecordTooLarge, LogFull
            Above a bound; nothing was written and the log goes on.
        DiskFull, StorageFailed
            The system refused. Every later write raises `StorageClosed` until the log is opened
            again: once fsync has failed, nothing is known of what reached the disk.
        """
        with self._turn:
            self._check_usable()
            if not records:
                return
            frame = encode_frame(records, salt=self._salt, offset=self._end, path=self._path)
            try:
                _write_all(self._descriptor, frame, offset=self._end)
                os.fsync(self._descriptor)
            except OSError as error:
                self._usable = False
                raise storage_error(self._path, error) from error
            self._end += len(frame)

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Replace the whole log by `records`, durably and atomically.

        Raises
        ------
        RecordTooLarge, LogFull
            Above a bound; the log stays as it was and goes on.
        DiskFull, StorageFailed
            The system refused: the log is as it was, or as it should be. Where that is not known,
            every later write raises `StorageClosed` until the log is opened again.
        """
        with self._turn:
            self._check_usable()
            old = self._descriptor
            self._replace(records)
            os.close(old)

    def close(self) -> None:
        """Release the file and its lock; further calls are errors."""
        with self._turn:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._usable = False
            self._lock.release()

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            recovery = recover(_read_all(descriptor), path=self._path)
            if recovery.torn is not None:
                log.warning(
                    "torn end of the log cut off",
                    path=str(self._path),
                    offset=recovery.end,
                    size_bytes=os.fstat(descriptor).st_size - recovery.end,
                    reason=recovery.torn,
                )
                os.ftruncate(descriptor, recovery.end)
            os.fsync(descriptor)
            sync_directory(self._path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._salt = recovery.salt
        self._end = recovery.end
        self._records = recovery.records

    def _replace(self, records: Sequence[bytes]) -> None:
        """Put a new file with `records` in the place of the log, and go on with it."""
        salt = self._random.bytes(SALT_SIZE)
        image = encode_log(records, salt=salt, path=self._path)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(self._new_path, flags, FILE_MODE)
        except OSError as error:
            raise storage_error(self._new_path, error) from error
        try:
            _write_all(descriptor, image, offset=0)
            os.fsync(descriptor)
        except OSError as error:
            os.close(descriptor)
            with suppress(OSError):
                self._new_path.unlink(missing_ok=True)
            raise storage_error(self._new_path, error) from error
        try:
            os.replace(self._new_path, self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            # Nobody knows which of the two files the name leads to.
            self._usable = False
            os.close(descriptor)
            raise storage_error(self._path, error) from error
        self._descriptor = descriptor
        self._salt = salt
        self._end = len(image)

    def _check_usable(self) -> None:
        if not self._usable:
            raise StorageClosed(self._path, "the log is closed, or an earlier write to it failed")


def remove_wal(path: Path) -> None:
    """Remove a log, and all that lies beside it."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _write_all(descriptor: int, content: bytes, *, offset: int) -> None:
    """Write all of `content`; the system may take it in pieces."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest = rest[written:]
        offset += written


def _read_all(descriptor: int) -> bytes:
    """Return the content of a file, and no more of it than shows that it is too large."""
    parts: list[bytes] = []
    offset = 0
    while offset <= LOG_BYTES_MAX and (part := os.pread(descriptor, _READ_BYTES, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)

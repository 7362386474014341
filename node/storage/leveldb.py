"""LevelDB behind :class:`node.ports.KeyValueStore`; the only module that knows plyvel.

LevelDB checks a checksum wherever it reads. This module adds what it leaves open: a lock that
holds, a database that is never silently made anew over the remains of an old one, no write after a
failed one, and errors in our words. docs/spec/durability.md
"""

import errno
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import plyvel

from node.errors import CorruptStore, DiskFull, StorageClosed, StorageError, StorageFailed
from node.ports import WriteBatch
from node.storage.files import NO_ROOM, make_directory, storage_error
from node.storage.leveldb_log import BLOCK_SIZE, damaged_length_at
from node.storage.lock import FileLock

WRITE_BUFFER_BYTES: Final = 32 << 20
"""Size of a memtable; LevelDB holds at most two. The ids of transactions are spread over all keys,
so that each memtable makes the first level be written anew: with 8 MiB, merging tables took a fifth
of a busy node's processor time after 200,000 transactions, and half of that with 32 MiB."""

BLOCK_CACHE_BYTES: Final = 8 << 20
OPEN_FILES_MAX: Final = 74
"""LevelDB's minimum. It maps every open table of 2 MiB into memory, and mapped pages count as
resident: this bounds them to 128 MiB."""

BLOOM_BITS_PER_KEY: Final = 10

_REMEDY: Final = (
    "restore this directory from a backup, or move it away and let the node fetch the chain from "
    "its peers; leave the keys and the consensus log where they are"
)
_LOG: Final = re.compile(r"\d+\.log|MANIFEST-\d+")
_CONTENT: Final = re.compile(r"\d+\.(ldb|sst|log)|MANIFEST-(?!000001$)\d+")
"""Files that exist only once a database has been made completely."""

_CUT_OFF: Final = re.compile(rf"\.(ldb|sst): {re.escape(os.strerror(errno.EINVAL))}$")
"""What LevelDB says of a table that ends before the place where it is to be read."""

_REFUSALS: Final = (plyvel.Error, RuntimeError)
"""What plyvel raises; ``RuntimeError`` where the database, or an iterator with it, is closed."""


class LevelDbStore:
    """An ordered map on disk.

    Parameters
    ----------
    path : Path
        The directory of the database; created where it is missing. The lock lies beside it, in
        ``<name>.lock``.

    Raises
    ------
    StoreLocked
        Another process has it open, or another part of this one.
    CorruptStore
        The database is damaged; the text says what to do.
    DiskFull, StorageFailed
        The system refused.

    Notes
    -----
    Calls may come from several threads. Each releases the interpreter's lock while LevelDB works.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False
        make_directory(path.parent)
        # LevelDB's own lock is lost as soon as the same process tries to open the database twice.
        self._lock = FileLock(path.with_name(path.name + ".lock"), guards=path)
        try:
            make_directory(path)
            _refuse_damage(path)
            self._database = plyvel.DB(
                os.fspath(path),
                create_if_missing=True,
                paranoid_checks=True,
                compression="snappy",
                bloom_filter_bits=BLOOM_BITS_PER_KEY,
                write_buffer_size=WRITE_BUFFER_BYTES,
                lru_cache_size=BLOCK_CACHE_BYTES,
                max_open_files=OPEN_FILES_MAX,
            )
        except plyvel.Error as error:
            self._lock.release()
            raise self._failure(error) from error
        except BaseException:
            self._lock.release()
            raise

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None where there is none.

        Raises
        ------
        CorruptStore, StorageFailed, StorageClosed
            It cannot be read.
        """
        try:
            value: bytes | None = self._database.get(key, verify_checksums=True)
        except _REFUSALS as error:
            raise self._failure(error) from error
        return value

    def scan(
        self, *, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate entries with ``start <= key < stop`` in key order, over a consistent view.

        The view is that of the call, whatever is written while the iteration lasts. It keeps old
        tables on disk until it is exhausted, closed or forgotten.

        Raises
        ------
        CorruptStore, StorageFailed, StorageClosed
            It cannot be read on; what was yielded before is right.
        """
        try:
            entries = self._database.iterator(
                # A start makes plyvel miss the entry at it when that is all a reverse range holds.
                start=None if reverse else start,
                stop=stop,
                reverse=reverse,
                verify_checksums=True,
                fill_cache=False,
            )
        except _REFUSALS as error:
            raise self._failure(error) from error
        return self._entries(entries, start)

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        """Apply `batch` atomically; with `sync`, return only once it is durable.

        Raises
        ------
        DiskFull, StorageFailed, CorruptStore
            It was not applied. Every later write raises `StorageClosed`, until the store is opened
            again: LevelDB would append to a log whose end it no longer knows.
        """
        if self._failed:
            raise StorageClosed(self._path, "an earlier write failed; open the store again")
        try:
            writes = self._database.write_batch(sync=sync)
            for key, value in batch.writes.items():
                if value is None:
                    writes.delete(key)
                else:
                    writes.put(key, value)
            writes.write()
        except _REFUSALS as error:
            self._failed = True
            raise self._failure(error) from error

    def compact(self, *, start: bytes | None = None, stop: bytes | None = None) -> None:
        """Give the room of deleted and overwritten entries back to the disk; takes a while.

        Parameters
        ----------
        start, stop : bytes, optional
            Limits to the entries with ``start <= key < stop``; everything by default.
        """
        try:
            self._database.compact_range(start=start, stop=stop)
        except _REFUSALS as error:
            raise self._failure(error) from error

    def approximate_size(self, *, start: bytes, stop: bytes) -> int:
        """Return about how many bytes of disk the entries with ``start <= key < stop`` take.

        What was written last, up to a memtable, is not counted.
        """
        try:
            size: int = self._database.approximate_size(start, stop)
        except _REFUSALS as error:
            raise self._failure(error) from error
        return size

    def close(self) -> None:
        """Release the store and its lock; further calls, also of scans, are errors."""
        self._database.close()
        self._lock.release()

    def _entries(self, entries: Any, start: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        with entries:
            try:
                for entry in entries:
                    if entry[0] < start:
                        return
                    yield entry
            except _REFUSALS as error:
                raise self._failure(error) from error

    def _failure(self, error: Exception) -> StorageError:
        if isinstance(error, RuntimeError):
            return StorageClosed(self._path, "the store is closed")
        text = _text(error)
        if isinstance(error, plyvel.CorruptionError) or _CUT_OFF.search(text):
            return CorruptStore(self._path, f"{text}; {_REMEDY}")
        # LevelDB hands the system's words on, not the number.
        if any(os.strerror(number) in text for number in NO_ROOM):
            return DiskFull(self._path, f"{text}; make room, then start again")
        return StorageFailed(self._path, text)


def _refuse_damage(path: Path) -> None:
    """Refuse damage which LevelDB would pass over.

    Without its ``CURRENT`` file it makes the database anew, empty; of a log or manifest with a
    damaged length it forgets the end.
    """
    try:
        names = sorted(os.listdir(path))
        content = [name for name in names if _CONTENT.fullmatch(name)]
        if content and "CURRENT" not in names:
            raise CorruptStore(path, f"CURRENT is missing beside {content[0]}; {_REMEDY}")
        for name in filter(_LOG.fullmatch, names):
            if damaged_length_at(_last_block(path / name)) is not None:
                raise CorruptStore(path, f"a length in {name} is damaged; {_REMEDY}")
    except OSError as error:
        raise storage_error(path, error) from error


def _last_block(path: Path) -> bytes:
    """Return a log's bytes from its last block boundary on."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(size - size % BLOCK_SIZE)
        return file.read()


def _text(error: Exception) -> str:
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)

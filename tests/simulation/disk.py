"""A disk that forgets what was not synced: a simulated store, log and executor.

A seed decides what a crash leaves. The log works on the bytes of the real one, so that a crash
exercises the real recovery; the store keeps or loses each batch that was not synced, on its own,
as LevelDB may. Faults are switched while the world runs.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final, TypeVar

from node.errors import DiskFull, StorageClosed, StorageFailed, StoreLocked
from node.ports import WriteBatch
from node.storage.kv import MemoryStore
from node.storage.wal_format import SALT_SIZE, SECTOR_SIZE, encode_frame, encode_log, recover

UNSYNCED_BATCHES_MAX: Final = 64
"""Batches that wait for the disk; beyond it the oldest becomes durable, as by a flush."""

_NS_PER_S: Final = 1_000_000_000

Result = TypeVar("Result")


class PowerLost(BaseException):
    """A sync does not return: the power fails, or the process is killed; no node catches it."""


def tear(written: bytes, *, offset: int, random: Random) -> bytes:
    """Return what an interrupted write of `written` at `offset` of a file may leave of it.

    Nothing, everything, the bytes before some point, or any of its sectors, the others being zero.
    """
    match random.randrange(4):
        case 0:
            return b""
        case 1:
            return written
        case 2:
            return written[: random.randrange(len(written) + 1)]
        case _:
            left = bytearray(written)
            start = 0
            while start < len(left):
                stop = min(len(left), start + SECTOR_SIZE - (offset + start) % SECTOR_SIZE)
                if random.randrange(2):
                    left[start:stop] = bytes(stop - start)
                start = stop
            return bytes(left)


class SimulatedDisk:
    """The disk of one simulated node.

    Parameters
    ----------
    random : random.Random
        Decides what survives a crash.

    Attributes
    ----------
    full : bool
        Writes raise `DiskFull`.
    failing : bool
        Reads and writes raise `StorageFailed`.
    latency_ns : int
        What a sync takes; `SimulatedExecutor` spends it.
    syncs : int
        Syncs begun so far, over all files.
    lose_power_at : int or None
        The sync in whose midst the power fails: the disk crashes and raises `PowerLost`.
    on_sync : callable
        Told the number of each sync that begins.
    kill_at : int or None
        The sync in whose midst the process is killed; what was written stays.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.full = False
        self.failing = False
        self.latency_ns = 0
        self.syncs = 0
        self.lose_power_at: int | None = None
        self.on_sync: Callable[[int], object] = lambda number: None
        self.kill_at: int | None = None
        self._delay_ns = 0
        self._stores: dict[str, _StoreFile] = {}
        self._logs: dict[str, _LogFile] = {}
        self.files = SimulatedFiles(self)

    def open_store(self, name: str = "store") -> "SimulatedStore":
        """Open the store `name`, made where it is missing."""
        return SimulatedStore(self, self._stores.setdefault(name, _StoreFile(name)))

    def open_log(self, name: str = "log") -> "SimulatedLog":
        """Open the log `name`, made where it is missing."""
        return SimulatedLog(self, self._logs.setdefault(name, _LogFile(name)))

    def crash(self) -> None:
        """Lose the power: what is open closes, what was not synced survives as chance has it."""
        for store in self._stores.values():
            store.crash(self.random)
        for log in self._logs.values():
            log.crash(self.random)
        self.files.crash(self.random)

    def kill(self) -> None:
        """End the process alone: what is open closes, and all that was written survives."""
        for file in (*self._stores.values(), *self._logs.values()):
            file.kill()

    def image(self) -> "SimulatedDisk":
        """Return a copy of what is durable now, as a backup of the whole disk holds it."""
        copy = SimulatedDisk(Random(self.random.getrandbits(64)))
        copy.latency_ns = self.latency_ns
        copy._stores = {name: store.image() for name, store in self._stores.items()}
        copy._logs = {name: log.image() for name, log in self._logs.items()}
        return copy

    def flip_bit(self, name: str = "log") -> None:
        """Damage one bit of the log `name`."""
        log = self._logs[name]
        image = bytearray(log.durable)
        bit = self.random.randrange(8 * len(image))
        image[bit // 8] ^= 1 << bit % 8
        log.durable = bytes(image)

    def take_delay_ns(self) -> int:
        """Return the time that the syncs since the last call take, and forget it."""
        delay_ns, self._delay_ns = self._delay_ns, 0
        return delay_ns

    def check_read(self, path: Path) -> None:
        """Raise what a read meets now."""
        if self.failing:
            raise StorageFailed(path, "simulated failure of the medium")

    def check_write(self, path: Path) -> None:
        """Raise what a write meets now."""
        self.check_read(path)
        if self.full:
            raise DiskFull(path, "simulated lack of room")

    def sync(self) -> None:
        """Begin a sync; what follows this call is durable, unless the power fails here."""
        self.syncs += 1
        self.on_sync(self.syncs)
        self._delay_ns += self.latency_ns
        if self.syncs == self.lose_power_at:
            self.lose_power_at = None
            self.crash()
            raise PowerLost
        if self.syncs == self.kill_at:
            self.kill_at = None
            self.kill()
            raise PowerLost


class SimulatedExecutor:
    """Runs functions at once and takes the time which the disk says they took.

    Parameters
    ----------
    disk : SimulatedDisk
        Whose delays are spent, on the event loop's simulated time.
    """

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk

    async def run(self, function: Callable[..., Result], *args: object) -> Result:
        """Return ``function(*args)``, or raise what it raised."""
        await asyncio.sleep(0)
        result = function(*args)
        if delay_ns := self._disk.take_delay_ns():
            await asyncio.sleep(delay_ns / _NS_PER_S)
        return result


class SimulatedStore:
    """A :class:`node.ports.KeyValueStore` on a simulated disk; made by `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, file: "_StoreFile") -> None:
        self._disk = disk
        self._file = file
        self._failed = False
        self._view = MemoryStore()
        file.check_free()
        disk.check_read(file.path)
        self._view.write(WriteBatch(writes=file.content()))
        # LevelDB moves what it finds in its log into a table that it syncs.
        file.keep_all()
        self._epoch = file.hold()

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None where there is none."""
        self._check_read()
        return self._view.get(key)

    def scan(
        self, *, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate entries with ``start <= key < stop`` in key order, over a consistent view."""
        self._check_read()
        return self._entries(self._view.scan(start=start, stop=stop, reverse=reverse))

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        """Apply `batch`; without `sync`, a crash may take it back."""
        self._file.check(self._epoch)
        if self._failed:
            raise StorageClosed(self._file.path, "an earlier write failed")
        try:
            self._disk.check_write(self._file.path)
        except StorageFailed:
            self._failed = True
            if self._disk.random.randrange(2):
                self._file.add(batch)
            raise
        self._file.add(batch)
        if sync:
            self._disk.sync()
            self._file.keep_last()
        self._view.write(batch)

    def compact(self, *, start: bytes, stop: bytes) -> None:
        """Read as a disk that fails would not let it; what is removed takes no room here."""
        self._check_read()

    def close(self) -> None:
        """Release the store; what was not synced waits for the disk as before."""
        self._file.release(self._epoch)

    def _check_read(self) -> None:
        self._file.check(self._epoch)
        self._disk.check_read(self._file.path)

    def _entries(self, entries: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for entry in entries:
            self._check_read()
            yield entry


class SimulatedLog:
    """A :class:`node.ports.Log` on a simulated disk; made by `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, file: "_LogFile") -> None:
        self._disk = disk
        self._file = file
        self._failed = False
        file.check_free()
        disk.check_read(file.path)
        image = file.durable + file.pending
        if not image:
            image = encode_log([], salt=self._new_salt(), path=file.path)
        recovery = recover(image, path=file.path)
        disk.sync()
        file.durable, file.pending = image[: recovery.end], b""
        self._salt = recovery.salt
        self._records = recovery.records
        self._epoch = file.hold()

    def records(self) -> Sequence[bytes]:
        """Return the records found at opening, oldest first."""
        return self._records

    def append(self, records: Sequence[bytes]) -> None:
        """Append and sync `records`; a crash meanwhile tears them."""
        self._check_usable()
        if not records:
            return
        file = self._file
        file.pending = encode_frame(
            records, salt=self._salt, offset=len(file.durable), path=file.path
        )
        try:
            self._disk.check_write(file.path)
        except StorageFailed:
            self._failed = True
            file.pending = tear(file.pending, offset=len(file.durable), random=self._disk.random)
            raise
        self._disk.sync()
        file.durable, file.pending = file.durable + file.pending, b""

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Replace the whole log; a crash meanwhile leaves the old one or the new one."""
        self._check_usable()
        salt = self._new_salt()
        image = encode_log(records, salt=salt, path=self._file.path)
        self._disk.check_write(self._file.path)
        self._disk.sync()
        self._file.replacement = image
        self._disk.sync()
        self._file.durable, self._file.replacement = image, None
        self._salt = salt

    def close(self) -> None:
        """Release the file and its lock."""
        self._file.release(self._epoch)

    def _new_salt(self) -> bytes:
        return self._disk.random.randbytes(SALT_SIZE)

    def _check_usable(self) -> None:
        self._file.check(self._epoch)
        if self._failed:
            raise StorageClosed(self._file.path, "an earlier write failed")


class _File:
    """A file's name, and who holds it; a crash begins a new epoch, which ends all that is open."""

    def __init__(self, name: str) -> None:
        self.path = Path("simulated") / name
        self.epoch = 0
        self.held = False

    def check_free(self) -> None:
        if self.held:
            raise StoreLocked(self.path)

    def hold(self) -> int:
        self.held = True
        return self.epoch

    def release(self, epoch: int) -> None:
        if epoch == self.epoch:
            self.epoch += 1
            self.held = False

    def kill(self) -> None:
        """End what has the file open; what it has written stays."""
        self.epoch += 1
        self.held = False

    def check(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise StorageClosed(self.path, "closed, or lost in a crash")


class _StoreFile(_File):
    """What of a store is durable, and the batches since the oldest that is not."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._durable: dict[bytes, bytes] = {}
        self._recent: list[tuple[WriteBatch, bool]] = []

    def image(self) -> "_StoreFile":
        """Return a copy of what is durable."""
        copy = _StoreFile(self.path.name)
        copy._durable = dict(self._durable)
        for batch, is_durable in self._recent:
            if is_durable:
                copy.add(batch)
                copy.keep_last()
        return copy

    def content(self) -> dict[bytes, bytes | None]:
        """Return what a process that reads through the system's cache sees."""
        content: dict[bytes, bytes | None] = dict(self._durable)
        for batch, _ in self._recent:
            content.update(batch.writes)
        return content

    def add(self, batch: WriteBatch) -> None:
        """Take a batch that is not durable yet."""
        self._recent.append((WriteBatch(writes=dict(batch.writes)), False))
        self._settle()

    def keep_last(self) -> None:
        """Make the last batch durable; earlier ones stay as they are."""
        self._recent[-1] = (self._recent[-1][0], True)
        self._settle()

    def keep_all(self) -> None:
        """Make everything durable."""
        self._recent = [(batch, True) for batch, _ in self._recent]
        self._settle()

    def crash(self, random: Random) -> None:
        """Lose each batch that is not durable, or keep it."""
        self._recent = [
            (batch, True) for batch, durable in self._recent if durable or random.randrange(2)
        ]
        self._settle()
        self.epoch += 1
        self.held = False

    def _settle(self) -> None:
        while self._recent and (self._recent[0][1] or len(self._recent) > UNSYNCED_BATCHES_MAX):
            for key, value in self._recent.pop(0)[0].writes.items():
                if value is None:
                    self._durable.pop(key, None)
                else:
                    self._durable[key] = value


class _LogFile(_File):
    """The bytes of a log that are durable, and those on their way to the disk."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.durable = b""
        self.pending = b""
        self.replacement: bytes | None = None

    def image(self) -> "_LogFile":
        """Return a copy of what is durable."""
        copy = _LogFile(self.path.name)
        copy.durable = self.durable
        return copy

    def kill(self) -> None:
        """Keep what was on its way; a log that was being replaced has been."""
        if self.replacement is not None:
            self.durable, self.replacement, self.pending = self.replacement, None, b""
        super().kill()

    def crash(self, random: Random) -> None:
        """Tear what was on its way."""
        if self.replacement is not None and random.randrange(2):
            self.durable = self.replacement
        self.replacement = None
        self.durable += tear(self.pending, offset=len(self.durable), random=random)
        self.pending = b""
        self.epoch += 1
        self.held = False


class SimulatedFiles:
    """A directory of files: what was not finished survives a crash as chance has it."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._contents: dict[str, bytearray] = {}
        self._unsynced: dict[str, bytes] = {}

    def sizes(self) -> dict[str, int]:
        self._check()
        return {name: len(content) for name, content in self._contents.items()}

    def read(self, name: str, offset: int, size: int) -> bytes:
        self._check()
        return bytes(self._contents.get(name, b"")[offset : offset + size])

    def write(self, name: str, offset: int, data: bytes) -> None:
        self._check()
        if self._disk.full:
            raise DiskFull(Path(name), "no room")
        content = self._contents.setdefault(name, bytearray())
        self._unsynced.setdefault(name, bytes(content))
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data

    def sync(self, name: str) -> None:
        self._check()
        self._unsynced.pop(name, None)

    def finish(self, name: str, new_name: str) -> None:
        self._check()
        self._unsynced.pop(name, None)
        self._contents[new_name] = self._contents.pop(name)

    def remove(self, name: str) -> None:
        self._check()
        self._contents.pop(name, None)
        self._unsynced.pop(name, None)

    def crash(self, random: Random) -> None:
        """Keep, lose or tear what was not synced."""
        for name, synced in self._unsynced.items():
            written = bytes(self._contents[name])
            torn = tear(written, offset=0, random=random).ljust(len(written), b"\0")
            self._contents[name] = bytearray(torn if random.randrange(2) else synced)
        self._unsynced.clear()

    def _check(self) -> None:
        if self._disk.failing:
            raise StorageFailed(Path("blobs"), "the disk fails")

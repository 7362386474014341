"""Processes that write until they are killed, and what they must leave behind.

``python -m tests.unit.node.storage.writers log PATH`` says the number of each operation on its
output once the operation has returned, that is: once it is durable.
"""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from node.errors import DiskFull, StorageClosed
from node.ports import WriteBatch
from node.random_source import SystemRandom
from node.storage import leveldb
from node.storage.leveldb import LevelDbStore
from node.storage.lock import HomeLock
from node.storage.wal import Wal

ROOT = Path(__file__).parents[4]
REWRITE_EVERY = 7
BATCHES_KEPT = 12
ENTRIES_PER_BATCH = 20


def records_of(operation: int) -> list[bytes]:
    """Return what operation `operation` appends, or replaces the log by."""
    return [b"%d/%d " % (operation, part) * (1 + operation % 90) for part in range(3)]


def is_rewrite(operation: int) -> bool:
    return operation % REWRITE_EVERY == REWRITE_EVERY - 1


def log_after(operations: int) -> list[bytes]:
    """Return the records of a log after so many operations."""
    records: list[bytes] = []
    for operation in range(operations):
        records = (
            records_of(operation) if is_rewrite(operation) else records + records_of(operation)
        )
    return records


def batch_of(operation: int) -> WriteBatch:
    """Return the batch of operation `operation`: it adds entries and removes old ones."""
    batch = WriteBatch()
    for part in range(ENTRIES_PER_BATCH):
        batch.put(b"%06d/%d" % (operation, part), b"%d" % operation * 100)
        batch.delete(b"%06d/%d" % (operation - BATCHES_KEPT, part))
    return batch


def store_after(operations: int) -> dict[bytes, bytes]:
    """Return the entries of a store after so many operations."""
    kept = range(max(0, operations - BATCHES_KEPT), operations)
    return {
        key: value
        for operation in kept
        for key, value in batch_of(operation).writes.items()
        if value is not None
    }


def start(kind: str, path: Path) -> subprocess.Popen[str]:
    """Start a writer."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.node.storage.writers", kind, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged_before_kill(kind: str, path: Path, *, after: int) -> int:
    """Kill a writer after `after` operations or a few more; return how many it acknowledged."""
    with start(kind, path) as writer:
        assert writer.stdout is not None
        acknowledged = 0
        for line in writer.stdout:
            acknowledged = int(line) + 1
            if acknowledged == after:
                writer.kill()
    return acknowledged


def operate(kind: str, path: Path) -> Iterator[None]:
    """Do one operation after the other."""
    match kind:
        case "log":
            log = Wal(path, random=SystemRandom())
            for operation in count():
                if is_rewrite(operation):
                    log.rewrite(records_of(operation))
                else:
                    log.append(records_of(operation))
                yield
        case "store":
            # Small, so that flushes and compactions are among what is interrupted.
            leveldb.WRITE_BUFFER_BYTES = 64 * 1024  # type: ignore[misc]
            store = LevelDbStore(path)
            for operation in count():
                store.write(batch_of(operation))
                yield
        case "appending log" | "large store":
            # A limit on the size of files stands for a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
            yield from fill(kind, path)
        case "lock":
            HomeLock(path)
            yield
            signal.pause()


def fill(kind: str, path: Path) -> Iterator[None]:
    """Write until there is no room, and see that nothing is written after that."""
    target = LevelDbStore(path) if kind == "large store" else Wal(path, random=SystemRandom())

    def write(operation: int) -> None:
        if isinstance(target, LevelDbStore):
            target.write(batch_of(operation))
        else:
            target.append(records_of(operation))

    for operation in count():
        try:
            write(operation)
        except DiskFull:
            try:
                write(operation)
            except StorageClosed:
                return
            raise
        yield


if __name__ == "__main__":
    for done, _ in enumerate(operate(sys.argv[1], Path(sys.argv[2]))):
        print(done, flush=True)

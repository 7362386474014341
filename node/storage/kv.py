"""Ordered maps of bytes: what every implementation shares, and the one in memory."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from node.errors import StorageClosed
from node.ports import KeyValueStore, WriteBatch

STEP_BYTES: Final = 2 * 1024 * 1024
"""Size of the batches in which much is written."""

_NOWHERE: Final = Path("memory")


def prefix_end(prefix: bytes) -> bytes:
    """Return the smallest key above every key that starts with `prefix`.

    ``scan(start=prefix, stop=prefix_end(prefix))`` finds exactly the keys with that prefix.

    Raises
    ------
    ValueError
        There is no such key: `prefix` is empty, or nothing but 0xff.
    """
    kept = prefix.rstrip(b"\xff")
    if not kept:
        raise ValueError(f"no key lies above all keys with the prefix {prefix.hex()!r}")
    return kept[:-1] + bytes([kept[-1] + 1])


def write_in_steps(store: KeyValueStore, writes: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Write much, in order, in several batches; a value of None deletes the key.

    All of it is durable on return. A crash leaves the first batches.
    """
    batch, size = WriteBatch(), 0
    for key, value in writes:
        batch.writes[key] = value
        size += len(key) + len(value or b"")
        if size >= STEP_BYTES:
            store.write(batch)
            batch, size = WriteBatch(), 0
    if batch.writes:
        store.write(batch)


class MemoryStore:
    """An ordered map in memory: a :class:`node.ports.KeyValueStore` that forgets at its end.

    It has no bound of its own; it holds what a test or a simulated node gives it.
    """

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._open = True

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None where there is none."""
        self._check_open()
        return self._values.get(key)

    def scan(
        self, *, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate entries with ``start <= key < stop`` in key order, as they are now."""
        self._check_open()
        keys = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, stop)]
        if reverse:
            keys.reverse()
        return iter([(key, self._values[key]) for key in keys])

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        """Apply `batch`; nothing here is durable, whatever `sync` says."""
        self._check_open()
        for key, value in batch.writes.items():
            if value is None:
                if self._values.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._values:
                    insort(self._keys, key)
                self._values[key] = value

    def compact(self, *, start: bytes, stop: bytes) -> None:
        """Do nothing: what is removed takes no room here."""
        self._check_open()

    def close(self) -> None:
        """Release the store; further calls are errors."""
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise StorageClosed(_NOWHERE, "the store is closed")

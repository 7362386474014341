"""Putting a chain that was put together from a snapshot in the place of the one before.

It happens when the database is opened, before anybody reads: in steps, behind a mark that stands
until the last of them, so that a crash at any instant is followed by the same steps again.
docs/spec/durability.md, section "Starting from a snapshot", is normative.
"""

from collections.abc import Iterator
from typing import Final

from chain.blocks import decode_header
from node.ports import KeyValueStore, WriteBatch
from node.storage import schema
from node.storage.kv import prefix_end, write_in_steps

SEGMENTS: Final = 16
"""Parts of the state that may be fetched at the same time; a power of two."""

TARGET_KEY: Final = schema.META + b"target"
"""Staged: the block that the chain will end with. Without it nothing staged means anything."""
CURSOR: Final = schema.META + b"cursor"
"""Staged, with the number of a segment behind it: the next path that is wanted; empty: none."""
LOWEST_KEY: Final = schema.META + b"lowest"
"""Staged: height of the lowest block of the look-back that is here."""


def adopt(store: KeyValueStore) -> None:
    """Put the chain that was put together in the place of the one in the database, if one is whole.

    Raises
    ------
    StorageError
        The medium refused; the next start goes on.
    """
    height = store.get(schema.ADOPT_KEY)
    if height is None:
        return
    write_in_steps(store, ((key, None) for key in _replaced(store)))
    write_in_steps(store, _arriving(store))
    # From here on the database is that of the new chain, and what is staged means nothing.
    batch = WriteBatch()
    batch.put(schema.TIP_KEY, height)
    batch.delete(schema.INCOMING + TARGET_KEY)
    batch.delete(schema.ADOPT_KEY)
    store.write(batch)


_OWN: Final = frozenset({TARGET_KEY, LOWEST_KEY} | {CURSOR + bytes([n]) for n in range(SEGMENTS)})
_STAYS: Final = {schema.INCOMING, schema.EVIDENCE}


def _replaced(store: KeyValueStore) -> Iterator[bytes]:
    """Yield the keys of the chain that goes: all but block 0, and what was found of miners."""
    genesis_hash = None
    header = store.get(schema.HEADER + schema.height_bytes(0))
    if header is not None:
        genesis_hash = decode_header(header).hash
    kept = {schema.GENESIS_KEY, schema.ADOPT_KEY, schema.HASH + (genesis_hash or b"")}
    kept |= {what + schema.height_bytes(0) for what in schema.BY_HEIGHT}
    for what in schema.CLASSES:
        if what not in _STAYS:
            for key, _ in store.scan(start=what, stop=prefix_end(what)):
                if key not in kept:
                    yield key


def _arriving(store: KeyValueStore) -> Iterator[tuple[bytes, bytes]]:
    start, stop = schema.INCOMING, prefix_end(schema.INCOMING)
    for key, value in store.scan(start=start, stop=stop):
        if key[1:] not in _OWN:
            yield key[1:], value

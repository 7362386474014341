"""The committed state entries in a key-value store, as `chain.state` reads them."""

from collections.abc import Iterator, Mapping
from heapq import merge

from node.ports import KeyValueStore
from node.storage import schema
from node.storage.kv import prefix_end


class StateSource:
    """The state entries of the store, as they are after the tip.

    While a block is being written, the values that it changes are held here, so that readers see
    the state of the tip and never one half of each.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._held: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a state key."""
        if self._held and key in self._held:
            return self._held[key]
        return self._store.get(schema.STATE + key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Iterate the entries under `prefix`, those behind `after`, in key order."""
        first, stop = (after + b"\x00" if after else prefix), prefix_end(schema.STATE + prefix)
        stored = (
            (key[1:], value)
            for key, value in self._store.scan(start=schema.STATE + first, stop=stop)
        )
        if not self._held:
            return stored
        held = self._held
        shown = {
            key: value
            for key, value in held.items()
            if value is not None and key.startswith(prefix) and key > after
        }
        others = (entry for entry in stored if entry[0] not in held)
        return merge(others, sorted(shown.items()))

    def hold(self, keys: Iterator[bytes]) -> None:
        """Keep the present values of `keys` in sight."""
        self._held = {key: self._store.get(schema.STATE + key) for key in keys}

    def release(self) -> None:
        """Show what the store holds again."""
        self._held = {}

    @property
    def held(self) -> Mapping[bytes, bytes | None]:
        """What is kept in sight: the entries that a block changes, as they were before it."""
        return self._held

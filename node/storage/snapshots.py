"""Snapshots: the whole state after a block, cut into pieces that prove themselves.

They lie in the node's own database, so that they are made, kept and dropped with its guarantees,
and survive a restart. A snapshot counts once its last entry says that it is whole.
"""

from collections.abc import Iterator

from chain.state_range import FIRST_PATH, STATE_PIECE, cut_state
from chain.types import Digest
from node.errors import CorruptStore, DamagedEntry
from node.ports import KeyValueStore, WriteBatch
from node.storage import schema
from node.storage.chain_store import StateView
from node.storage.kv import prefix_end, write_in_steps


class SnapshotStore:
    """The snapshots in a database; may be called from any thread, writes from one at a time.

    Parameters
    ----------
    keep : int
        So many snapshots are kept, the latest.
    """

    def __init__(self, store: KeyValueStore, *, keep: int) -> None:
        self._store = store
        self._keep = keep

    def heights(self) -> tuple[int, ...]:
        """Return the heights of whole snapshots, ascending."""
        return tuple([height for height, is_whole in self._found().items() if is_whole])

    def make(self, view: StateView) -> None:
        """Write a snapshot, and drop those that are too many; blocks for as long as it takes.

        Raises
        ------
        StorageError
            The medium refused.
        """
        height = view.header.height
        write_in_steps(self._store, self._pieces(height, view))
        whole = WriteBatch()
        whole.put(schema.snapshot_key(height), view.header.hash)
        self._store.write(whole)
        kept = self.heights()[-self._keep :]
        for old in self._found().keys() - set(kept):
            self._drop(old)

    def drop_above(self, height: int) -> None:
        """Drop the snapshots of blocks above `height`, which are taken back."""
        for above in self._found():
            if above > height:
                self._drop(above)

    def piece(self, height: int, path: Digest) -> bytes | None:
        """Return the piece of a whole snapshot in which a path lies, or None.

        Raises
        ------
        DamagedEntry
            It cannot be read.
        """
        start = schema.snapshot_key(height, FIRST_PATH)
        stop = schema.snapshot_key(height, path + b"\x00")
        try:
            if self._store.get(schema.snapshot_key(height)) is None:
                return None
            found = next(self._store.scan(start=start, stop=stop, reverse=True), None)
        except CorruptStore as error:
            raise DamagedEntry(
                error.path, entry=f"snapshot of block {height}", key=stop, cause=error.reason
            ) from error
        return None if found is None else found[1]

    def _pieces(self, height: int, view: StateView) -> Iterator[tuple[bytes, bytes | None]]:
        for piece in cut_state(view.tree, view.entries):
            yield schema.snapshot_key(height, piece.first), STATE_PIECE.encode(piece)

    def _found(self) -> dict[int, bool]:
        """Return the heights of which anything is there, and whether that is all of it."""
        found: dict[int, bool] = {}
        start, stop = schema.SNAPSHOT, prefix_end(schema.SNAPSHOT)
        while (entry := next(self._store.scan(start=start, stop=stop), None)) is not None:
            height = schema.read_height(entry[0][1 : 1 + schema.HEIGHT_SIZE])
            found[height] = entry[0] == schema.snapshot_key(height)
            start = schema.snapshot_key(height + 1)
        return found

    def _drop(self, height: int) -> None:
        # What says that it is whole goes first.
        start, stop = schema.snapshot_key(height), schema.snapshot_key(height + 1)
        keys = [key for key, _ in self._store.scan(start=start, stop=stop)]
        write_in_steps(self._store, ((key, None) for key in keys))

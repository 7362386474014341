"""Checking the snapshots and waypoints in a database: each proves itself, or shows its damage."""

from collections.abc import Iterator

from chain.blocks import Header, decode_header
from chain.errors import DecodeError, InvalidCertificate, InvalidProof
from chain.light_client import verify_header
from chain.state_range import FIRST_PATH, LAST_PATH, decode_piece, next_path
from chain.types import Digest
from node.past import decode_decided, unpack_decided
from node.ports import KeyValueStore
from node.storage import schema
from node.storage.kv import prefix_end
from node.storage.snapshots import SnapshotStore


def check_snapshots(store: KeyValueStore) -> Iterator[tuple[str, str]]:
    """Yield where something is wrong with snapshots and waypoints, and what."""
    whole = set(SnapshotStore(store, keep=1).heights())
    for height in sorted(whole):
        yield from _check_snapshot(store, height)
    for key, _ in store.scan(start=schema.SNAPSHOT, stop=prefix_end(schema.SNAPSHOT)):
        # One that was being made, or dropped, is no damage where its block is there.
        height = schema.read_height(key[1 : 1 + schema.HEIGHT_SIZE])
        if height not in whole and _header(store, height) is None:
            yield f"entry {key.hex()}", "a snapshot of no block that is here"
    for key, value in store.scan(start=schema.WAYPOINT, stop=prefix_end(schema.WAYPOINT)):
        height = schema.read_height(key[1:])
        try:
            decided = unpack_decided(decode_decided(value))
            verify_header(decided.header, decided.certificate, decided.miners)
        except (DecodeError, InvalidCertificate) as error:
            yield f"waypoint {height}", str(error)
            continue
        header = decided.header
        if header.height != height or decided.miners.hash != header.miner_set_hash:
            yield f"waypoint {height}", "another block or other miners"


def _check_snapshot(store: KeyValueStore, height: int) -> Iterator[tuple[str, str]]:
    where = f"snapshot {height}"
    header = _header(store, height)
    if header is None:
        yield where, "of no block that is here"
        return
    if store.get(schema.snapshot_key(height)) != header.hash:
        yield where, "of another block"
    wanted: Digest | None = FIRST_PATH
    start, stop = schema.snapshot_key(height, FIRST_PATH), schema.snapshot_key(height + 1)
    for key, data in store.scan(start=start, stop=stop):
        try:
            piece = decode_piece(data)
            piece.verify(header.state_root)
        except (DecodeError, InvalidProof) as error:
            yield where, f"piece {key[9:].hex()}: {error}"
            return
        if piece.first != key[1 + schema.HEIGHT_SIZE :] or piece.first != wanted:
            yield where, f"piece {key[9:].hex()} does not follow"
            return
        wanted = None if piece.last == LAST_PATH else next_path(piece.last)
    if wanted is not None:
        yield where, f"the piece from {wanted.hex()} on is missing"


def _header(store: KeyValueStore, height: int) -> Header | None:
    """Return a header, where it is there and sound; damage of it is told elsewhere."""
    data = store.get(schema.HEADER + schema.height_bytes(height))
    try:
        return None if data is None else decode_header(data)
    except DecodeError:
        return None

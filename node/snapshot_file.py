"""A snapshot in a file: what a node takes from its peers to join, in the order in which it does.

::

    magic, 8 bytes ‖ frames ‖ 4 bytes of zero ‖ SHA-256 over all before
    frame = size: u32, big-endian ‖ letter ‖ payload

``d`` is the block that the snapshot is of, with its certificate and miners, the first and alone;
each ``p`` a piece of the state; each ``b`` a block of the look-back, from the snapshot's downwards.
Nothing in it is believed: all of it proves itself under the hash that the operator trusts. The sum
at the end only tells damage before anything is written. docs/spec/durability.md, section "A
snapshot in a file".
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from chain.errors import DecodeError, InvalidCertificate, InvalidProof, WrongChain
from chain.genesis import Genesis
from chain.light_client import verify_header
from chain.lookback import Reach
from chain.schema import Record
from chain.state import parameters_of
from chain.state_range import PIECE_SIZE_MAX, STATE_PIECE, cut_state, decode_piece
from chain.types import Digest
from node.errors import BadArchive
from node.files import new_file
from node.light_walk import Decided
from node.past import (
    DECIDED,
    PAST_BLOCK,
    PAST_BLOCK_SIZE_MAX,
    decode_decided,
    decode_past_block,
    pack_decided,
    unpack_decided,
)
from node.ports import KeyValueStore
from node.storage.chain_store import ChainStore
from node.storage.files import storage_error
from node.storage.staging import Staging

MAGIC: Final = b"SNSNAP\x00\x01"
FRAME_SIZE_MAX: Final = max(PIECE_SIZE_MAX, PAST_BLOCK_SIZE_MAX) + 1

_SIZE: Final = 4
_SUM: Final = 32


def write_snapshot(chain: ChainStore, path: Path) -> int:
    """Write a snapshot of the last block to a new file, and return its size in bytes.

    The file is there whole or not at all.

    Raises
    ------
    FileTaken
        It exists already.
    Pruned, StorageError
        A block that rules look back at is not here, or the disk refused.
    """
    with new_file(path) as file:
        return _write(file, chain)


def check_snapshot(path: Path, *, genesis: Genesis, trusted: Digest) -> int:
    """Check that a file is whole, and of the block that is trusted; return its height.

    Raises
    ------
    BadArchive
        It is damaged, of another version, or of another block.
    WrongChain
        It is of another chain.
    """
    frames = _frames(path)
    decided = _trusted(next(frames)[1], path, genesis, trusted)
    for _ in frames:
        pass
    return decided.header.height


def restore_snapshot(
    path: Path, store: KeyValueStore, genesis: Genesis, *, trusted: Digest
) -> None:
    """Put the chain of a file that `check_snapshot` has passed into an empty database.

    It is adopted when the database is opened next. What was staged before is thrown away.

    Raises
    ------
    BadArchive, WrongChain
        A part of it does not prove itself; the database is as it was.
    StorageError
        The disk refused.
    """
    frames = _frames(path)
    # Checked once more: the file may be another than a moment ago.
    target = _trusted(next(frames)[1], path, genesis, trusted)
    staging = Staging(store, genesis)
    staging.begin(target)
    try:
        for letter, payload in frames:
            if letter == b"p":
                staging.add_piece(decode_piece(payload))
            elif not staging.has_state:
                raise InvalidProof("a part of the state is missing")
            else:
                staging.add_blocks([decode_past_block(payload)])
        if not (staging.has_state and staging.has_lookback):
            raise InvalidProof("a part of it is missing")
    except BadArchive:
        staging.clear()
        raise
    except (DecodeError, InvalidProof, InvalidCertificate) as error:
        staging.clear()
        raise BadArchive(path, str(error)) from error
    staging.finish()


def _trusted(payload: bytes, path: Path, genesis: Genesis, trusted: Digest) -> Decided:
    """Return the block that a file is of; raises as `check_snapshot`."""
    try:
        decided = unpack_decided(decode_decided(payload))
        if decided.header.genesis_hash != genesis.hash:
            raise WrongChain(f"{path} is a snapshot of another chain")
        if decided.header.hash != trusted:
            raise BadArchive(path, f"it is of block {decided.header.hash.hex()}")
        if decided.miners.hash != decided.header.miner_set_hash:
            raise BadArchive(path, "other miners decided its block")
        verify_header(decided.header, decided.certificate, decided.miners)
    except (DecodeError, InvalidCertificate) as error:
        raise BadArchive(path, str(error)) from error
    return decided


def _write(file: BinaryIO, chain: ChainStore) -> int:
    total = hashlib.sha256()
    size = 0
    for data in _parts(chain):
        file.write(data)
        total.update(data)
        size += len(data)
    file.write(total.digest())
    return size + _SUM


def _parts(chain: ChainStore) -> Iterator[bytes]:
    yield MAGIC
    view = chain.view()
    decided = chain.decided_from(view.header.height)
    if decided is None:
        raise BadArchive(Path("snapshot"), "there is no block yet to make one of")
    yield _frame(b"d", DECIDED, pack_decided(decided))
    for piece in cut_state(view.tree, view.entries):
        yield _frame(b"p", STATE_PIECE, piece)
    reach = Reach.of(view.header, parameters_of(chain.state))
    for height in range(view.header.height, 0, -1):
        past = chain.past_block(height)
        assert past is not None, "a committed block is here, or pruned"
        yield _frame(b"b", PAST_BLOCK, past)
        header = chain.header(height)
        assert header is not None, "its block is here"
        if not reach.contains(header):
            break
    yield bytes(_SIZE)


def _frame(letter: bytes, record: Record[Any], value: object) -> bytes:
    payload = letter + record.encode(value)
    return len(payload).to_bytes(_SIZE, "big") + payload


def _frames(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield letter and payload of each frame, one ``d`` first; the sum is checked behind the last.

    There is at least one.
    """
    try:
        with path.open("rb") as file:
            yield from _read(file, path)
    except OSError as error:
        raise storage_error(path, error) from error


def _read(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, bytes]]:
    total = hashlib.sha256()

    def take(size: int) -> bytes:
        data = file.read(size)
        if len(data) < size:
            raise BadArchive(path, "it ends too early")
        total.update(data)
        return data

    if take(len(MAGIC)) != MAGIC:
        raise BadArchive(path, "no snapshot of a version that this program knows")
    is_begun = False
    while size := int.from_bytes(take(_SIZE), "big"):
        if size > FRAME_SIZE_MAX:
            raise BadArchive(path, f"a frame of {size} bytes")
        payload = take(size)
        if payload[:1] not in (b"d", b"p", b"b"):
            raise BadArchive(path, "a frame of no known kind")
        # A second block would be one that nobody trusts, and what follows would prove itself by it.
        if (payload[:1] == b"d") == is_begun:
            raise BadArchive(path, "it does not begin with the one block that it is of")
        is_begun = True
        yield payload[:1], payload[1:]
    if not is_begun:
        raise BadArchive(path, "it is empty")
    if file.read(_SUM + 1) != total.digest():
        raise BadArchive(path, "its checksum is wrong")

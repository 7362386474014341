"""Every key of a node's database and what stands under it.

A key is one letter for the class of data, then its parts in big-endian order, so that a scan
meets heights in ascending order. docs/spec/durability.md, section "Database", is normative.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import iter_unpack
from typing import Any, Final

from chain import codec
from chain.blocks import (
    BLOCK_RECEIPT,
    BLOCK_SIZE_MAX,
    BLOCK_TRANSACTIONS_MAX,
    RECEIPT,
    BlockReceipt,
    Receipt,
)
from chain.errors import DecodeError
from chain.fields import DIGEST, TIME_MS
from chain.lookback import BlockSummary
from chain.schema import Blob, Integer, ListOf, Optional, Record
from chain.transactions import TRANSACTION_SIZE_MAX, full_digest
from chain.types import DIGEST_SIZE, Address, Digest

META: Final = b"m"
"""``m genesis``: the canonical genesis; ``m tip``: height of the last committed block; ``m first
class``: lowest height for which a class is kept, block 0 apart, where that is not every height."""
HEADER: Final = b"h"
"""``h height`` → header."""
BODY: Final = b"b"
"""``b height`` → array of the transactions' bytes."""
REMAINS: Final = b"k"
"""``k height`` → what is kept of a body of which a part was pruned, in the place of the body."""
CERTIFICATE: Final = b"c"
"""``c height`` → commit certificate."""
RECEIPTS: Final = b"r"
"""``r height`` → array of receipts, the last of them that of the block."""
SUMMARY: Final = b"l"
"""``l height`` → what the block adds to the look-back."""
MINERS: Final = b"n"
"""``n miner-set-hash`` → the members of a set that decides, or has decided, heights."""
HASH: Final = b"x"
"""``x block-hash`` → height."""
TRANSACTION: Final = b"t"
"""``t transaction-id`` → height, index."""
SENDER: Final = b"a"
"""``a sender height index`` → transaction id."""
VERDICT: Final = b"v"
"""``v height index`` → id of a verdict transaction."""
FILE: Final = b"d"
"""``d height index`` → id of a transaction that names a file in chunks."""
STATE: Final = b"s"
"""``s state-key`` → state value."""
UNDO: Final = b"u"
"""``u height`` → the state entries that the block changed, as they were before it."""
PROPOSED: Final = b"p"
"""``p block-hash`` → a block that was proposed and may yet be committed."""
EVIDENCE: Final = b"e"
"""``e miner`` → the first contradiction of a miner found here that the chain has not settled."""

SNAPSHOT: Final = b"z"
"""``z height first-path`` → a piece of the state after that block; ``z height`` → the block's hash,
once all pieces are there."""
WAYPOINT: Final = b"w"
"""``w height`` → a header below those that are kept, with what proves it: the last that its miners
decided, on the way of certificates from genesis to here."""
INCOMING: Final = b"i"
"""``i key`` → an entry of a chain that is being put together from a snapshot, and where it stands:
``i m target``, ``i m cursor segment``, ``i m lowest``."""

GENESIS_KEY: Final = META + b"genesis"
TIP_KEY: Final = META + b"tip"
FIRST: Final = META + b"first "
ADOPT_KEY: Final = META + b"adopt"
"""Stands while a chain that was put together takes the place of the one before; its height."""

CLASSES: Final = {
    META: "meta",
    HEADER: "header",
    BODY: "body",
    REMAINS: "rest of the body",
    CERTIFICATE: "certificate",
    RECEIPTS: "receipts",
    SUMMARY: "summary",
    MINERS: "miner set",
    HASH: "block hash",
    TRANSACTION: "transaction index",
    SENDER: "sender index",
    VERDICT: "verdict index",
    FILE: "file index",
    STATE: "state",
    UNDO: "undo",
    PROPOSED: "proposed block",
    SNAPSHOT: "snapshot",
    WAYPOINT: "waypoint",
    INCOMING: "incoming",
    EVIDENCE: "evidence",
}

BY_HEIGHT: Final = (HEADER, BODY, REMAINS, CERTIFICATE, RECEIPTS, SUMMARY, UNDO)
"""The classes with an entry for a block under its height."""

TELEMETRY: Final = b"telemetry"
VERDICTS: Final = b"verdicts"
REGISTRY: Final = b"registry"
"""Classes of transactions with their indexes, to keep from different heights on. A letter names a
class of entries; these are named by words."""

KEPT_APART: Final = {
    "headers": HEADER,
    "certificates": CERTIFICATE,
    "bodies": BODY,
    "receipts": RECEIPTS,
    "telemetry": TELEMETRY,
    "verdicts": VERDICTS,
    "registry": REGISTRY,
}
"""What may be kept from different heights on, by the name that people read."""

HEIGHT_SIZE: Final = 8
PLACE_SIZE: Final = HEIGHT_SIZE + 4

_PAIR: Final = b"\x92"
"""The head of an array of two."""
_REMAINING: Final = ListOf(Optional(Blob(1, TRANSACTION_SIZE_MAX)), BLOCK_TRANSACTIONS_MAX)
_WIRES: Final = ListOf(Blob(1, TRANSACTION_SIZE_MAX), BLOCK_TRANSACTIONS_MAX)
_RECEIPTS: Final = ListOf(RECEIPT, BLOCK_TRANSACTIONS_MAX)
_RECEIPTS_SIZE_MAX: Final = 512 * 1024 * 1024
_RECEIPTS_VALUES_MAX: Final = 2**24
"""More than any block's: one may decide 256 blocks, and quarantine every device in each of them."""
STATE_SIZE_MAX: Final = 8 * 1024 * 1024
"""More than any key or value of the state has bytes."""
_SUBJECTS_MAX: Final = 3 * BLOCK_TRANSACTIONS_MAX
"""Each transaction may be charged to a device, an organisation and a gateway of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Summary:
    """A `BlockSummary` as it is stored: ids and addresses stand one behind the other."""

    time_ms: int
    ids: bytes
    subjects: bytes
    counts: tuple[int, ...]
    flows: bytes
    judged: Digest | None


_SUMMARY: Final = Record(
    _Summary,
    time_ms=TIME_MS,
    ids=Blob(0, DIGEST_SIZE * BLOCK_TRANSACTIONS_MAX),
    subjects=Blob(0, DIGEST_SIZE * _SUBJECTS_MAX),
    counts=ListOf(Integer(1, BLOCK_TRANSACTIONS_MAX), _SUBJECTS_MAX),
    flows=Blob(0, DIGEST_SIZE * BLOCK_TRANSACTIONS_MAX),
    judged=Optional(DIGEST),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """A state entry before a block; None where there was none."""

    key: bytes
    value: bytes | None


_UNDO: Final = ListOf(
    Record(_Before, key=Blob(1, STATE_SIZE_MAX), value=Optional(Blob(0, STATE_SIZE_MAX))),
    _RECEIPTS_VALUES_MAX,
)


def height_bytes(height: int) -> bytes:
    """Return a height as it stands in keys and values."""
    return height.to_bytes(HEIGHT_SIZE, "big")


def read_height(data: bytes) -> int:
    """Return the height of `height_bytes`."""
    return int.from_bytes(data, "big")


def place_bytes(height: int, index: int) -> bytes:
    """Return the place of a transaction, as it stands in keys and values."""
    return height_bytes(height) + index.to_bytes(4, "big")


def read_place(data: bytes) -> tuple[int, int]:
    """Return the height and index of `place_bytes`."""
    return int.from_bytes(data[:HEIGHT_SIZE], "big"), int.from_bytes(data[HEIGHT_SIZE:], "big")


def first_key(what: bytes) -> bytes:
    """Return the key of the lowest height for which a class, by its letter or word, is kept."""
    return FIRST + what


def snapshot_key(height: int, path: bytes = b"") -> bytes:
    """Return the key of a piece of a snapshot, or of what says that it is whole."""
    return SNAPSHOT + height_bytes(height) + path


def entry_name(key: bytes) -> str:
    """Return what stands under a key, in words."""
    name = CLASSES[key[:1]]
    return f"{name} of block {read_height(key[1:])}" if key[:1] in BY_HEIGHT else name


def sender_key(sender: Address, place: bytes) -> bytes:
    """Return the key of the transaction at a place in its sender's index."""
    return SENDER + sender + place


def transaction_key(id: Digest) -> bytes:
    """Return the key of a transaction's place."""
    return TRANSACTION + id


def encode_body(wires: list[bytes]) -> bytes:
    """Return the bytes of a block's transactions."""
    return codec.encode(wires)


def decode_body(data: bytes) -> tuple[bytes, ...]:
    """Read `encode_body`; raises `DecodeError`."""
    items = codec.decode(
        data, what="body", size_max=BLOCK_SIZE_MAX, items_max=BLOCK_TRANSACTIONS_MAX
    )
    return _WIRES.read(items, "body")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a node keeps of the transactions of a block.

    Parameters
    ----------
    wires : tuple of (bytes or None)
        The bytes of each transaction; None where they were pruned.
    digests : tuple of Digest
        The full digest of each, pruned or not: the leaves under the transaction root, so that what
        is kept can still be proven.
    """

    wires: tuple[bytes | None, ...]
    digests: tuple[Digest, ...]


def whole(wires: tuple[bytes, ...]) -> Remains:
    """Return the remains of a body of which nothing was pruned."""
    return Remains(wires=wires, digests=tuple([full_digest(wire) for wire in wires]))


def encode_remains(remains: Remains) -> bytes:
    """Return the bytes of `remains`; the digest of what is kept follows from it."""
    pairs = zip(remains.wires, remains.digests, strict=True)
    return codec.encode((remains.wires, b"".join([d for wire, d in pairs if wire is None])))


def decode_remains(data: bytes) -> Remains:
    """Read `encode_remains`; raises `DecodeError`."""
    items = codec.decode(
        data, what="remains", size_max=BLOCK_SIZE_MAX, items_max=BLOCK_TRANSACTIONS_MAX
    )
    if len(items) != 2:
        raise DecodeError("remains", "not a pair of transactions and digests")
    wires = _REMAINING.read(items[0], "remains.transactions")
    pruned = _split(Blob(0, DIGEST_SIZE * BLOCK_TRANSACTIONS_MAX).read(items[1], "remains.digests"))
    if wires.count(None) != len(pruned):
        raise DecodeError("remains.digests", f"{len(pruned)} of {wires.count(None)} transactions")
    left = iter(pruned)
    return Remains(
        wires=wires,
        digests=tuple([next(left) if wire is None else full_digest(wire) for wire in wires]),
    )


def encode_undo(before: Mapping[bytes, bytes | None]) -> bytes:
    """Return the bytes of the state entries that a block changed, as they were."""
    return codec.encode([[key, value] for key, value in sorted(before.items())])


def decode_undo(data: bytes) -> dict[bytes, bytes | None]:
    """Read `encode_undo`; raises `DecodeError`."""
    items = codec.decode(
        data,
        what="undo",
        size_max=_RECEIPTS_SIZE_MAX,
        items_max=_RECEIPTS_VALUES_MAX,
        values_max=_RECEIPTS_VALUES_MAX,
    )
    entries = _UNDO.read(items, "undo")
    return {entry.key: entry.value for entry in entries}


def join_block(header: bytes, body: bytes) -> bytes:
    """Return what `chain.blocks.encode_block` gives for the block stored as these two entries.

    A block is the pair of both; the body's bytes are those of its second item already.
    """
    return _PAIR + codec.encode(header) + body


def split_receipts(data: bytes) -> tuple[tuple[Receipt, ...], BlockReceipt]:
    """Read `encode_receipts` whole; raises `DecodeError`."""
    *items, last = _receipt_items(data)
    return _RECEIPTS.read(items, "receipts"), BLOCK_RECEIPT.read(last, "block receipt")


def encode_receipts(receipts: tuple[Receipt, ...], block_receipt: BlockReceipt) -> bytes:
    """Return the bytes of all receipts of a block, its own the last."""
    items = [RECEIPT.write(receipt) for receipt in receipts]
    return codec.encode((*items, BLOCK_RECEIPT.write(block_receipt)))


def decode_receipts(data: bytes) -> tuple[Receipt, ...]:
    """Read the transactions' receipts of `encode_receipts`; raises `DecodeError`."""
    return _RECEIPTS.read(_receipt_items(data)[:-1], "receipts")


def decode_receipt(data: bytes, index: int) -> Receipt:
    """Read one of them; raises `DecodeError`."""
    return RECEIPT.read(_receipt_items(data)[index], "receipt")


def decode_block_receipt(data: bytes) -> BlockReceipt:
    """Read the block's own receipt of `encode_receipts`; raises `DecodeError`."""
    return BLOCK_RECEIPT.read(_receipt_items(data)[-1], "block receipt")


def encode_summary(summary: BlockSummary) -> bytes:
    """Return the bytes of what a block adds to the look-back; subjects stand in their order."""
    sent = sorted(summary.sent.items())
    return _SUMMARY.encode(
        _Summary(
            time_ms=summary.time_ms,
            ids=b"".join(summary.ids),
            subjects=b"".join([subject for subject, _ in sent]),
            counts=tuple([count for _, count in sent]),
            flows=b"".join(summary.flows),
            judged=summary.judged,
        )
    )


def decode_summary(data: bytes, height: int, *, ids_after_ms: int) -> BlockSummary:
    """Read `encode_summary`, leaving out the ids of a block that is not after `ids_after_ms`.

    Raises
    ------
    DecodeError
        It is none.
    """
    read = _SUMMARY.decode(data, what="summary", size_max=BLOCK_SIZE_MAX, items_max=_SUBJECTS_MAX)
    subjects = _split(read.subjects)
    if len(subjects) != len(read.counts):
        raise DecodeError("summary.counts", f"{len(read.counts)} of {len(subjects)} subjects")
    if list(subjects) != sorted(set(subjects)):
        raise DecodeError("summary.subjects", "not distinct and in ascending order")
    if bool(read.flows) != (read.judged is not None):
        raise DecodeError("summary.judged", "a digest without flows, or flows without one")
    return BlockSummary(
        height=height,
        time_ms=read.time_ms,
        ids=_split(read.ids) if read.time_ms > ids_after_ms else (),
        sent=dict(zip(subjects, read.counts, strict=True)),
        flows=_split(read.flows),
        judged=read.judged,
    )


def _split(joined: bytes) -> tuple[Any, ...]:
    """Return the digests or addresses of which `joined` is made."""
    if len(joined) % DIGEST_SIZE:
        raise DecodeError("summary", f"{len(joined)} bytes are no digests")
    return tuple([item for (item,) in iter_unpack(f"{DIGEST_SIZE}s", joined)])


def _receipt_items(data: bytes) -> list[object]:
    items = codec.decode(
        data,
        what="receipts",
        size_max=_RECEIPTS_SIZE_MAX,
        items_max=BLOCK_TRANSACTIONS_MAX + 1,
        values_max=_RECEIPTS_VALUES_MAX,
    )
    if not items:
        raise DecodeError("receipts", "the receipt of the block is missing")
    return items

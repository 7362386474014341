"""Every key of a node's database and what stands under it.

A key is one letter for the class of data, then its parts in big-endian order, so that a scan
meets heights in ascending order. docs/spec/durability.md, section "Database", is normative.
"""

from typing import Final

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
from chain.schema import Blob, ListOf
from chain.transactions import TRANSACTION_SIZE_MAX
from chain.types import Address, Digest

META: Final = b"m"
"""``m genesis``: the canonical genesis; ``m tip``: height of the last committed block."""
HEADER: Final = b"h"
"""``h height`` → header."""
BODY: Final = b"b"
"""``b height`` → array of the transactions' bytes."""
CERTIFICATE: Final = b"c"
"""``c height`` → commit certificate."""
RECEIPTS: Final = b"r"
"""``r height`` → array of receipts, the last of them that of the block."""
HASH: Final = b"x"
"""``x block-hash`` → height."""
TRANSACTION: Final = b"t"
"""``t transaction-id`` → height, index."""
SENDER: Final = b"a"
"""``a sender height index`` → transaction id."""
VERDICT: Final = b"v"
"""``v height index`` → id of a verdict transaction."""
STATE: Final = b"s"
"""``s state-key`` → state value."""
PROPOSED: Final = b"p"
"""``p block-hash`` → a block that was proposed and may yet be committed."""

GENESIS_KEY: Final = META + b"genesis"
TIP_KEY: Final = META + b"tip"

CLASSES: Final = {
    META: "meta",
    HEADER: "header",
    BODY: "body",
    CERTIFICATE: "certificate",
    RECEIPTS: "receipts",
    HASH: "block hash",
    TRANSACTION: "transaction index",
    SENDER: "sender index",
    VERDICT: "verdict index",
    STATE: "state",
    PROPOSED: "proposed block",
}

HEIGHT_SIZE: Final = 8
PLACE_SIZE: Final = HEIGHT_SIZE + 4

_PAIR: Final = b"\x92"
"""The head of an array of two."""
_WIRES: Final = ListOf(Blob(1, TRANSACTION_SIZE_MAX), BLOCK_TRANSACTIONS_MAX)
_RECEIPTS: Final = ListOf(RECEIPT, BLOCK_TRANSACTIONS_MAX)
_RECEIPTS_SIZE_MAX: Final = 2 * BLOCK_SIZE_MAX


def height_bytes(height: int) -> bytes:
    """Return a height as it stands in keys and values."""
    return height.to_bytes(HEIGHT_SIZE, "big")


def place_bytes(height: int, index: int) -> bytes:
    """Return the place of a transaction, as it stands in keys and values."""
    return height_bytes(height) + index.to_bytes(4, "big")


def read_place(data: bytes) -> tuple[int, int]:
    """Return the height and index of `place_bytes`."""
    return int.from_bytes(data[:HEIGHT_SIZE], "big"), int.from_bytes(data[HEIGHT_SIZE:], "big")


def sender_key(sender: Address, height: int, index: int) -> bytes:
    """Return the key of a transaction in its sender's index."""
    return SENDER + sender + place_bytes(height, index)


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


def join_block(header: bytes, body: bytes) -> bytes:
    """Return what `chain.blocks.encode_block` gives for the block stored as these two entries.

    A block is the pair of both; the body's bytes are those of its second item already.
    """
    return _PAIR + codec.encode(header) + body


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


def _receipt_items(data: bytes) -> list[object]:
    items = codec.decode(
        data, what="receipts", size_max=_RECEIPTS_SIZE_MAX, items_max=BLOCK_TRANSACTIONS_MAX + 1
    )
    if not items:
        raise DecodeError("receipts", "the receipt of the block is missing")
    return items

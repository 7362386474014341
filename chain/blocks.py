"""Headers, blocks and receipts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chain import codec
from chain.crypto import tagged_hash
from chain.errors import DecodeError
from chain.fields import ADDRESS, DIGEST, HEIGHT, ROUND, TIME_MS
from chain.merkle import merkle_root
from chain.schema import Blob, Integer, ListOf, Record, Text
from chain.transactions import (
    TRANSACTION_SIZE_MAX,
    Transaction,
    decode_transaction,
    full_digest,
)
from chain.types import (
    Address,
    Digest,
    Height,
    Round,
    TimestampMs,
)

BLOCK_VERSION: Final = 1
HEADER_SIZE_MAX: Final = 512
BLOCK_TRANSACTIONS_MAX: Final = 10_000
"""Hard bound of the transactions of a block; the parameter of the chain is at most this."""
BLOCK_SIZE_MAX: Final = 8 * 1024 * 1024
EVENTS_MAX: Final = BLOCK_TRANSACTIONS_MAX + 1
EVENT_VALUES_MAX: Final = 8

_HEADER_TAG: Final = b"securenet/header/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a block's hash covers.

    Parameters
    ----------
    transaction_root, receipt_root : Digest
        RFC 9162 roots over the full digests, and over the encoded receipts with the block's own
        behind them.
    state_root : Digest
        Root of the state after this block.
    miner_set_hash, next_miner_set_hash : Digest
        The sets that decide this height and the next.
    proposer : Address
        The miner that first proposed the block, in `proposal_round`; neither changes when the
        block is proposed again.
    """

    version: int
    genesis_hash: Digest
    height: Height
    time_ms: TimestampMs
    parent_hash: Digest
    transaction_root: Digest
    receipt_root: Digest
    state_root: Digest
    miner_set_hash: Digest
    next_miner_set_hash: Digest
    proposer: Address
    proposal_round: Round
    hash: Digest = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hash", tagged_hash(_HEADER_TAG, HEADER.encode(self)))


HEADER: Final = Record(
    Header,
    version=Integer(BLOCK_VERSION, BLOCK_VERSION),
    genesis_hash=DIGEST,
    height=HEIGHT,
    time_ms=TIME_MS,
    parent_hash=DIGEST,
    transaction_root=DIGEST,
    receipt_root=DIGEST,
    state_root=DIGEST,
    miner_set_hash=DIGEST,
    next_miner_set_hash=DIGEST,
    proposer=ADDRESS,
    proposal_round=ROUND,
)


def decode_header(data: bytes) -> Header:
    """Read a header; raises `DecodeError`."""
    return HEADER.decode(data, what="header", size_max=HEADER_SIZE_MAX, items_max=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A header and its transactions in order."""

    header: Header
    transactions: tuple[Transaction, ...]


def encode_block(block: Block) -> bytes:
    """Return ``[header, [transaction, …]]`` with every part in its own bytes."""
    return codec.encode((HEADER.encode(block.header), [tx.wire for tx in block.transactions]))


def decode_block(
    data: bytes, known: Callable[[Digest], Transaction | None] = lambda digest: None
) -> Block:
    """Read a block; its rules are checked elsewhere.

    Parameters
    ----------
    known : callable, optional
        Returns a transaction that has been read before, by its full digest.

    Raises
    ------
    DecodeError
        These are not the canonical bytes of a block.
    """
    items = codec.decode(
        data, what="block", size_max=BLOCK_SIZE_MAX, items_max=BLOCK_TRANSACTIONS_MAX
    )
    if len(items) != 2:
        raise DecodeError("block", "not a pair of header and transactions")
    header = Blob(1, HEADER_SIZE_MAX).read(items[0], "block.header")
    wires = ListOf(Blob(1, TRANSACTION_SIZE_MAX), BLOCK_TRANSACTIONS_MAX).read(
        items[1], "block.transactions"
    )
    return Block(
        header=decode_header(header),
        transactions=tuple(
            [known(full_digest(wire)) or decode_transaction(wire) for wire in wires]
        ),
    )


def transaction_root(full_digests: Sequence[Digest]) -> Digest:
    """Return the root over the full digests of a block's transactions in order."""
    return merkle_root(full_digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a transaction or the end of a block brought about.

    For people, indexes and subscriptions; no rule reads it.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """That a transaction is final, and what it brought about.

    A block holds valid transactions only, so a receipt never reports a failure.
    """

    transaction_id: Digest
    index: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReceipt:
    """What the end of a block brought about, which no transaction did and each block has."""

    events: tuple[Event, ...]


_EVENTS: Final = ListOf(
    Record(Event, name=Text(32), values=ListOf(Text(128), EVENT_VALUES_MAX)), EVENTS_MAX
)
RECEIPT: Final[Record[Receipt]] = Record(
    Receipt,
    transaction_id=DIGEST,
    index=Integer(0, BLOCK_TRANSACTIONS_MAX - 1),
    events=_EVENTS,
)
BLOCK_RECEIPT: Final[Record[BlockReceipt]] = Record(BlockReceipt, events=_EVENTS)
"""An array of one field, where a `RECEIPT` is one of three: neither is ever taken for the other."""


def receipt_leaves(receipts: Sequence[Receipt], block_receipt: BlockReceipt) -> list[bytes]:
    """Return the leaves under the receipt root: the receipts in order, then the block's own."""
    return [*map(RECEIPT.encode, receipts), BLOCK_RECEIPT.encode(block_receipt)]


def receipt_root(receipts: Sequence[Receipt], block_receipt: BlockReceipt) -> Digest:
    """Return the root over `receipt_leaves`."""
    return merkle_root(receipt_leaves(receipts, block_receipt))


def render_header(header: Header) -> dict[str, Any]:
    """Return the JSON form of a header, its hash included."""
    return {**HEADER.render(header), "hash": header.hash.hex()}

"""What nodes say to each other over the transport: the kinds of message and their bytes.

Kinds below 16 are urgent and overtake the rest. docs/spec/p2p.md, section "Kinds", is normative.
"""

from dataclasses import dataclass
from typing import Any, Final

from chain import codec
from chain.blocks import BLOCK_SIZE_MAX, BLOCK_TRANSACTIONS_MAX
from chain.certificate import CERTIFICATE_SIZE_MAX
from chain.schema import Blob, Integer, ListOf, Record
from chain.transactions import TRANSACTION_SIZE_MAX
from chain.types import DIGEST_SIZE, HEIGHT_MAX, Digest, Height
from consensus.codec import MESSAGE_SIZE_MAX, PROPOSAL, PROPOSAL_SIZE_MAX, DigestList
from consensus.messages import Proposal
from node.p2p.limits import KindPolicy, KindTable

CONSENSUS: Final = 4
"""A signed message of consensus."""
STATUS: Final = 5
"""The sender's last committed height."""
GET_BODIES: Final = 6
"""Asks for transactions of a proposal by full digest."""
GET_PROPOSAL: Final = 7
"""Asks for the header and digests of a block by its hash."""
PROPOSED: Final = 8
"""Answers `GET_PROPOSAL`."""
SHOWN: Final = 9
"""The receiver was shown all that the sender holds of its consensus messages."""
TRANSACTIONS: Final = 16
"""Transactions to be pooled."""
BODIES: Final = 17
"""Answers `GET_BODIES`."""
GET_BLOCKS: Final = 18
"""Asks for committed blocks from a height on."""
BLOCKS: Final = 19
"""Answers `GET_BLOCKS`, or tells a peer that works on an old height."""

BATCH_SIZE_MAX: Final = 1024 * 1024
"""Transactions are sent on in batches of about so many bytes."""
BATCH_TRANSACTIONS_MAX: Final = 4_000
SYNC_BLOCKS_MAX: Final = 64
SYNC_SIZE_MAX: Final = 4 * 1024 * 1024
"""Blocks are answered until this size is passed, so one block always fits."""

_SLACK: Final = 64 * 1024

KINDS: Final[KindTable] = {
    CONSENSUS: KindPolicy(
        payload_size_max=MESSAGE_SIZE_MAX, messages_per_second=2_000, burst=4_000
    ),
    STATUS: KindPolicy(payload_size_max=64, messages_per_second=200, burst=400),
    GET_BODIES: KindPolicy(payload_size_max=PROPOSAL_SIZE_MAX, messages_per_second=50, burst=100),
    GET_PROPOSAL: KindPolicy(payload_size_max=64, messages_per_second=20, burst=40),
    PROPOSED: KindPolicy(payload_size_max=PROPOSAL_SIZE_MAX, messages_per_second=20, burst=40),
    SHOWN: KindPolicy(payload_size_max=64, messages_per_second=20, burst=40),
    TRANSACTIONS: KindPolicy(
        payload_size_max=BATCH_SIZE_MAX + TRANSACTION_SIZE_MAX + _SLACK,
        messages_per_second=2_000,
        burst=4_000,
    ),
    BODIES: KindPolicy(payload_size_max=BLOCK_SIZE_MAX + _SLACK, messages_per_second=50, burst=100),
    GET_BLOCKS: KindPolicy(payload_size_max=64, messages_per_second=20, burst=40),
    BLOCKS: KindPolicy(
        payload_size_max=SYNC_SIZE_MAX + BLOCK_SIZE_MAX + _SLACK, messages_per_second=40, burst=80
    ),
}
"""What is accepted of one peer. Questions are rare between honest nodes and dear to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far the sender is."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All that is held of the receiver's messages went before this; `height` is worked on."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBodies:
    """Transactions wanted of the proposal `block`."""

    block: Digest
    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """Transactions of the proposal `block`: those of the wanted ones that the sender holds."""

    block: Digest
    wires: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetProposal:
    """The block wanted."""

    block: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBlocks:
    """Committed blocks wanted: at most `count` from `height` on."""

    height: Height
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncBlock:
    """A committed block and its certificate, both in their bytes."""

    block: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Committed blocks in ascending order, from `height` on; none where the sender has none."""

    height: Height
    blocks: tuple[SyncBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactions:
    """Transactions to be pooled."""

    wires: tuple[bytes, ...]


_DIGEST: Final = Blob(DIGEST_SIZE)
_HEIGHT: Final = Integer(0, HEIGHT_MAX)
_WIRE: Final = Blob(1, TRANSACTION_SIZE_MAX)

STATUS_RECORD: Final = Record(Status, height=_HEIGHT)
SHOWN_RECORD: Final = Record(Shown, height=_HEIGHT)
GET_BODIES_RECORD: Final = Record(
    GetBodies, block=_DIGEST, digests=DigestList(BLOCK_TRANSACTIONS_MAX)
)
BODIES_RECORD: Final = Record(Bodies, block=_DIGEST, wires=ListOf(_WIRE, BLOCK_TRANSACTIONS_MAX))
GET_PROPOSAL_RECORD: Final = Record(GetProposal, block=_DIGEST)
GET_BLOCKS_RECORD: Final = Record(GetBlocks, height=_HEIGHT, count=Integer(1, SYNC_BLOCKS_MAX))
BLOCKS_RECORD: Final = Record(
    Blocks,
    height=_HEIGHT,
    blocks=ListOf(
        Record(SyncBlock, block=Blob(1, BLOCK_SIZE_MAX), certificate=Blob(1, CERTIFICATE_SIZE_MAX)),
        SYNC_BLOCKS_MAX,
    ),
)
TRANSACTIONS_RECORD: Final = Record(
    Transactions, wires=ListOf(_WIRE, BATCH_TRANSACTIONS_MAX, minimum=1)
)

RECORDS: Final[dict[int, Record[Any]]] = {
    STATUS: STATUS_RECORD,
    GET_BODIES: GET_BODIES_RECORD,
    GET_PROPOSAL: GET_PROPOSAL_RECORD,
    PROPOSED: PROPOSAL,
    SHOWN: SHOWN_RECORD,
    TRANSACTIONS: TRANSACTIONS_RECORD,
    BODIES: BODIES_RECORD,
    GET_BLOCKS: GET_BLOCKS_RECORD,
    BLOCKS: BLOCKS_RECORD,
}
"""The schema of every kind but `CONSENSUS`, which has its own codec."""

Body = (
    Status | GetBodies | GetProposal | Proposal | Shown | Transactions | Bodies | GetBlocks | Blocks
)


def encode_body(kind: int, body: Body) -> bytes:
    """Return the payload of a message."""
    return codec.encode(RECORDS[kind].write(body))


def decode_body(kind: int, payload: bytes) -> Body:
    """Read the payload of a message of a kind in `RECORDS`.

    Raises
    ------
    DecodeError
        The payload is not what its kind says.
    """
    items = codec.decode(
        payload,
        what="message",
        size_max=KINDS[kind].payload_size_max,
        items_max=BLOCK_TRANSACTIONS_MAX,
    )
    body: Body = RECORDS[kind].read(items, "message")
    return body

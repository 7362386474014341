"""What nodes say to each other over the transport: the kinds of message and their bytes.

Kinds below 16 are urgent and overtake the rest. docs/spec/p2p.md, section "Kinds", is normative.
"""

from dataclasses import dataclass
from typing import Any, Final

from chain import codec
from chain.blobs import BLOB_SIZE_MAX, CHUNK_SIZE, BlobChunk, chunk_count
from chain.blocks import BLOCK_SIZE_MAX, BLOCK_TRANSACTIONS_MAX
from chain.certificate import CERTIFICATE_SIZE_MAX
from chain.fields import DIGEST, HEIGHT
from chain.merkle import PROOF_LENGTH_MAX
from chain.miners import MINERS_SIZE_MAX
from chain.schema import Blob, Integer, ListOf, Optional, Record
from chain.state_range import PIECE_SIZE_MAX
from chain.transactions import TRANSACTION_SIZE_MAX
from chain.types import Digest, Height
from consensus.codec import MESSAGE_SIZE_MAX, PROPOSAL, PROPOSAL_SIZE_MAX, DigestList
from consensus.messages import Proposal
from node.p2p.limits import KindPolicy, KindTable
from node.past import DECIDED as DECIDED_BYTES
from node.past import (
    PAST_BLOCK,
    RECEIPTS_SIZE_MAX,
    DecidedBytes,
    PastBlock,
)

CONSENSUS: Final = 4
"""A signed message of consensus."""
STATUS: Final = 5
"""How far the sender is, and what of the chain it has to give."""
GET_BODIES: Final = 6
"""Asks for transactions of a proposal by full digest."""
GET_PROPOSAL: Final = 7
"""Asks for the header and digests of a block by its hash."""
PROPOSED: Final = 8
"""Answers `GET_PROPOSAL`."""
SHOWN: Final = 9
"""The receiver was shown all that the sender holds of its consensus messages."""
GET_SHOWN: Final = 10
"""Asks for `SHOWN`, and for what goes before it, of a member that has not said it yet."""
TRANSACTIONS: Final = 16
"""Transactions to be pooled."""
BODIES: Final = 17
"""Answers `GET_BODIES`."""
GET_BLOCKS: Final = 18
"""Asks for committed blocks from a height on."""
BLOCKS: Final = 19
"""Answers `GET_BLOCKS`, or tells a peer that works on an old height."""

GET_DECIDED: Final = 20
"""Asks for a header with what proves it, by height."""
DECIDED: Final = 21
"""Answers `GET_DECIDED`."""
GET_PIECE: Final = 22
"""Asks for the piece of a snapshot in which a path lies."""
PIECE: Final = 23
"""Answers `GET_PIECE`."""
GET_PAST: Final = 24
"""Asks for blocks with their receipts, from a height on downwards."""
PAST: Final = 25
"""Answers `GET_PAST`."""
GET_CHUNK: Final = 26
"""Asks for a chunk of a blob."""
CHUNK: Final = 27
"""Answers `GET_CHUNK`."""

BATCH_SIZE_MAX: Final = 1024 * 1024
"""Transactions are sent on in batches of about so many bytes."""
BATCH_TRANSACTIONS_MAX: Final = 4_000
SYNC_BLOCKS_MAX: Final = 64
SYNC_SIZE_MAX: Final = 4 * 1024 * 1024
"""Blocks are answered until this size is passed, so one block always fits."""
SNAPSHOTS_TOLD_MAX: Final = 4
"""Snapshots that a status names, the latest."""

_SLACK: Final = 64 * 1024
_NO_HEIGHT: Final = Height(0)

KINDS: Final[KindTable] = {
    CONSENSUS: KindPolicy(
        payload_size_max=MESSAGE_SIZE_MAX, messages_per_second=2_000, burst=4_000
    ),
    STATUS: KindPolicy(payload_size_max=64, messages_per_second=200, burst=400),
    GET_BODIES: KindPolicy(payload_size_max=PROPOSAL_SIZE_MAX, messages_per_second=50, burst=100),
    GET_PROPOSAL: KindPolicy(payload_size_max=64, messages_per_second=20, burst=40),
    PROPOSED: KindPolicy(payload_size_max=PROPOSAL_SIZE_MAX, messages_per_second=20, burst=40),
    SHOWN: KindPolicy(payload_size_max=64, messages_per_second=20, burst=40),
    GET_SHOWN: KindPolicy(payload_size_max=64, messages_per_second=2, burst=8),
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
    GET_DECIDED: KindPolicy(payload_size_max=64, messages_per_second=50, burst=100),
    DECIDED: KindPolicy(
        payload_size_max=CERTIFICATE_SIZE_MAX + MINERS_SIZE_MAX + _SLACK,
        messages_per_second=50,
        burst=100,
    ),
    GET_PIECE: KindPolicy(payload_size_max=64, messages_per_second=100, burst=200),
    PIECE: KindPolicy(payload_size_max=PIECE_SIZE_MAX + _SLACK, messages_per_second=100, burst=200),
    GET_PAST: KindPolicy(payload_size_max=64, messages_per_second=20, burst=40),
    PAST: KindPolicy(
        payload_size_max=SYNC_SIZE_MAX + BLOCK_SIZE_MAX + RECEIPTS_SIZE_MAX + _SLACK,
        messages_per_second=20,
        burst=40,
    ),
    GET_CHUNK: KindPolicy(payload_size_max=64, messages_per_second=200, burst=400),
    CHUNK: KindPolicy(payload_size_max=CHUNK_SIZE + _SLACK, messages_per_second=200, burst=400),
}
"""What is accepted of one peer. Questions are rare between honest nodes and dear to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far the sender is.

    Parameters
    ----------
    height : Height
        Of its last committed block.
    first : Height
        From which on it has whole blocks to give; block 0 apart.
    snapshots : tuple of Height
        Ascending, those blocks after which it has a snapshot of the state.
    """

    height: Height
    first: Height = _NO_HEIGHT
    snapshots: tuple[Height, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All that is held of the receiver's messages went before this; `height` is worked on."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class GetShown:
    """The sender works on `height` and waits to be shown what the receiver holds of it."""

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
class GetDecided:
    """A header wanted: that of `height`, or the next that is kept."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedAnswer:
    """What was found for `height`, or None."""

    height: Height
    found: DecidedBytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPiece:
    """A piece wanted of the snapshot of `height`: that in which `path` lies."""

    height: Height
    path: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceAnswer:
    """The bytes of a piece; empty where the sender has no such snapshot any more."""

    height: Height
    path: Digest
    piece: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPast:
    """Committed blocks wanted: at most `count` from `height` on downwards."""

    height: Height
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAnswer:
    """Committed blocks in descending order, from `height` on; none where the sender has none."""

    height: Height
    blocks: tuple[PastBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetChunk:
    """A chunk wanted of the blob `digest`."""

    digest: Digest
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkAnswer:
    """The chunk that was asked for, or None where the sender does not hold the blob."""

    digest: Digest
    index: int
    chunk: BlobChunk | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactions:
    """Transactions to be pooled."""

    wires: tuple[bytes, ...]


_WIRE: Final = Blob(1, TRANSACTION_SIZE_MAX)

STATUS_RECORD: Final = Record(
    Status, height=HEIGHT, first=HEIGHT, snapshots=ListOf(HEIGHT, SNAPSHOTS_TOLD_MAX)
)
SHOWN_RECORD: Final = Record(Shown, height=HEIGHT)
GET_SHOWN_RECORD: Final = Record(GetShown, height=HEIGHT)
GET_BODIES_RECORD: Final = Record(
    GetBodies, block=DIGEST, digests=DigestList(BLOCK_TRANSACTIONS_MAX)
)
BODIES_RECORD: Final = Record(Bodies, block=DIGEST, wires=ListOf(_WIRE, BLOCK_TRANSACTIONS_MAX))
GET_PROPOSAL_RECORD: Final = Record(GetProposal, block=DIGEST)
GET_BLOCKS_RECORD: Final = Record(GetBlocks, height=HEIGHT, count=Integer(1, SYNC_BLOCKS_MAX))
BLOCKS_RECORD: Final = Record(
    Blocks,
    height=HEIGHT,
    blocks=ListOf(
        Record(SyncBlock, block=Blob(1, BLOCK_SIZE_MAX), certificate=Blob(1, CERTIFICATE_SIZE_MAX)),
        SYNC_BLOCKS_MAX,
    ),
)
GET_DECIDED_RECORD: Final = Record(GetDecided, height=HEIGHT)
DECIDED_RECORD: Final = Record(DecidedAnswer, height=HEIGHT, found=Optional(DECIDED_BYTES))
GET_PIECE_RECORD: Final = Record(GetPiece, height=HEIGHT, path=DIGEST)
PIECE_RECORD: Final = Record(PieceAnswer, height=HEIGHT, path=DIGEST, piece=Blob(0, PIECE_SIZE_MAX))
GET_PAST_RECORD: Final = Record(GetPast, height=HEIGHT, count=Integer(1, SYNC_BLOCKS_MAX))
PAST_RECORD: Final = Record(PastAnswer, height=HEIGHT, blocks=ListOf(PAST_BLOCK, SYNC_BLOCKS_MAX))
_CHUNK_INDEX: Final = Integer(0, chunk_count(BLOB_SIZE_MAX) - 1)
GET_CHUNK_RECORD: Final = Record(GetChunk, digest=DIGEST, index=_CHUNK_INDEX)
CHUNK_RECORD: Final = Record(
    ChunkAnswer,
    digest=DIGEST,
    index=_CHUNK_INDEX,
    chunk=Optional(
        Record(
            BlobChunk,
            size=Integer(1, BLOB_SIZE_MAX),
            root=DIGEST,
            index=_CHUNK_INDEX,
            path=ListOf(DIGEST, PROOF_LENGTH_MAX),
            data=Blob(1, CHUNK_SIZE),
        )
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
    GET_SHOWN: GET_SHOWN_RECORD,
    TRANSACTIONS: TRANSACTIONS_RECORD,
    BODIES: BODIES_RECORD,
    GET_BLOCKS: GET_BLOCKS_RECORD,
    BLOCKS: BLOCKS_RECORD,
    GET_DECIDED: GET_DECIDED_RECORD,
    DECIDED: DECIDED_RECORD,
    GET_PIECE: GET_PIECE_RECORD,
    PIECE: PIECE_RECORD,
    GET_PAST: GET_PAST_RECORD,
    PAST: PAST_RECORD,
    GET_CHUNK: GET_CHUNK_RECORD,
    CHUNK: CHUNK_RECORD,
}
"""The schema of every kind but `CONSENSUS`, which has its own codec."""

Body = (
    Status
    | GetBodies
    | GetProposal
    | Proposal
    | Shown
    | GetShown
    | Transactions
    | Bodies
    | GetBlocks
    | Blocks
    | GetDecided
    | DecidedAnswer
    | GetPiece
    | PieceAnswer
    | GetPast
    | PastAnswer
    | GetChunk
    | ChunkAnswer
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

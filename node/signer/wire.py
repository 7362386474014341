"""What a node and its signer say to each other, in frames of `node.p2p.framing`.

The signer speaks first. Every question has a number, which its answer repeats; answers come in the
order of the questions. docs/spec/signer.md is normative.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from chain.errors import DecodeError
from chain.fields import ANY_KEY, DIGEST, HEIGHT
from chain.kinds.evidence import STATEMENT_SIZE_MAX
from chain.schema import Blob, Boolean, Integer, ListOf, Record, Word
from chain.transactions import BODY_SIZE_MAX
from chain.types import (
    SIGNATURE_SIZE,
    Digest,
    Height,
    PublicKey,
    Signature,
)
from consensus.key_memory import CONFLICT, FORGETS_PREPARED
from consensus.order import FLOOR, LOST_MEMORY, ORDER
from node.p2p.framing import HEADER

SIGNER_PROTOCOL: Final = 1
KEYS_MAX: Final = 2
"""The miner's key, and the one that is to take its place."""
PAYLOAD_SIZE_MAX: Final = BODY_SIZE_MAX + 256
NUMBER_MAX: Final = 2**63 - 1

UNKNOWN_KEY: Final = "unknown-key"
WRONG_CHAIN: Final = "wrong-chain"
MALFORMED: Final = "malformed"
KIND: Final = "kind"
REASONS: Final = (
    LOST_MEMORY, FLOOR, ORDER, CONFLICT, FORGETS_PREPARED, UNKNOWN_KEY, WRONG_CHAIN, MALFORMED, KIND
)  # fmt: skip
"""Why something is not signed: the closed set of words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The signer's first words.

    Parameters
    ----------
    remembers : bool
        Whether it knows what it signed before; else it wants to be told a `SetFloor`.
    """

    protocol: int
    genesis_hash: Digest
    keys: tuple[PublicKey, ...]
    remembers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignVote:
    """Sign a statement of consensus."""

    number: int
    key: PublicKey
    statement: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignTransaction:
    """Sign the payload of a transaction that a node sends by itself."""

    number: int
    key: PublicKey
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFloor:
    """From this height on nothing was signed before; believed only by a signer without memory."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The signature that was asked for."""

    number: int
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One of `REASONS` why there is none."""

    number: int
    reason: str


Question = SignVote | SignTransaction | SetFloor
Message = Hello | Question | Answer | Refusal

_NUMBER: Final = Integer(0, NUMBER_MAX)

_RECORDS: Final[Mapping[int, tuple[Record[Any], int]]] = MappingProxyType(
    {
        1: (
            Record(
                Hello,
                protocol=Integer(SIGNER_PROTOCOL, SIGNER_PROTOCOL),
                genesis_hash=DIGEST,
                keys=ListOf(ANY_KEY, KEYS_MAX, minimum=1),
                remembers=Boolean(),
            ),
            256,
        ),
        2: (
            Record(SignVote, number=_NUMBER, key=ANY_KEY, statement=Blob(1, STATEMENT_SIZE_MAX)),
            256,
        ),
        3: (
            Record(SignTransaction, number=_NUMBER, key=ANY_KEY, payload=Blob(1, PAYLOAD_SIZE_MAX)),
            PAYLOAD_SIZE_MAX + 128,
        ),
        4: (Record(SetFloor, height=HEIGHT), 16),
        5: (Record(Answer, number=_NUMBER, signature=Blob(SIGNATURE_SIZE)), 128),
        6: (Record(Refusal, number=_NUMBER, reason=Word(*REASONS)), 64),
    }
)
_KINDS: Final = {record.make: kind for kind, (record, _) in _RECORDS.items()}

TO_SIGNER: Final = {kind: _RECORDS[kind][1] for kind in (2, 3, 4)}
"""The largest payload of each kind of frame that a signer takes."""
TO_NODE: Final = {kind: _RECORDS[kind][1] for kind in (1, 5, 6)}
"""The same of a node."""


def encode_frame(value: Message) -> bytes:
    """Return the frame in which `value` travels."""
    kind = _KINDS[type(value)]
    payload = _RECORDS[kind][0].encode(value)
    return HEADER.pack(len(payload), kind) + payload


def decode_payload(kind: int, payload: bytes) -> Message:
    """Read the payload of a frame.

    Raises
    ------
    DecodeError
        It is not the canonical encoding of what its kind says.
    """
    known = _RECORDS.get(kind)
    if known is None:
        raise DecodeError("kind", "unknown")
    record, size_max = known
    value: Message = record.decode(
        payload, what="frame", size_max=size_max, items_max=len(record.fields)
    )
    return value

"""The bytes of the messages: canonical arrays ``[type, [field, …]]``, every part bounded."""

from typing import Any, Final

from chain import codec
from chain.blocks import BLOCK_TRANSACTIONS_MAX, HEADER, HEADER_SIZE_MAX
from chain.certificate import CERTIFICATE, CERTIFICATE_SIZE_MAX
from chain.errors import DecodeError
from chain.fields import ADDRESS, DIGEST, HEIGHT, ROUND
from chain.miners import MINERS_MAX
from chain.schema import Blob, ListOf, Optional, Record, Tagged
from chain.types import DIGEST_SIZE, SIGNATURE_SIZE, Digest
from consensus.messages import (
    Commit,
    Justification,
    Message,
    Prepare,
    PrePrepare,
    Proposal,
    RoundChange,
)

ROUND_CHANGE_SIZE_MAX: Final = 256
"""One ROUND-CHANGE without its certificate."""

PROPOSAL_SIZE_MAX: Final = HEADER_SIZE_MAX + DIGEST_SIZE * BLOCK_TRANSACTIONS_MAX + 64
MESSAGE_SIZE_MAX: Final = (
    PROPOSAL_SIZE_MAX + MINERS_MAX * ROUND_CHANGE_SIZE_MAX + CERTIFICATE_SIZE_MAX + 256
)


class DigestList:
    """Digests as one byte string, so that a large block costs no large array to decode."""

    def __init__(self, maximum: int) -> None:
        self._bytes = Blob(0, maximum * DIGEST_SIZE)
        self._items = ListOf(DIGEST, maximum)

    def read(self, value: object, where: str) -> tuple[Digest, ...]:
        """Cut the byte string into digests."""
        data = self._bytes.read(value, where)
        if len(data) % DIGEST_SIZE:
            raise DecodeError(where, "not whole digests")
        return tuple([Digest(data[i : i + DIGEST_SIZE]) for i in range(0, len(data), DIGEST_SIZE)])

    def write(self, value: tuple[Digest, ...]) -> bytes:
        """Join the digests."""
        return b"".join(value)

    def parse(self, value: object, where: str) -> tuple[Digest, ...]:
        """Parse a list of hex strings."""
        return tuple([Digest(item) for item in self._items.parse(value, where)])

    def render(self, value: tuple[Digest, ...]) -> list[str]:
        """Render a list of hex strings."""
        return [digest.hex() for digest in value]

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return self._items.describe()


_SIGNATURE: Final = Blob(SIGNATURE_SIZE)

PROPOSAL: Final = Record(Proposal, header=HEADER, digests=DigestList(BLOCK_TRANSACTIONS_MAX))

PREPARE: Final = Record(
    Prepare,
    sender=ADDRESS,
    height=HEIGHT,
    round=ROUND,
    digest=DIGEST,
    signature=_SIGNATURE,
)
COMMIT: Final = Record(
    Commit,
    sender=ADDRESS,
    height=HEIGHT,
    round=ROUND,
    digest=DIGEST,
    signature=_SIGNATURE,
)
ROUND_CHANGE: Final = Record(
    RoundChange,
    sender=ADDRESS,
    height=HEIGHT,
    round=ROUND,
    prepared_round=Optional(ROUND),
    prepared_digest=Optional(DIGEST),
    certificate=Optional(CERTIFICATE),
    signature=_SIGNATURE,
)
PRE_PREPARE: Final = Record(
    PrePrepare,
    sender=ADDRESS,
    height=HEIGHT,
    round=ROUND,
    proposal=PROPOSAL,
    justification=Optional(
        Record(
            Justification,
            round_changes=ListOf(ROUND_CHANGE, MINERS_MAX),
            certificate=Optional(CERTIFICATE),
        )
    ),
    signature=_SIGNATURE,
)

MESSAGE: Final = Tagged(
    {
        PrePrepare.name: PRE_PREPARE,
        Prepare.name: PREPARE,
        Commit.name: COMMIT,
        RoundChange.name: ROUND_CHANGE,
    }
)


def encode_message(message: Message) -> bytes:
    """Return the canonical bytes of `message`."""
    return codec.encode(MESSAGE.write(message))


def decode_message(data: bytes) -> Message:
    """Read a message; who may send it, and whether it is signed, is checked by the replica.

    Raises
    ------
    DecodeError
        These are not the canonical bytes of a message, or a part of it is above its bound.
    """
    items = codec.decode(data, what="message", size_max=MESSAGE_SIZE_MAX, items_max=MINERS_MAX)
    message: Message = MESSAGE.read(items, "message")
    return message

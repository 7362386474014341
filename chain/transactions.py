"""The envelope of every transaction: bytes, id, full digest, signature.

What a transaction of a kind may hold and does is said by the modules of `chain.kinds`; the
envelope keeps the body as bytes. docs/spec/encoding.md is normative.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from chain import codec
from chain.crypto import SigningKey, domain, verify
from chain.errors import DecodeError
from chain.fields import ADDRESS, DIGEST, TIME_MS
from chain.schema import Blob, Integer, Record, Text
from chain.types import (
    NONCE_SIZE,
    SIGNATURE_SIZE,
    Address,
    Digest,
    PublicKey,
    Signature,
    TimestampMs,
)

TRANSACTION_VERSION: Final = 1
BODY_SIZE_MAX: Final = 32 * 1024
TRANSACTION_SIZE_MAX: Final = BODY_SIZE_MAX + 512
KIND_SIZE_MAX: Final = 32

SIGNATURE_TAG: Final = b"securenet/transaction/v1"
_ID_PREFIX: Final = domain(b"securenet/transaction-id/v1")
_DIGEST_PREFIX: Final = domain(b"securenet/transaction-digest/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What a sender signs.

    Parameters
    ----------
    sender : Address
        The device, organisation or miner in whose name the transaction is sent.
    time_ms : TimestampMs
        The sender's clock; a transaction lives for a limited time after it.
    nonce : bytes
        8 random bytes, so that equal contents give different ids.
    body : bytes
        The canonical bytes of the kind's body.
    """

    version: int
    genesis_hash: Digest
    kind: str
    sender: Address
    time_ms: TimestampMs
    nonce: bytes
    body: bytes


PAYLOAD: Final = Record(
    Payload,
    version=Integer(TRANSACTION_VERSION, TRANSACTION_VERSION),
    genesis_hash=DIGEST,
    kind=Text(KIND_SIZE_MAX, minimum=1, pattern=re.compile(r"[a-z]+\.[a-z]+|[a-z]+")),
    sender=ADDRESS,
    time_ms=TIME_MS,
    nonce=Blob(NONCE_SIZE),
    body=Blob(1, BODY_SIZE_MAX),
)


@dataclass(frozen=True, slots=True, eq=False)
class Transaction:
    """A signed payload with its digests; made by `decode_transaction` or `sign_transaction`.

    Parameters
    ----------
    payload : Payload
        The decoded payload.
    payload_bytes : bytes
        What `signature` covers.
    wire : bytes
        The canonical bytes of the whole transaction, kept and never encoded again.
    id : Digest
        Digest of the payload alone: for people and for the duplicate check, since nobody can
        change it by changing a signature.
    digest : Digest
        Full digest, with the signature: for Merkle leaves and proposals.
    """

    payload: Payload
    payload_bytes: bytes
    signature: Signature
    wire: bytes
    id: Digest
    digest: Digest
    _body: object = field(default=None, init=False, repr=False)

    def body(self, read: Callable[[bytes], object]) -> object:
        """Return the decoded body, reading it the first time it is asked for."""
        if self._body is None:
            object.__setattr__(self, "_body", read(self.payload.body))
        return self._body

    def is_signed_by(self, key: PublicKey) -> bool:
        """Tell whether `key` signed the payload."""
        return verify(key, SIGNATURE_TAG, self.payload_bytes, self.signature)


def decode_transaction(wire: bytes) -> Transaction:
    """Read the canonical bytes of a transaction.

    Raises
    ------
    DecodeError
        They are too large, malformed or not canonical. The body is not looked at.
    """
    items = codec.decode(wire, what="transaction", size_max=TRANSACTION_SIZE_MAX, items_max=2)
    if len(items) != 2:
        raise DecodeError("transaction", "not a pair of payload and signature")
    payload_bytes, signature = items
    if type(payload_bytes) is not bytes:
        raise DecodeError("transaction.payload", "not a byte string")
    if type(signature) is not bytes or len(signature) != SIGNATURE_SIZE:
        raise DecodeError("transaction.signature", f"not {SIGNATURE_SIZE} bytes")
    payload = PAYLOAD.read(
        codec.decode(payload_bytes, what="transaction.payload", items_max=len(PAYLOAD.fields)),
        "transaction",
    )
    return _transaction(payload, payload_bytes, Signature(signature), wire)


def full_digest(wire: bytes) -> Digest:
    """Return the full digest of a transaction in its bytes, which need not be looked at."""
    return Digest(sha256(_DIGEST_PREFIX + wire).digest())


def sign_transaction(payload: Payload, key: SigningKey) -> Transaction:
    """Sign `payload` with `key`.

    Raises
    ------
    DecodeError
        The payload is out of bounds and no node would read it.
    """
    payload_bytes = PAYLOAD.encode(payload)
    signature = key.sign(SIGNATURE_TAG, payload_bytes)
    return decode_transaction(codec.encode((payload_bytes, signature)))


def attach_signature(payload: Payload, signature: Signature) -> Transaction:
    """Join a payload and a signature made elsewhere; raises `DecodeError`."""
    return decode_transaction(codec.encode((PAYLOAD.encode(payload), signature)))


def _transaction(
    payload: Payload, payload_bytes: bytes, signature: Signature, wire: bytes
) -> Transaction:
    return Transaction(
        payload,
        payload_bytes,
        signature,
        wire,
        Digest(sha256(_ID_PREFIX + payload_bytes).digest()),
        full_digest(wire),
    )

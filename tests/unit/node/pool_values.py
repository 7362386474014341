"""Transactions for tests of the pool and the verifier: their bytes are real, their bodies noise."""

from itertools import count

from chain.crypto import SigningKey, signing_key
from chain.transactions import PAYLOAD, Payload, Transaction, attach_signature, sign_transaction
from chain.types import Address, Digest, Signature, TimestampMs

TIME_MS = 1_700_000_000_000
_numbers = count()


def address(number: int) -> Address:
    return Address(number.to_bytes(32, "big"))


def key(number: int = 1) -> SigningKey:
    return signing_key("ed25519", number.to_bytes(32, "big"))


def make_payload(
    *, sender: Address | int = 1, time_ms: int = TIME_MS, size_bytes: int = 200
) -> Payload:
    """Return a payload whose transaction has about `size_bytes`, different from any other."""
    number = next(_numbers)
    payload = Payload(
        version=1,
        genesis_hash=Digest(bytes(32)),
        kind="device.data",
        sender=address(sender) if isinstance(sender, int) else sender,
        time_ms=TimestampMs(time_ms),
        nonce=number.to_bytes(8, "big"),
        body=b"\x00",
    )
    bare = len(PAYLOAD.encode(payload)) + 68
    body = bytes(max(1, size_bytes - bare))
    return Payload(**{name: getattr(payload, name) for name in PAYLOAD.fields} | {"body": body})


def make_transaction(*, signature: bytes = bytes(64), **fields) -> Transaction:
    """Return a transaction with a signature that nobody gave."""
    return attach_signature(make_payload(**fields), Signature(signature))


def make_signed(signer: SigningKey, **fields) -> Transaction:
    return sign_transaction(make_payload(**fields), signer)

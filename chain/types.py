"""Names for the plain values that everything else is made of."""

from typing import Final, NewType

Digest = NewType("Digest", bytes)
"""SHA-256 with a domain tag: 32 bytes."""

Address = NewType("Address", bytes)
"""Permanent id of a miner, node, organisation or device: 32 bytes."""

PublicKey = NewType("PublicKey", bytes)
"""32 bytes: Ed25519. 33 bytes: compressed point of P-256."""

Signature = NewType("Signature", bytes)
"""64 bytes: Ed25519, or r ‖ s of ECDSA P-256."""

Height = NewType("Height", int)
Round = NewType("Round", int)
TimestampMs = NewType("TimestampMs", int)
"""Milliseconds since 1970."""

DIGEST_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
NONCE_SIZE: Final = 8

HEIGHT_MAX: Final = 2**48
ROUND_MAX: Final = 2**32 - 1
TIME_MS_MAX: Final = 2**48

ZERO_DIGEST: Final = Digest(bytes(DIGEST_SIZE))

"""Digests and signatures, each bound to a domain by a tag.

One verifier for each algorithm serves the whole project: libraries disagree about edge cases of
signatures, and two nodes that disagree about one signature disagree about a block. Ed25519 is
libsodium's (rejects S >= L, small-order and non-canonical keys); ECDSA P-256 is OpenSSL's behind
checks of range and low S. docs/spec/encoding.md, section "Signatures".
"""

from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal, Protocol

import nacl.bindings
import nacl.exceptions
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chain.errors import InvalidKey
from chain.types import Address, Digest, PublicKey, Signature

Algorithm = Literal["ed25519", "p256"]

ED25519_KEY_SIZE: Final = 32
P256_KEY_SIZE: Final = 33
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SEED_SIZE: Final = 32
KEY_CACHE_SIZE: Final = 4096
"""Parsed P-256 points kept: parsing costs half a verification. The least recent is dropped."""

_ADDRESS_TAG: Final = b"securenet/address/v1"
_P256_HASH: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_P256_VERIFY: Final = ec.ECDSA(hashes.SHA256())


def domain(tag: bytes) -> bytes:
    """Return the bytes that stand before everything hashed or signed under `tag`.

    The length goes first, so that no tag is a prefix of another.
    """
    return bytes((len(tag),)) + tag


def tagged_hash(tag: bytes, *parts: bytes) -> Digest:
    """Return SHA-256 over the domain of `tag` and the concatenated `parts`."""
    return Digest(sha256(domain(tag) + b"".join(parts)).digest())


def address_of(public_key: PublicKey) -> Address:
    """Return the permanent id of the miner or node whose first key is `public_key`."""
    return Address(tagged_hash(_ADDRESS_TAG, public_key))


def algorithm_of(public_key: bytes) -> Algorithm:
    """Return the algorithm that a key of this length belongs to.

    Raises
    ------
    InvalidKey
        Neither 32 nor 33 bytes.
    """
    if len(public_key) == ED25519_KEY_SIZE:
        return "ed25519"
    if len(public_key) == P256_KEY_SIZE:
        return "p256"
    raise InvalidKey(f"a public key has 32 (Ed25519) or 33 (P-256) bytes, not {len(public_key)}")


def check_public_key(public_key: bytes) -> PublicKey:
    """Return `public_key` if signatures under it can ever verify.

    Raises
    ------
    InvalidKey
        Wrong length, not a point of the curve, or an Ed25519 key of small order.
    """
    if algorithm_of(public_key) == "p256":
        _p256_point(bytes(public_key))
    elif not nacl.bindings.crypto_core_ed25519_is_valid_point(bytes(public_key)):
        raise InvalidKey("not a point of Ed25519's prime-order group")
    return PublicKey(public_key)


def verify(public_key: PublicKey, tag: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether `signature` over `message` under `tag` is by `public_key`.

    Never raises: a key or signature of the wrong length or form is simply not valid.
    """
    if len(signature) != 64:
        return False
    data = domain(tag) + message
    if len(public_key) == ED25519_KEY_SIZE:
        return _verify_ed25519(public_key, data, signature)
    if len(public_key) == P256_KEY_SIZE:
        return _verify_p256(bytes(public_key), data, signature)
    return False


def normalise_p256(signature: Signature) -> Signature:
    """Return the low-S twin of an ECDSA signature.

    Secure elements of devices often produce high S. A client or an RPC edge may normalise it;
    validation never does, since it would give one transaction two full digests.
    """
    s = int.from_bytes(signature[32:], "big")
    if P256_ORDER // 2 < s < P256_ORDER:
        return Signature(signature[:32] + (P256_ORDER - s).to_bytes(32, "big"))
    return signature


class SigningKey(Protocol):
    """A private key that signs under domain tags."""

    @property
    def algorithm(self) -> Algorithm:
        """Name of the algorithm."""
        ...

    @property
    def public(self) -> PublicKey:
        """The public key."""
        ...

    def sign(self, tag: bytes, message: bytes) -> Signature:
        """Sign `message` under `tag`."""
        ...


def signing_key(algorithm: Algorithm, seed: bytes) -> SigningKey:
    """Return the private key made from 32 secret random bytes.

    Raises
    ------
    InvalidKey
        The seed has another length, or (P-256, about 1 in 2^32) is no scalar of the curve.
    """
    if len(seed) != SEED_SIZE:
        raise InvalidKey(f"a seed has {SEED_SIZE} bytes, not {len(seed)}")
    return Ed25519Key(seed) if algorithm == "ed25519" else P256Key(seed)


class Ed25519Key:
    """An Ed25519 private key (RFC 8032)."""

    __slots__ = ("_secret", "public")

    algorithm: Final[Algorithm] = "ed25519"

    def __init__(self, seed: bytes) -> None:
        public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.public = PublicKey(public)
        self._secret = secret

    def sign(self, tag: bytes, message: bytes) -> Signature:
        """Sign `message` under `tag`."""
        return Signature(nacl.bindings.crypto_sign(domain(tag) + message, self._secret)[:64])


class P256Key:
    """An ECDSA private key over P-256 with SHA-256, signing deterministically (RFC 6979), low S."""

    __slots__ = ("_key", "public")

    algorithm: Final[Algorithm] = "p256"

    def __init__(self, seed: bytes) -> None:
        scalar = int.from_bytes(seed, "big")
        if not 0 < scalar < P256_ORDER:
            raise InvalidKey("not a scalar of P-256")
        self._key = ec.derive_private_key(scalar, ec.SECP256R1())
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self.public = PublicKey(point)

    def sign(self, tag: bytes, message: bytes) -> Signature:
        """Sign `message` under `tag`."""
        r, s = decode_dss_signature(self._key.sign(domain(tag) + message, _P256_HASH))
        return normalise_p256(Signature(r.to_bytes(32, "big") + s.to_bytes(32, "big")))


@lru_cache(maxsize=KEY_CACHE_SIZE)
def _p256_point(public_key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
    except ValueError as error:
        raise InvalidKey("not a compressed point of P-256") from error


def _verify_ed25519(public_key: bytes, data: bytes, signature: bytes) -> bool:
    try:
        nacl.bindings.crypto_sign_open(signature + data, public_key)
    except nacl.exceptions.CryptoError:
        return False
    return True


def _verify_p256(public_key: bytes, data: bytes, signature: bytes) -> bool:
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if not (0 < r < P256_ORDER and 0 < s <= P256_ORDER // 2):
        return False
    try:
        _p256_point(public_key).verify(encode_dss_signature(r, s), data, _P256_VERIFY)
    except (InvalidKey, InvalidSignature):
        return False
    return True

"""X25519 keys: whoever has the private one reads what was encrypted for the public one.

A key of its own kind beside those that sign: a device's key proves who sent something, a reader's
key opens it, and neither can be made to do the other's work.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from chain.errors import InvalidKey

READER_KEY_SIZE: Final = 32

_ANY_SECRET: Final = bytes(range(READER_KEY_SIZE))


class ReaderKey:
    """The private key of a reader (RFC 7748).

    Parameters
    ----------
    seed : bytes of length 32
        Secret and random.
    """

    __slots__ = ("_key", "public")

    algorithm: Final = "x25519"

    def __init__(self, seed: bytes) -> None:
        if len(seed) != READER_KEY_SIZE:
            raise InvalidKey(f"a seed has {READER_KEY_SIZE} bytes, not {len(seed)}")
        self._key = X25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        """Return the secret that this key and the private one behind `public` have in common.

        Raises
        ------
        InvalidKey
            `public` is no key, or one of small order, with which the secret would be none.
        """
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise InvalidKey("no public key of X25519, or one of small order") from error


def check_reader_key(public: bytes) -> bytes:
    """Return `public` if something can be encrypted for it.

    Raises
    ------
    InvalidKey
        Another length, or of small order: whatever were encrypted for it, anybody could read.
    """
    ReaderKey(_ANY_SECRET).agree(public)
    return public

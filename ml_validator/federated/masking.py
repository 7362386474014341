"""Masks which hide an update and vanish from the sum of a group.

Each pair of members agrees on a keystream that one of them adds and the other subtracts; each
member adds one more of its own, its self mask. What the blobs of the survivors sum to is the sum of
their updates, once their self masks and the pair masks of the dropped members are taken off. Of one
member either the self mask's seed becomes known or its mask key, never both: with both, its blob
would tell its update. So the boxes that shares travel in need a key of their own
(`ml_validator.federated.share_box`). docs/spec/aggregation.md, section 2.

References
----------
K. Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", ACM CCS
2017, doi:10.1145/3133956.3133982.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ml_validator.errors import InvalidShare
from ml_validator.federated.fixed_point import BYTES_PER_PARAMETER, Integers, Words
from ml_validator.federated.secret_sharing import GROUP_SIZE_MAX, threshold

MASK_INFO: Final = b"securenet/fl/mask/1"
SELF_INFO: Final = b"securenet/fl/self/1"
KEY_SIZE: Final = 32
ID_SIZE: Final = 32

_NONCE: Final = bytes(16)
"""Counter and nonce of ChaCha20: each key makes one keystream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Members of one federated round that mask for each other.

    Parameters
    ----------
    round_id : bytes
        Of the federated round.
    index : int
        Of the group in it.
    members : tuple of bytes
        Ids in ascending order, at least 2.
    mask_keys, box_keys : tuple of bytes
        Public X25519 keys of the members, made for this round alone: for pair masks, and for the
        boxes of shares.
    """

    round_id: bytes
    index: int
    members: tuple[bytes, ...]
    mask_keys: tuple[bytes, ...]
    box_keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        assert 2 <= len(self.members) <= GROUP_SIZE_MAX, "a group hides each in the others"
        assert list(self.members) == sorted(set(self.members)), "ids ascend"
        assert len(self.mask_keys) == len(self.box_keys) == len(self.members), "a key for each"

    @property
    def threshold(self) -> int:
        """How many members must remain, and shares be revealed."""
        return threshold(len(self.members))

    def place(self, member: bytes) -> int:
        """Return the place of a member's shares: its index and 1."""
        return self.members.index(member) + 1


def public_key(private: bytes) -> bytes:
    """Return the public key of a private X25519 key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, *, owner: bytes) -> bytes:
    """Return the X25519 secret of two keys.

    Raises
    ------
    InvalidShare
        `public`, the key of `owner`, is of small order: the secret would be known to all.
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as error:
        raise InvalidShare(owner, "its public key agrees on no secret") from error


def derive(secret: bytes, *, salt: bytes, info: bytes, size: int = KEY_SIZE) -> bytes:
    """Return HKDF-SHA256 of a secret."""
    return HKDF(algorithm=hashes.SHA256(), length=size, salt=salt, info=info).derive(secret)


def keystream(key: bytes, count: int) -> Words:
    """Return `count` words of ChaCha20 under a key that is used for nothing else."""
    cipher = Cipher(ChaCha20(key, _NONCE), mode=None).encryptor()
    stream = cipher.update(_zeros(count))
    return np.frombuffer(stream, "<u8").astype(np.uint64, copy=False)


@lru_cache(maxsize=1)
def _zeros(count: int) -> bytes:
    return bytes(BYTES_PER_PARAMETER * count)


def self_mask(group: Group, member: bytes, *, seed: bytes, count: int) -> Words:
    """Return the mask of `member` alone."""
    info = SELF_INFO + group.index.to_bytes(4, "big") + member
    return keystream(derive(seed, salt=group.round_id, info=info), count)


def pair_mask(group: Group, member: bytes, other: bytes, *, private: bytes, count: int) -> Words:
    """Return what `member` adds for the sake of `other`, with the mask key of either of them.

    The lower id adds the keystream, the higher subtracts it.

    Parameters
    ----------
    private : bytes
        Private mask key of `member`.

    Raises
    ------
    InvalidShare
        The key of `other` agrees on no secret.
    """
    public = group.mask_keys[group.members.index(other)]
    lower, higher = sorted((member, other))
    info = MASK_INFO + group.index.to_bytes(4, "big") + lower + higher
    secret = agree(private, public, owner=other)
    stream = keystream(derive(secret, salt=group.round_id, info=info), count)
    return stream if member == lower else np.negative(stream)


def masked(
    update: Integers, *, group: Group, member: bytes, mask_private: bytes, self_seed: bytes
) -> Words:
    """Return what `member` publishes of its update.

    Raises
    ------
    InvalidShare
        The key of another member agrees on no secret; names that member.
    """
    count = len(update)
    total = update.view(np.uint64) + self_mask(group, member, seed=self_seed, count=count)
    for other in _others(group, member):
        total += pair_mask(group, member, other, private=mask_private, count=count)
    return total


def _others(group: Group, member: bytes) -> Iterable[bytes]:
    return (other for other in group.members if other != member)

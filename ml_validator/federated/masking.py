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

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from chain.errors import InvalidKey
from chain.federated.boxes import Handover, derive
from chain.federated.records import GROUP_MEMBERS_MAX, PARAMETER_BYTES, threshold
from chain.reader_keys import ReaderKey
from chain.types import Address, Digest
from ml_validator.errors import InvalidShare
from ml_validator.federated.fixed_point import Integers, Words

MASK_INFO: Final = b"securenet/fl/mask/1"
SELF_INFO: Final = b"securenet/fl/self/1"

_NONCE: Final = bytes(16)
"""Counter and nonce of ChaCha20: each key makes one keystream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Members of one federated round that mask for each other.

    Parameters
    ----------
    round_id : Digest
        Of the federated round.
    index : int
        Of the group in it.
    members : tuple of Address
        Ids of the devices that were drawn into it, ascending, at least 2.
    mask_keys, box_keys : tuple of bytes
        Public X25519 keys of the members, made for this round alone: for pair masks, and for the
        boxes of shares.
    absent : frozenset of Address
        Members that have not shared their secrets in time: with them nobody has a pair mask.
    """

    round_id: Digest
    index: int
    members: tuple[Address, ...]
    mask_keys: tuple[bytes, ...]
    box_keys: tuple[bytes, ...]
    absent: frozenset[Address] = frozenset()

    def __post_init__(self) -> None:
        assert 2 <= len(self.members) <= GROUP_MEMBERS_MAX, "a group hides each in the others"
        assert list(self.members) == sorted(set(self.members)), "ids ascend"
        assert len(self.mask_keys) == len(self.box_keys) == len(self.members), "a key for each"

    @property
    def threshold(self) -> int:
        """How many members must remain, and shares be revealed."""
        return threshold(len(self.members))

    @property
    def sharing(self) -> tuple[Address, ...]:
        """The members that have shared their secrets, in order."""
        return tuple(member for member in self.members if member not in self.absent)

    def place(self, member: Address) -> int:
        """Return the place of a member's shares: its index and 1."""
        return self.members.index(member) + 1

    def handover(self, owner: Address, receiver: Address) -> Handover:
        """Return what hashes and boxes of shares are bound to."""
        return Handover(round_id=self.round_id, owner=owner, receiver=receiver)


def keystream(key: bytes, count: int) -> Words:
    """Return `count` words of ChaCha20 under a key that is used for nothing else."""
    cipher = Cipher(ChaCha20(key, _NONCE), mode=None).encryptor()
    stream = cipher.update(_zeros(count))
    return np.frombuffer(stream, "<u8").astype(np.uint64, copy=False)


@lru_cache(maxsize=1)
def _zeros(count: int) -> bytes:
    return bytes(PARAMETER_BYTES * count)


def self_mask(group: Group, member: Address, *, seed: bytes, count: int) -> Words:
    """Return the mask of `member` alone."""
    info = SELF_INFO + group.index.to_bytes(4, "big") + member
    return keystream(derive(seed, salt=group.round_id, info=info), count)


def pair_mask(
    group: Group, member: Address, other: Address, *, private: ReaderKey, count: int
) -> Words:
    """Return what `member` adds for the sake of `other`, by the mask key of `member`.

    The lower id adds the keystream, the higher subtracts it.

    Parameters
    ----------
    private : ReaderKey
        Mask key of `member`.

    Raises
    ------
    InvalidShare
        The key of `other` agrees on no secret.
    """
    public = group.mask_keys[group.members.index(other)]
    lower, higher = sorted((member, other))
    info = MASK_INFO + group.index.to_bytes(4, "big") + lower + higher
    try:
        secret = private.agree(public)
    except InvalidKey as error:
        raise InvalidShare(other, "its public key agrees on no secret") from error
    stream = keystream(derive(secret, salt=group.round_id, info=info), count)
    return stream if member == lower else np.negative(stream)


def masked(
    update: Integers, *, group: Group, member: Address, mask_private: bytes, self_seed: bytes
) -> Words:
    """Return what `member` publishes of its update.

    Raises
    ------
    InvalidShare
        The key of another member agrees on no secret; names that member.
    """
    count = len(update)
    total = update.view(np.uint64) + self_mask(group, member, seed=self_seed, count=count)
    key = ReaderKey(mask_private)
    for other in group.sharing:
        if other != member:
            total += pair_mask(group, member, other, private=key, count=count)
    return total

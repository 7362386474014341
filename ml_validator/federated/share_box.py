"""The shares of a participant's two secrets: committed to, boxed for each member, and opened.

A share is committed to by a salted hash, and all of a participant by the Merkle root over them, so
that a false share proves its owner a liar without telling the others. The key under which a box is
closed is agreed on between keys for boxes, not those for masks: the mask key of a dropped member is
put together in public, and would open the boxes that hold its self mask.
docs/spec/aggregation.md, section 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chain.errors import InvalidProof
from chain.merkle import inclusion_proof, merkle_root, verify_inclusion
from chain.types import Digest
from ml_validator.errors import InvalidShare
from ml_validator.federated.masking import Group, agree, derive
from ml_validator.federated.secret_sharing import SHARE_SIZE

SHARE_INFO: Final = b"securenet/fl/share/1"
BOX_INFO: Final = b"securenet/fl/box/1"
SALT_SIZE: Final = 16
BOX_SIZE: Final = 2 * (SHARE_SIZE + SALT_SIZE) + 16
"""Two shares with their salts, and the tag of Poly1305."""

_NONCE: Final = bytes(12)
"""Each key closes one box."""


class Kind(IntEnum):
    """Which of a participant's secrets."""

    SELF_MASK = 0
    KEY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share with the salt of its hash."""

    share: bytes
    salt: bytes

    def leaf(self, *, round_id: bytes, owner: bytes, receiver: bytes, kind: Kind) -> bytes:
        """Return the salted hash."""
        place = round_id + owner + receiver + bytes((kind,))
        return sha256(SHARE_INFO + place + self.salt + self.share).digest()


Pair = tuple[Share, Share]
"""What one receiver gets: the shares of the self mask's seed and of the mask key."""


def leaves(group: Group, owner: bytes, pairs: Sequence[Pair]) -> list[bytes]:
    """Return the salted hashes in the order of the tree: receivers ascend, the self mask first."""
    return [
        pair[kind].leaf(round_id=group.round_id, owner=owner, receiver=receiver, kind=kind)
        for receiver, pair in zip(group.members, pairs, strict=True)
        for kind in Kind
    ]


def share_root(group: Group, owner: bytes, pairs: Sequence[Pair]) -> Digest:
    """Return what the owner commits to on the chain."""
    return merkle_root(leaves(group, owner, pairs))


def prove_share(
    group: Group, owner: bytes, pairs: Sequence[Pair], *, receiver: bytes, kind: Kind
) -> tuple[Digest, ...]:
    """Return the path from a share to the owner's root."""
    return inclusion_proof(leaves(group, owner, pairs), _leaf_index(group, receiver, kind))


def verify_share(
    group: Group,
    owner: bytes,
    share: Share,
    *,
    receiver: bytes,
    kind: Kind,
    root: bytes,
    path: Sequence[bytes],
) -> None:
    """Check that the owner committed to this share for this receiver.

    Raises
    ------
    InvalidShare
        It did not.
    """
    if len(share.share) != SHARE_SIZE or len(share.salt) != SALT_SIZE:
        raise InvalidShare(owner, "not the size of a share and its salt")
    leaf = share.leaf(round_id=group.round_id, owner=owner, receiver=receiver, kind=kind)
    try:
        verify_inclusion(
            root=root,
            leaf=leaf,
            index=_leaf_index(group, receiver, kind),
            leaf_count=len(Kind) * len(group.members),
            path=path,
        )
    except InvalidProof as error:
        raise InvalidShare(owner, f"not what it committed to: {error}") from error


def close_box(
    group: Group, *, owner: bytes, receiver: bytes, pair: Pair, box_private: bytes
) -> bytes:
    """Encrypt a receiver's two shares, under the owner's private key for boxes.

    Raises
    ------
    InvalidShare
        The receiver's key agrees on no secret.
    """
    key = _box_key(group, owner, receiver, private=box_private, other=receiver)
    content = b"".join(share.share + share.salt for share in pair)
    return ChaCha20Poly1305(key).encrypt(_NONCE, content, None)


def open_box(
    group: Group, *, owner: bytes, receiver: bytes, box: bytes, box_private: bytes
) -> Pair:
    """Decrypt the shares that `owner` made for `receiver`, under the receiver's private key.

    Raises
    ------
    InvalidShare
        It does not open.
    """
    if len(box) != BOX_SIZE:
        raise InvalidShare(owner, f"a box of {len(box)} bytes, not {BOX_SIZE}")
    key = _box_key(group, owner, receiver, private=box_private, other=owner)
    try:
        content = ChaCha20Poly1305(key).decrypt(_NONCE, box, None)
    except InvalidTag as error:
        raise InvalidShare(owner, "a box that does not open") from error
    half = SHARE_SIZE + SALT_SIZE
    first, second = (
        Share(share=content[start : start + SHARE_SIZE], salt=content[start + SHARE_SIZE :][:16])
        for start in (0, half)
    )
    return first, second


def to_reveal(
    group: Group, *, held: Mapping[bytes, Pair], survivors: Iterable[bytes]
) -> dict[bytes, tuple[Kind, Share]]:
    """Return what a member reveals of the shares it holds, by their owners.

    One share of each owner: of a survivor's self mask, or of a dropped member's key. The set of
    survivors is final when it is asked for; a member reveals once, and for one such set.
    """
    remained = set(survivors)
    revealed = {}
    for owner in group.members:
        if owner in held:
            kind = Kind.SELF_MASK if owner in remained else Kind.KEY
            revealed[owner] = (kind, held[owner][kind])
    return revealed


def _leaf_index(group: Group, receiver: bytes, kind: Kind) -> int:
    return len(Kind) * group.members.index(receiver) + kind


def _box_key(group: Group, owner: bytes, receiver: bytes, *, private: bytes, other: bytes) -> bytes:
    public = group.box_keys[group.members.index(other)]
    secret = agree(private, public, owner=other)
    return derive(secret, salt=group.round_id, info=BOX_INFO + owner + receiver)

"""The shares of a participant's two secrets: hashed, boxed for each member, opened and revealed.

Hashes and keys of boxes are `chain.federated.boxes`, by which the chain judges. The keys under
which boxes are closed are not those for masks: the mask key of a dropped member is put together in
public, and would open the boxes that hold its self mask. docs/spec/federated.md, section 5.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chain.federated.boxes import (
    BOX_NONCE,
    ShareKind,
    box_key,
    is_usable_key,
    open_box,
    share_hash,
)
from chain.types import DIGEST_SIZE, Address
from ml_validator.errors import InvalidShare
from ml_validator.federated.masking import Group

Pair = tuple[bytes, bytes]
"""What one receiver gets: salted shares of the self mask's seed and of the mask key."""

_HASHES_OF_ONE: Final = len(ShareKind) * DIGEST_SIZE


def share_hashes(group: Group, owner: Address, pairs: Sequence[Pair]) -> bytes:
    """Return `hashes` of a `round.share`: members in order, the owner among them."""
    return b"".join(
        share_hash(salted, kind, group.handover(owner, receiver))
        for receiver, pair in zip(group.members, pairs, strict=True)
        for kind, salted in zip(ShareKind, pair, strict=True)
    )


def close_box(
    group: Group, *, owner: Address, receiver: Address, pair: Pair, box_private: bytes
) -> bytes:
    """Encrypt a receiver's two shares, under the owner's secret for boxes.

    Raises
    ------
    InvalidShare
        The receiver's key agrees on no secret; the chain takes no such key.
    """
    key = _key(group, owner, receiver, private=box_private, other=receiver)
    return ChaCha20Poly1305(key).encrypt(BOX_NONCE, b"".join(pair), None)


def open_checked(
    group: Group,
    *,
    owner: Address,
    receiver: Address,
    box: bytes,
    hashes: bytes,
    box_private: bytes,
) -> Pair:
    """Decrypt the shares that `owner` made for `receiver`, under the receiver's secret for boxes.

    Parameters
    ----------
    hashes : bytes
        Of the owner's `round.share`.

    Raises
    ------
    InvalidShare
        It does not open, or holds other shares than were hashed: grounds for a complaint.
    """
    key = _key(group, owner, receiver, private=box_private, other=owner)
    pair = open_box(key, box)
    if pair is None:
        raise InvalidShare(owner, "a box that does not open")
    start = _HASHES_OF_ONE * group.members.index(receiver)
    found = b"".join(
        share_hash(salted, kind, group.handover(owner, receiver))
        for kind, salted in zip(ShareKind, pair, strict=True)
    )
    if found != hashes[start : start + _HASHES_OF_ONE]:
        raise InvalidShare(owner, "others than it has hashed")
    return pair


def to_reveal(
    group: Group, *, held: Mapping[Address, Pair], included: Iterable[Address]
) -> tuple[bytes | None, ...]:
    """Return `shares` of an `update.reveal`: one for each member that has shared, in order.

    Of an included member that of the self mask, of a dropped one that of the key; None where none
    is held. Who is included is final when it is asked for; a member reveals once.
    """
    remained = set(included)
    shares = []
    for owner in group.sharing:
        kind = ShareKind.SELF_MASK if owner in remained else ShareKind.KEY
        shares.append(held[owner][kind] if owner in held else None)
    return tuple(shares)


def _key(
    group: Group, owner: Address, receiver: Address, *, private: bytes, other: Address
) -> bytes:
    public = group.box_keys[group.members.index(other)]
    if not is_usable_key(public):
        raise InvalidShare(other, "its key for boxes agrees on no secret")
    return box_key(private, public, group.handover(owner, receiver))

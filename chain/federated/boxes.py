"""How members of a group hand each other shares of their secrets, and what proves a share.

Two members agree on a pad that nobody else knows. To as many as the threshold allows the pad is the
share; the others get, in a box, what leads from the pad to theirs. The chain opens a box only to
settle a complaint, by the lines with which members do. docs/spec/federated.md, section 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chain.errors import InvalidKey
from chain.federated.records import (
    BOX_SIZE,
    SHARE_HASH_SIZE,
    SHARE_SIZE,
    Member,
    SharesRecord,
    threshold,
)
from chain.reader_keys import ReaderKey, check_reader_key
from chain.types import Address, Digest

PRIME: Final = 2**256 - 189
"""Shares are numbers below it, the largest prime of 32 bytes: random bytes are as good as one."""
SHARE_LABEL: Final = b"securenet/fl/share/2"
PAD_LABEL: Final = b"securenet/fl/pad/1"

Pair = tuple[bytes, bytes]
"""What is between an owner and one receiver: one of the self mask's seed, one of the mask key."""


class ShareKind(IntEnum):
    """Which of its two secrets a member has shared."""

    SELF_MASK = 0
    """Revealed of whom is in the sum: takes its own mask off."""
    KEY = 1
    """Revealed of whom has dropped out: takes off the masks that others share with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Between whom shares are handed over, and in which round."""

    round_id: Digest
    owner: Address
    receiver: Address

    @property
    def label(self) -> bytes:
        """The ids of both ends, the owner's first."""
        return self.owner + self.receiver


def is_usable_key(key: bytes) -> bool:
    """Tell whether an X25519 key is not one of those with which everybody shares the secret 0."""
    try:
        check_reader_key(key)
    except InvalidKey:
        return False
    return True


def public_key_of(secret: bytes) -> bytes:
    """Return the X25519 key of 32 secret bytes."""
    return ReaderKey(secret).public


def derive(secret: bytes, *, salt: bytes, info: bytes, size: int = 32) -> bytes:
    """Return HKDF-SHA256 of a secret."""
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=info).derive(secret)


def element(number: int) -> bytes:
    """Return a number modulo the prime, in the bytes of a share."""
    return (number % PRIME).to_bytes(SHARE_SIZE, "big")


def pads_of(secret: bytes, other_key: bytes, handover: Handover) -> Pair:
    """Return the pads of a handover, which its owner and its receiver can compute.

    Parameters
    ----------
    secret : bytes
        Of the key for boxes of one of them.
    other_key : bytes
        The key for boxes of the other.

    Raises
    ------
    InvalidKey
        With `other_key` everybody shares the secret 0.
    """
    shared = ReaderKey(secret).agree(other_key)
    info = PAD_LABEL + handover.label
    pads = derive(shared, salt=handover.round_id, info=info, size=2 * SHARE_SIZE)
    return _element_of(pads[:SHARE_SIZE]), _element_of(pads[SHARE_SIZE:])


def padded_count(members: int) -> int:
    """Return to how many others the pad is the share: with the secret they fix its polynomial."""
    return threshold(members) - 1


def close_box(pads: Pair, shares: Pair) -> bytes:
    """Return what leads from the pads to the shares."""
    return b"".join(
        element(int.from_bytes(share, "big") - int.from_bytes(pad, "big"))
        for pad, share in zip(pads, shares, strict=True)
    )


def open_box(pads: Pair, box: bytes) -> Pair:
    """Return the shares to which a box leads; anything is a box of some shares."""
    found = [
        element(int.from_bytes(pad, "big") + int.from_bytes(part, "big"))
        for pad, part in zip(pads, (box[:SHARE_SIZE], box[SHARE_SIZE:]), strict=True)
    ]
    return found[0], found[1]


def share_hash(share: bytes, kind: ShareKind, handover: Handover) -> bytes:
    """Return the hash by which an owner is bound to a share."""
    about = handover.round_id + handover.label + bytes((kind,))
    return sha256(SHARE_LABEL + about + share).digest()[:SHARE_HASH_SIZE]


def handed_over(
    record: SharesRecord,
    handover: Handover,
    *,
    members: Sequence[Address],
    secret: bytes,
    owner_key: bytes,
) -> Pair | None:
    """Return the shares that an owner has handed to a receiver; None where it has hashed others.

    Parameters
    ----------
    members : sequence of Address
        The group, in order.
    secret : bytes
        Of the receiver's key for boxes.
    owner_key : bytes
        The owner's key for boxes.

    Raises
    ------
    InvalidKey
        As `pads_of`; the chain takes no such key.
    """
    owner, place = members.index(handover.owner), members.index(handover.receiver)
    shares = pads_of(secret, owner_key, handover)
    index = place - (place > owner) - padded_count(len(members))
    if index >= 0:
        shares = open_box(shares, record.boxes[BOX_SIZE * index : BOX_SIZE * (index + 1)])
    hashed = [record.hash_of(place, kind) for kind in ShareKind]
    found = [
        share_hash(share, kind, handover) for kind, share in zip(ShareKind, shares, strict=True)
    ]
    return shares if found == hashed else None


def kind_to_reveal(owner: Member) -> ShareKind:
    """Return which share of a member that has shared may be revealed.

    Who is in the sum was fixed when revealing began, and only once. So of nobody both kinds are
    ever revealed, by one member or by several.
    """
    return ShareKind.SELF_MASK if owner.status == "included" else ShareKind.KEY


def _element_of(data: bytes) -> bytes:
    return element(int.from_bytes(data, "big"))

"""How members of a group hand each other shares of their secrets, and what proves a share.

The chain opens a box only to settle a complaint; members seal and open them with the same key.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chain.errors import InvalidKey
from chain.federated.records import SALTED_SHARE_SIZE, SHARE_SIZE
from chain.reader_keys import ReaderKey, check_reader_key
from chain.types import Address, Digest

SHARE_LABEL: Final = b"securenet/fl/share/1"
BOX_LABEL: Final = b"securenet/fl/box/1"
BOX_NONCE: Final = bytes(12)
"""Every key seals one box."""


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


def box_key(secret: bytes, other_key: bytes, handover: Handover) -> bytes:
    """Return the key of a box, which its owner and its receiver can compute.

    Parameters
    ----------
    secret : bytes
        Of the key for boxes of one of them.
    other_key : bytes
        The usable key for boxes of the other.
    """
    shared = ReaderKey(secret).agree(other_key)
    info = BOX_LABEL + handover.label
    return HKDF(algorithm=SHA256(), length=32, salt=handover.round_id, info=info).derive(shared)


def open_box(key: bytes, box: bytes) -> tuple[bytes, bytes] | None:
    """Return the salted shares in a box, of the self mask and of the key; None if it is broken."""
    try:
        opened = ChaCha20Poly1305(key).decrypt(BOX_NONCE, box, None)
    except InvalidTag:
        return None
    return opened[:SALTED_SHARE_SIZE], opened[SALTED_SHARE_SIZE:]


def share_hash(salted: bytes, kind: ShareKind, handover: Handover) -> Digest:
    """Return the hash by which an owner is bound to a share.

    Parameters
    ----------
    salted : bytes
        The share and its salt.
    """
    share, salt = salted[:SHARE_SIZE], salted[SHARE_SIZE:]
    about = handover.round_id + handover.label + bytes((kind,))
    return Digest(sha256(SHARE_LABEL + about + salt + share).digest())

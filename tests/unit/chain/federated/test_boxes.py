"""What members of a group hand each other: keys from both ends, and hashes that bind."""

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chain.federated.boxes import (
    BOX_NONCE,
    Handover,
    ShareKind,
    box_key,
    is_usable_key,
    open_box,
    public_key_of,
    share_hash,
)
from chain.federated.records import BOX_SIZE, SALTED_SHARE_SIZE, SHARE_SIZE, threshold
from chain.types import Address
from tests.builders import digest_of

OWNER, RECEIVER = (sha256(name).digest() for name in (b"owner", b"receiver"))
HANDOVER = Handover(
    round_id=digest_of("round"),
    owner=Address(digest_of("owner")),
    receiver=Address(digest_of("receiver")),
)
SALTED = bytes(range(SALTED_SHARE_SIZE))


def test_both_ends_compute_the_key_of_a_box():
    sealed = ChaCha20Poly1305(box_key(OWNER, public_key_of(RECEIVER), HANDOVER)).encrypt(
        BOX_NONCE, SALTED + SALTED[::-1], None
    )

    opened = open_box(box_key(RECEIVER, public_key_of(OWNER), HANDOVER), sealed)

    assert len(sealed) == BOX_SIZE
    assert opened == (SALTED, SALTED[::-1])


def test_a_box_in_the_other_direction_has_another_key():
    back = replace(HANDOVER, owner=HANDOVER.receiver, receiver=HANDOVER.owner)

    assert box_key(OWNER, public_key_of(RECEIVER), HANDOVER) != box_key(
        OWNER, public_key_of(RECEIVER), back
    )


def test_a_broken_box_does_not_open():
    assert open_box(bytes(32), bytes(BOX_SIZE)) is None


def test_a_hash_binds_share_salt_kind_round_and_both_ends():
    changes = [
        (SALTED[:-1] + b"x", ShareKind.KEY, HANDOVER),
        (b"x" + SALTED[1:], ShareKind.KEY, HANDOVER),
        (SALTED, ShareKind.SELF_MASK, HANDOVER),
        (SALTED, ShareKind.KEY, replace(HANDOVER, round_id=digest_of("another"))),
        (SALTED, ShareKind.KEY, replace(HANDOVER, owner=HANDOVER.receiver)),
        (SALTED, ShareKind.KEY, replace(HANDOVER, receiver=HANDOVER.owner)),
    ]

    hashes = {share_hash(*change) for change in changes}

    assert len(hashes - {share_hash(SALTED, ShareKind.KEY, HANDOVER)}) == len(changes)


def test_the_hash_is_the_one_of_the_specification():
    expected = sha256(
        b"securenet/fl/share/1"
        + HANDOVER.round_id
        + HANDOVER.owner
        + HANDOVER.receiver
        + b"\x01"
        + SALTED[SHARE_SIZE:]
        + SALTED[:SHARE_SIZE]
    ).digest()

    assert share_hash(SALTED, ShareKind.KEY, HANDOVER) == expected


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        b"\x01" + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        b"\xec" + b"\xff" * 30 + b"\x7f",
        b"\xed" + b"\xff" * 30 + b"\x7f",
        b"\xee" + b"\xff" * 30 + b"\x7f",
    ],
)
def test_keys_of_small_order_are_not_usable(key):
    assert not is_usable_key(key)
    assert is_usable_key(public_key_of(OWNER))


@pytest.mark.parametrize(
    ("size", "needed"), [(1, 1), (3, 3), (4, 3), (5, 4), (6, 5), (9, 7), (10, 7), (63, 43)]
)
def test_more_than_two_thirds_of_a_group_restore_a_secret(size, needed):
    assert threshold(size) == needed

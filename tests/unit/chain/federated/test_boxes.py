"""What members of a group hand each other: pads from both ends, and hashes that bind."""

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import InvalidKey
from chain.federated.boxes import (
    PRIME,
    Handover,
    ShareKind,
    close_box,
    element,
    handed_over,
    is_usable_key,
    open_box,
    padded_count,
    pads_of,
    public_key_of,
    share_hash,
)
from chain.federated.records import (
    BOX_SIZE,
    GROUP_MEMBERS_MAX,
    SHARE_SIZE,
    SharesRecord,
    box_count,
    threshold,
)
from chain.types import Address
from tests.builders import digest_of

OWNER, RECEIVER = (sha256(name).digest() for name in (b"owner", b"receiver"))
HANDOVER = Handover(
    round_id=digest_of("round"),
    owner=Address(digest_of("owner")),
    receiver=Address(digest_of("receiver")),
)
SHARE = bytes(range(SHARE_SIZE))
elements = st.integers(0, PRIME - 1).map(element)
pairs = st.tuples(elements, elements)


def test_both_ends_compute_the_pads_and_nobody_else():
    pads = pads_of(OWNER, public_key_of(RECEIVER), HANDOVER)

    assert pads == pads_of(RECEIVER, public_key_of(OWNER), HANDOVER)
    assert pads != pads_of(sha256(b"third").digest(), public_key_of(OWNER), HANDOVER)
    assert pads[0] != pads[1]


def test_pads_in_the_other_direction_and_in_other_rounds_are_others():
    back = replace(HANDOVER, owner=HANDOVER.receiver, receiver=HANDOVER.owner)
    later = replace(HANDOVER, round_id=digest_of("another"))
    pads = [pads_of(OWNER, public_key_of(RECEIVER), item) for item in (HANDOVER, back, later)]

    assert len({pad for pair in pads for pad in pair}) == 6


def test_with_a_key_of_small_order_there_are_no_pads():
    with pytest.raises(InvalidKey):
        pads_of(OWNER, bytes(32), HANDOVER)


@given(pads=pairs, shares=pairs)
def test_a_box_leads_from_the_pads_to_the_shares(pads, shares):
    box = close_box(pads, shares)

    assert len(box) == BOX_SIZE
    assert open_box(pads, box) == shares


@given(pads=pairs, box=st.binary(min_size=BOX_SIZE, max_size=BOX_SIZE))
def test_whatever_is_in_a_box_opens_to_shares(pads, box):
    for share in open_box(pads, box):
        assert int.from_bytes(share, "big") < PRIME


@given(shares=pairs, box=st.binary(min_size=BOX_SIZE, max_size=BOX_SIZE))
def test_a_box_fits_any_shares(shares, box):
    # For those who do not know the pads there are pads that make the same box of other shares.
    parts = [element(int.from_bytes(box[at : at + SHARE_SIZE], "big")) for at in (0, SHARE_SIZE)]
    pads = [
        element(int.from_bytes(share, "big") - int.from_bytes(part, "big"))
        for share, part in zip(shares, parts, strict=True)
    ]

    assert open_box((pads[0], pads[1]), b"".join(parts)) == shares


def test_a_hash_binds_share_kind_round_and_both_ends():
    changes = [
        (SHARE[:-1] + b"x", ShareKind.KEY, HANDOVER),
        (b"x" + SHARE[1:], ShareKind.KEY, HANDOVER),
        (SHARE, ShareKind.SELF_MASK, HANDOVER),
        (SHARE, ShareKind.KEY, replace(HANDOVER, round_id=digest_of("another"))),
        (SHARE, ShareKind.KEY, replace(HANDOVER, owner=HANDOVER.receiver)),
        (SHARE, ShareKind.KEY, replace(HANDOVER, receiver=HANDOVER.owner)),
    ]

    hashes = {share_hash(*change) for change in changes}

    assert len(hashes - {share_hash(SHARE, ShareKind.KEY, HANDOVER)}) == len(changes)


def test_the_hash_is_the_one_of_the_specification():
    about = HANDOVER.round_id + HANDOVER.owner + HANDOVER.receiver + b"\x01"
    expected = sha256(b"securenet/fl/share/2" + about + SHARE).digest()[:16]

    assert share_hash(SHARE, ShareKind.KEY, HANDOVER) == expected


@pytest.mark.parametrize("place", [0, 1, 3, 4])
def test_what_is_handed_over_is_what_was_hashed_or_nothing(place):
    members = [Address(bytes([number]) * 32) for number in range(5)]
    owner, receiver = members[2], members[place]
    handover = replace(HANDOVER, owner=owner, receiver=receiver)
    pads = pads_of(OWNER, public_key_of(RECEIVER), handover)
    # Of four others three have pads; the last, at place 4, has a box.
    shares = (SHARE, SHARE[::-1]) if place == 4 else pads
    record = SharesRecord(hashes=b"", boxes=close_box(pads, shares))
    for position in range(5):
        for kind, share in zip(ShareKind, shares, strict=True):
            hashed = share_hash(share, kind, handover) if position == place else bytes(16)
            record = replace(record, hashes=record.hashes + hashed)

    def received(found):
        return handed_over(
            found, handover, members=members, secret=RECEIVER, owner_key=public_key_of(OWNER)
        )

    assert received(record) == shares
    for at in (32 * place, 32 * place + 31):
        hashes = bytearray(record.hashes)
        hashes[at] ^= 1
        assert received(replace(record, hashes=bytes(hashes))) is None
    broken = replace(record, boxes=bytes(BOX_SIZE))
    assert received(broken) == (None if place == 4 else shares)


@pytest.mark.parametrize("size", range(1, GROUP_MEMBERS_MAX + 1))
def test_every_member_has_its_own_share_a_pad_or_a_box(size):
    assert 1 + padded_count(size) + box_count(size) == size
    assert box_count(size) <= box_count(GROUP_MEMBERS_MAX)


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

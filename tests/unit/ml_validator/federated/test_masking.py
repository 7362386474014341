"""A masked group gives the sum of its survivors and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.federated.boxes import ShareKind, box_key, open_box, public_key_of
from chain.federated.records import SHARE_SIZE
from chain.types import Digest
from ml_validator.errors import InvalidShare, VoidGroup
from ml_validator.federated.fixed_point import prepared
from ml_validator.federated.group_sum import group_mean, group_sum
from ml_validator.federated.secret_sharing import combine
from ml_validator.federated.share_box import close_box, open_checked, to_reveal
from tests.unit.ml_validator.federated.helpers import (
    collect,
    held_by,
    make_group,
    make_rules,
    make_secrets,
)

COUNT = 4


def update_of(number: int) -> np.ndarray:
    return np.array([number, -number, 1, 2**40 - number], np.int64)


@st.composite
def dropouts(draw):
    """Members, and which of them survive."""
    members = draw(st.integers(2, 7))
    survivors = draw(st.sets(st.integers(0, members - 1)))
    return members, survivors


@settings(deadline=None, max_examples=60)
@given(dropouts(), st.integers(0, 2**32 - 1))
def test_the_sum_is_exact_for_every_dropout_down_to_the_threshold_and_void_below(pattern, index):
    members, survivors = pattern
    secrets = make_secrets(members)
    group = make_group(secrets, index=index)
    updates = {secrets[i].member: update_of(i + 1) for i in survivors}

    given_input = collect(group, secrets, updates)

    if len(survivors) >= group.threshold:
        expected = np.sum(list(updates.values()), axis=0)
        assert group_sum(given_input).tolist() == expected.tolist()
    else:
        with pytest.raises(VoidGroup, match="are needed"):
            group_sum(given_input)


def test_a_group_is_void_when_too_few_survivors_reveal():
    secrets = make_secrets(4)
    group = make_group(secrets)
    updates = {own.member: update_of(1) for own in secrets}
    names = [own.member for own in secrets]

    assert group_sum(collect(group, secrets, updates, revealing=set(names[:3]))).tolist() == [
        value * 4 for value in update_of(1).tolist()
    ]
    with pytest.raises(VoidGroup, match="3 are needed"):
        group_sum(collect(group, secrets, updates, revealing=set(names[:2])))


def test_nobody_masks_for_members_that_never_shared_and_places_stay():
    secrets = make_secrets(7)
    silent, dropped, *rest = [own.member for own in secrets]
    group = replace(make_group(secrets), absent=frozenset({silent}))
    updates = {member: update_of(2) for member in rest}

    collected = collect(group, secrets, updates)
    key_shares = {dropped: collected.key_shares[dropped]}
    given_input = replace(collected, key_shares=key_shares)

    assert group.threshold == len(rest) == 5
    assert group_sum(given_input).tolist() == [5 * value for value in update_of(2).tolist()]


def test_a_masked_update_looks_like_noise():
    secrets = make_secrets(3)
    group = make_group(secrets)

    blob = secrets[0].masked(np.zeros(2000, np.int64), group)

    bits = np.unpackbits(blob.view(np.uint8))
    # 128,000 fair coins: five standard deviations are 900.
    assert abs(int(bits.sum()) - len(bits) // 2) < 900
    assert len(np.unique(blob)) == len(blob)


def test_masks_of_other_rounds_groups_and_members_differ():
    secrets = make_secrets(3)
    group = make_group(secrets)
    zero = np.zeros(COUNT, np.int64)

    other_round = make_secrets(3, round_id=Digest(b"r" * 32))
    blobs = [
        secrets[0].masked(zero, group),
        secrets[1].masked(zero, group),
        secrets[0].masked(zero, make_group(secrets, index=1)),
        other_round[0].masked(zero, make_group(other_round)),
    ]

    assert len({blob.tobytes() for blob in blobs}) == len(blobs)


def test_a_restarted_participant_sends_the_same_bytes():
    secrets = make_secrets(3)
    group = make_group(secrets)
    again = replace(secrets[0])

    assert again.masked(update_of(5), group).tobytes() == (
        secrets[0].masked(update_of(5), group).tobytes()
    )
    assert again.boxes(group) == secrets[0].boxes(group)
    assert again.hashes(group) == secrets[0].hashes(group)


class Public:
    """What everyone knows in the end: boxes, reveals, and what follows from them."""

    def __init__(self, secrets, group, survivors):
        self.group = group
        self.boxes = {own.member: own.boxes(group) for own in secrets}
        self.shares: dict[ShareKind, dict[bytes, dict[int, bytes]]] = {
            kind: {member: {} for member in group.members} for kind in ShareKind
        }
        for member, held in held_by(secrets, group).items():
            if member in survivors:
                revealed = to_reveal(group, held=held, included=survivors)
                for owner, salted in zip(group.members, revealed, strict=True):
                    kind = ShareKind.SELF_MASK if owner in survivors else ShareKind.KEY
                    self.learn(kind, owner, member, salted)

    def learn(self, kind, owner, receiver, salted):
        self.shares[kind][owner][self.group.place(receiver)] = salted[:SHARE_SIZE]

    def secrets_of(self, kind):
        return {
            owner: combine(shares, members=len(self.group.members), owner=owner)
            for owner, shares in self.shares[kind].items()
            if len(shares) >= self.group.threshold
        }

    def open_all(self, private_keys):
        """Try every box with the private keys of its owner and its receiver."""
        for owner, sent in self.boxes.items():
            for receiver, box in sent.items():
                for name, other in ((owner, receiver), (receiver, owner)):
                    if name in private_keys:
                        public = self.group.box_keys[self.group.members.index(other)]
                        handover = self.group.handover(owner, receiver)
                        pair = open_box(box_key(private_keys[name], public, handover), box)
                        for kind in ShareKind:
                            if pair is not None:
                                self.learn(kind, owner, receiver, pair[kind])


@pytest.mark.attack("F10")
@settings(deadline=None, max_examples=40)
@given(dropouts())
def test_no_reveal_yields_both_secrets_of_one_participant(pattern):
    members, survivors = pattern
    secrets = make_secrets(members)
    group = make_group(secrets)
    remained = {secrets[i].member for i in survivors}

    public = Public(secrets, group, remained)
    public.open_all(public.secrets_of(ShareKind.KEY))

    self_seeds, keys = public.secrets_of(ShareKind.SELF_MASK), public.secrets_of(ShareKind.KEY)
    assert not self_seeds.keys() & keys.keys()
    if len(remained) >= group.threshold:
        assert self_seeds.keys() == remained
        assert keys.keys() == set(group.members) - remained


@pytest.mark.attack("F10")
@settings(deadline=None, max_examples=40)
@given(dropouts(), st.data())
def test_colluders_below_the_threshold_learn_no_two_secrets_of_another(pattern, data):
    members, survivors = pattern
    secrets = make_secrets(members)
    group = make_group(secrets)
    colluders = data.draw(st.sets(st.sampled_from(group.members), max_size=group.threshold - 1))
    public = Public(secrets, group, {secrets[i].member for i in survivors})

    held = held_by(secrets, group)
    for colluder in colluders:
        for owner, pair in held[colluder].items():
            for kind in ShareKind:
                public.learn(kind, owner, colluder, pair[kind])
    public.open_all(public.secrets_of(ShareKind.KEY))
    public.open_all({own.member: own.box_private for own in secrets if own.member in colluders})

    both = public.secrets_of(ShareKind.SELF_MASK).keys() & public.secrets_of(ShareKind.KEY).keys()
    assert not both - colluders


@pytest.mark.attack("F10")
def test_with_one_key_for_masks_and_boxes_the_dropped_would_lose_both_secrets():
    # The reason for the second key; the oracle above can tell.
    secrets = make_secrets(4)
    group = make_group(secrets)
    one_key = replace(group, box_keys=group.mask_keys)
    dropped = secrets[0].member
    public = Public(secrets, group, {own.member for own in secrets[1:]})
    public.group = one_key
    public.boxes = {
        own.member: {
            receiver: close_box(
                one_key,
                owner=own.member,
                receiver=receiver,
                pair=pair,
                box_private=own.mask_private,
            )
            for receiver, pair in zip(one_key.members, own.pairs(one_key), strict=True)
            if receiver != own.member
        }
        for own in secrets
    }

    public.open_all(public.secrets_of(ShareKind.KEY))

    assert public.secrets_of(ShareKind.SELF_MASK)[dropped] == secrets[0].self_seed
    assert public.secrets_of(ShareKind.KEY)[dropped] == secrets[0].mask_private


@pytest.mark.parametrize("kind", ShareKind)
def test_a_box_with_other_shares_than_were_hashed_is_refused(kind):
    secrets = make_secrets(3)
    group = make_group(secrets)
    owner, receiver = secrets[1], secrets[2]
    pair = list(owner.pairs(group)[2])
    pair[kind] = bytes(len(pair[kind]))
    box = close_box(
        group,
        owner=owner.member,
        receiver=receiver.member,
        pair=(pair[0], pair[1]),
        box_private=owner.box_private,
    )

    with pytest.raises(InvalidShare, match="others than it has hashed"):
        open_checked(
            group,
            owner=owner.member,
            receiver=receiver.member,
            box=box,
            hashes=owner.hashes(group),
            box_private=receiver.box_private,
        )


def test_a_box_opens_for_its_receiver_alone():
    secrets = make_secrets(3)
    group = make_group(secrets)
    owner, receiver, third = secrets
    box = owner.boxes(group)[receiver.member]

    def opened(who, private, data):
        return open_checked(
            group,
            owner=owner.member,
            receiver=who.member,
            box=data,
            hashes=owner.hashes(group),
            box_private=private,
        )

    assert opened(receiver, receiver.box_private, box) == owner.pairs(group)[1]
    for who, private, data in (
        (third, third.box_private, box),
        (receiver, third.box_private, box),
        (receiver, receiver.box_private, box[:-1] + bytes((box[-1] ^ 1,))),
        (receiver, receiver.box_private, box[:-1]),
    ):
        with pytest.raises(InvalidShare, match="does not open"):
            opened(who, private, data)


def test_a_share_that_is_not_held_is_left_out_of_what_is_revealed():
    secrets = make_secrets(3)
    group = make_group(secrets, absent=frozenset({secrets[2].member}))
    held = held_by(secrets, group)[secrets[0].member]
    missing = {secrets[0].member: held[secrets[0].member]}

    revealed = to_reveal(group, held=missing, included=group.members)

    assert revealed == (held[secrets[0].member][ShareKind.SELF_MASK], None)


def test_whoever_has_shared_nothing_is_in_no_mask():
    secrets = make_secrets(5)
    group = make_group(secrets, absent=frozenset({secrets[3].member}))
    updates = {own.member: update_of(i) for i, own in enumerate(secrets) if i != 3}

    assert group_sum(collect(group, secrets, updates)).tolist() == (
        np.sum(list(updates.values()), axis=0).tolist()
    )


def test_a_key_that_agrees_on_no_secret_names_its_owner():
    secrets = make_secrets(3)
    group = make_group(secrets)
    masks = replace(group, mask_keys=(group.mask_keys[0], bytes(32), group.mask_keys[2]))
    boxes = replace(group, box_keys=(group.box_keys[0], bytes(32), group.box_keys[2]))

    with pytest.raises(InvalidShare, match=secrets[1].member.hex()):
        secrets[0].masked(update_of(1), masks)
    with pytest.raises(InvalidShare, match=secrets[1].member.hex()):
        secrets[0].boxes(boxes)


def test_shares_of_another_key_than_the_announced_void_the_group():
    secrets = make_secrets(4)
    group = make_group(secrets)
    updates = {own.member: update_of(1) for own in secrets[:3]}
    given_input = collect(group, secrets, updates)
    announced = (*group.mask_keys[:3], public_key_of(b"k" * 32))

    with pytest.raises(VoidGroup, match="another key than the announced"):
        group_sum(replace(given_input, group=replace(group, mask_keys=announced)))


@pytest.mark.attack("F9")
def test_a_member_that_breaks_the_bound_voids_its_group():
    secrets = make_secrets(3)
    group = make_group(secrets)
    rules = make_rules(norm_max=1000, weight_total=3)
    honest = prepared(np.array([1e-3, 2e-3, 0.0, 0.0]), rules=rules)
    weights = {own.member: 1 for own in secrets}
    within = collect(group, secrets, {own.member: honest for own in secrets})
    beyond = collect(
        group,
        secrets,
        {own.member: honest for own in secrets[:2]}
        | {secrets[2].member: np.array([2**62, 0, 0, 0], np.int64)},
    )

    assert group_mean(within, weights=weights, rules=rules).tolist() == honest.tolist()
    with pytest.raises(VoidGroup, match="no permitted sum"):
        group_mean(beyond, weights=weights, rules=rules)


def test_a_group_mean_is_weighted_by_its_survivors():
    secrets = make_secrets(4)
    group = make_group(secrets)
    rules = make_rules(parameters=1, fraction_bits=0, weight_total=100)
    weights = {own.member: weight for own, weight in zip(secrets, (1, 2, 4, 50), strict=True)}
    updates = {
        own.member: prepared(np.array([value]), rules=rules, weight=weights[own.member])
        for own, value in zip(secrets[:3], (10.0, 20.0, 30.0), strict=True)
    }

    mean = group_mean(collect(group, secrets, updates), weights=weights, rules=rules)

    # (10 + 40 + 120) / 7 = 24.28…
    assert mean.tolist() == [24]


def test_blobs_must_be_those_of_the_sum():
    secrets = make_secrets(3)
    group = make_group(secrets)
    given_input = collect(group, secrets, {own.member: update_of(1) for own in secrets})

    tampered = dict(given_input.blobs)
    tampered[secrets[0].member] = tampered[secrets[0].member] + np.uint64(1)

    assert group_sum(replace(given_input, blobs=tampered)).tolist() == [
        value * 3 + 1 for value in update_of(1).tolist()
    ]

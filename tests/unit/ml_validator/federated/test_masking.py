"""A masked group gives the sum of its survivors and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.federated.boxes import (
    ShareKind,
    handed_over,
    open_box,
    padded_count,
    pads_of,
    public_key_of,
)
from chain.federated.records import BOX_SIZE
from chain.types import Digest
from ml_validator.errors import InvalidShare, VoidGroup
from ml_validator.federated.fixed_point import prepared
from ml_validator.federated.group_sum import group_mean, group_sum
from ml_validator.federated.round_secrets import RoundSecrets
from ml_validator.federated.secret_sharing import combine
from ml_validator.federated.share_box import to_reveal
from tests.unit.ml_validator.federated.helpers import (
    collect,
    held_by,
    kinds_of,
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
    assert again.shares(group) == secrets[0].shares(group)


class Public:
    """What everyone knows in the end: boxes, reveals, and what follows from them."""

    def __init__(self, secrets, group, survivors):
        self.group = group
        self.boxes = {own.member: own.shares(group).boxes for own in secrets}
        self.shares: dict[ShareKind, dict[bytes, dict[int, bytes]]] = {
            kind: {member: {} for member in group.members} for kind in ShareKind
        }
        kinds = kinds_of(group, survivors)
        for member, held in held_by(secrets, group).items():
            if member in survivors:
                revealed = to_reveal(kinds, held)
                for (owner, kind), share in zip(kinds.items(), revealed, strict=True):
                    self.learn(kind, owner, member, share)

    def learn(self, kind, owner, receiver, share):
        self.shares[kind][owner][self.group.place(receiver)] = share

    def secrets_of(self, kind):
        return {
            owner: combine(shares, members=len(self.group.members), owner=owner)
            for owner, shares in self.shares[kind].items()
            if len(shares) >= self.group.threshold
        }

    def open_all(self, private_keys):
        """Try every handover with the private keys of its owner and its receiver."""
        members, keys = self.group.members, self.group.box_keys
        public = dict(zip(members, keys, strict=True))
        padded = padded_count(len(members))
        for owner, boxes in self.boxes.items():
            for index, receiver in enumerate(m for m in members if m != owner):
                box = boxes[BOX_SIZE * (index - padded) :][:BOX_SIZE]
                for name, other in ((owner, receiver), (receiver, owner)):
                    # With another key it opens, too, to what nobody has shared.
                    if public_key_of(private_keys.get(name, b"?" * 32)) == public[name]:
                        handover = self.group.handover(owner, receiver)
                        pads = pads_of(private_keys[name], public[other], handover)
                        pair = pads if index < padded else open_box(pads, box)
                        for kind in ShareKind:
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
    secrets = [
        OneKey(seed=own.seed, round_id=own.round_id, member=own.member) for own in make_secrets(4)
    ]
    dropped = secrets[0].member
    public = Public(secrets, make_group(secrets), {own.member for own in secrets[1:]})

    public.open_all(public.secrets_of(ShareKind.KEY))

    assert public.secrets_of(ShareKind.SELF_MASK)[dropped] == secrets[0].self_seed
    assert public.secrets_of(ShareKind.KEY)[dropped] == secrets[0].mask_private


class OneKey(RoundSecrets):
    """A participant with one key for both."""

    @property
    def box_private(self) -> bytes:
        return self.mask_private


@pytest.mark.parametrize("receiver", [1, 2, 3])
@pytest.mark.parametrize("kind", ShareKind)
def test_other_shares_than_were_hashed_are_not_received(receiver, kind):
    secrets = make_secrets(4)
    group = make_group(secrets)
    records = {own.member: own.shares(group) for own in secrets}
    liar, victim = secrets[0].member, secrets[receiver].member
    hashes = bytearray(records[liar].hashes)
    hashes[16 * (2 * receiver + kind)] ^= 1
    records[liar] = replace(records[liar], hashes=bytes(hashes))

    for own in secrets:
        received = own.received(group, records)
        cheated = [owner for owner, pair in received.items() if pair is None]
        assert cheated == ([liar] if own.member == victim else [])


def test_a_box_opens_for_its_receiver_alone():
    secrets = make_secrets(4)
    group = make_group(secrets)
    owner, third, _, receiver = secrets
    records = {own.member: own.shares(group) for own in secrets}
    box = records[owner.member].boxes
    assert len(box) == BOX_SIZE, "of three others the last has a box"

    def received(who, private, data):
        record = replace(records[owner.member], boxes=data)
        handover = group.handover(owner.member, who.member)
        key = owner.box_public
        return handed_over(record, handover, members=group.members, secret=private, owner_key=key)

    assert received(receiver, receiver.box_private, box) == owner.pairs(group)[3]
    for who, private, data in (
        (receiver, third.box_private, box),
        (receiver, receiver.box_private, box[:-1] + bytes((box[-1] ^ 1,))),
        (third, receiver.box_private, box),
    ):
        assert received(who, private, data) is None


def test_a_share_that_is_not_held_is_left_out_of_what_is_revealed():
    secrets = make_secrets(3)
    group = make_group(secrets, absent=frozenset({secrets[2].member}))
    held = held_by(secrets, group)[secrets[0].member]
    first, second, _ = group.members

    revealed = to_reveal(kinds_of(group, group.members), {**held, second: None})

    assert revealed == (held[first][ShareKind.SELF_MASK], None)


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
        secrets[0].shares(boxes)


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

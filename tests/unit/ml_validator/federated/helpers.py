"""A masked group whose members a test drives."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np

from chain.federated.boxes import Pair, ShareKind
from chain.types import Address, Digest
from ml_validator.federated.fixed_point import UpdateRules
from ml_validator.federated.group_sum import GroupInput
from ml_validator.federated.masking import Group
from ml_validator.federated.round_secrets import RoundSecrets
from ml_validator.federated.share_box import to_reveal

ROUND_ID = Digest(sha256(b"round").digest())


def make_secrets(count: int, *, round_id: Digest = ROUND_ID) -> list[RoundSecrets]:
    """Return the secrets of `count` participants, in the order of their ids."""
    ids = sorted(Address(sha256(b"member" + bytes((i,))).digest()) for i in range(count))
    return [
        RoundSecrets(seed=sha256(b"seed" + id).digest(), round_id=round_id, member=id) for id in ids
    ]


def make_group(
    secrets: Sequence[RoundSecrets], *, index: int = 0, absent: frozenset[Address] = frozenset()
) -> Group:
    return Group(
        round_id=secrets[0].round_id,
        index=index,
        members=tuple(own.member for own in secrets),
        mask_keys=tuple(own.mask_public for own in secrets),
        box_keys=tuple(own.box_public for own in secrets),
        absent=absent,
    )


def make_rules(*, parameters: int = 4, weight_total: int = 100, **others: int) -> UpdateRules:
    return UpdateRules(
        **{"fraction_bits": 16, "norm_max": 2**40, **others},
        parameters=parameters,
        weight_total=weight_total,
    )


Held = dict[Address, Pair]


def held_by(secrets: list[RoundSecrets], group: Group) -> dict[Address, Held]:
    """Return for each member the pairs of shares that it holds after the boxes were opened."""
    records = {own.member: own.shares(group) for own in secrets if own.member in group.sharing}
    held: dict[Address, Held] = {}
    for own in secrets:
        received = own.received(group, records)
        held[own.member] = {owner: pair for owner, pair in received.items() if pair is not None}
        assert held[own.member].keys() == received.keys(), "the shares are those that were hashed"
    return held


def kinds_of(group: Group, included: Iterable[Address]) -> dict[Address, ShareKind]:
    """Return of whom which share is revealed when these are in the sum."""
    remained = set(included)
    return {
        owner: ShareKind.SELF_MASK if owner in remained else ShareKind.KEY
        for owner in group.sharing
    }


def collect(
    group: Group,
    secrets: list[RoundSecrets],
    updates: dict[Address, np.ndarray],
    *,
    revealing: set[Address] | None = None,
) -> GroupInput:
    """Play the rest of a round: those in `updates` survive, those in `revealing` of them reveal."""
    of = {own.member: own for own in secrets}
    blobs = {member: of[member].masked(update, group) for member, update in updates.items()}
    shares: dict[Address, dict[int, bytes]] = {owner: {} for owner in group.sharing}
    for member, held in held_by(secrets, group).items():
        if member in blobs and (revealing is None or member in revealing):
            revealed = to_reveal(kinds_of(group, blobs), held)
            for owner, share in zip(group.sharing, revealed, strict=True):
                assert share is not None
                shares[owner][group.place(member)] = share
    return GroupInput(
        group=group,
        blobs=blobs,
        self_shares={owner: found for owner, found in shares.items() if owner in blobs},
        key_shares={owner: found for owner, found in shares.items() if owner not in blobs},
    )

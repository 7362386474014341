"""A masked group whose members a test drives."""

from hashlib import sha256

import numpy as np

from ml_validator.federated.fixed_point import UpdateRules
from ml_validator.federated.group_sum import GroupInput
from ml_validator.federated.masking import Group
from ml_validator.federated.round_secrets import RoundSecrets
from ml_validator.federated.share_box import Kind, Pair, open_box, to_reveal

ROUND_ID = sha256(b"round").digest()


def make_secrets(count: int, *, round_id: bytes = ROUND_ID) -> list[RoundSecrets]:
    """Return the secrets of `count` participants, in the order of their ids."""
    ids = sorted(sha256(b"member" + bytes((i,))).digest() for i in range(count))
    return [
        RoundSecrets(seed=sha256(b"seed" + id).digest(), round_id=round_id, member=id) for id in ids
    ]


def make_group(secrets: list[RoundSecrets], *, index: int = 0) -> Group:
    return Group(
        round_id=secrets[0].round_id,
        index=index,
        members=tuple(own.member for own in secrets),
        mask_keys=tuple(own.mask_public for own in secrets),
        box_keys=tuple(own.box_public for own in secrets),
    )


def make_rules(*, parameters: int = 4, weight_total: int = 100, **others: int) -> UpdateRules:
    return UpdateRules(
        **{"fraction_bits": 16, "norm_max": 2**40, **others},
        parameters=parameters,
        weight_total=weight_total,
    )


def held_by(secrets: list[RoundSecrets], group: Group) -> dict[bytes, dict[bytes, Pair]]:
    """Return for each member the pairs of shares that it holds after the boxes were opened."""
    boxes = {own.member: own.boxes(group) for own in secrets}
    held: dict[bytes, dict[bytes, Pair]] = {}
    for place, own in enumerate(secrets):
        held[own.member] = {own.member: own.pairs(group)[place]} | {
            owner: open_box(
                group,
                owner=owner,
                receiver=own.member,
                box=sent[own.member],
                box_private=own.box_private,
            )
            for owner, sent in boxes.items()
            if owner != own.member
        }
    return held


def collect(
    group: Group,
    secrets: list[RoundSecrets],
    updates: dict[bytes, np.ndarray],
    *,
    revealing: set[bytes] | None = None,
) -> GroupInput:
    """Play the rest of a round: those in `updates` survive, those in `revealing` of them reveal."""
    of = {own.member: own for own in secrets}
    blobs = {member: of[member].masked(update, group) for member, update in updates.items()}
    shares: dict[Kind, dict[bytes, dict[int, bytes]]] = {kind: {} for kind in Kind}
    for member, held in held_by(secrets, group).items():
        if member in blobs and (revealing is None or member in revealing):
            for owner, (kind, share) in to_reveal(group, held=held, survivors=blobs).items():
                shares[kind].setdefault(owner, {})[group.place(member)] = share.share
    return GroupInput(
        group=group,
        blobs=blobs,
        self_shares=shares[Kind.SELF_MASK],
        key_shares=shares[Kind.KEY],
    )

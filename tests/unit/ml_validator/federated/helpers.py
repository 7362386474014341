"""A masked group whose members a test drives."""

from hashlib import sha256

import numpy as np

from chain.federated.records import SHARE_SIZE
from chain.types import Address, Digest
from ml_validator.federated.fixed_point import UpdateRules
from ml_validator.federated.group_sum import GroupInput
from ml_validator.federated.masking import Group
from ml_validator.federated.round_secrets import RoundSecrets
from ml_validator.federated.share_box import Pair, open_checked, to_reveal

ROUND_ID = Digest(sha256(b"round").digest())


def make_secrets(count: int, *, round_id: Digest = ROUND_ID) -> list[RoundSecrets]:
    """Return the secrets of `count` participants, in the order of their ids."""
    ids = sorted(Address(sha256(b"member" + bytes((i,))).digest()) for i in range(count))
    return [
        RoundSecrets(seed=sha256(b"seed" + id).digest(), round_id=round_id, member=id) for id in ids
    ]


def make_group(
    secrets: list[RoundSecrets], *, index: int = 0, absent: frozenset[Address] = frozenset()
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
    sharing = [own for own in secrets if own.member in group.sharing]
    boxes = {own.member: own.boxes(group) for own in sharing}
    hashes = {own.member: own.hashes(group) for own in sharing}
    held: dict[Address, Held] = {own.member: {} for own in secrets}
    for place, own in enumerate(secrets):
        for owner, sent in boxes.items():
            held[own.member][owner] = (
                own.pairs(group)[place]
                if owner == own.member
                else open_checked(
                    group,
                    owner=owner,
                    receiver=own.member,
                    box=sent[own.member],
                    hashes=hashes[owner],
                    box_private=own.box_private,
                )
            )
    return held


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
            revealed = to_reveal(group, held=held, included=blobs)
            for owner, salted in zip(group.sharing, revealed, strict=True):
                assert salted is not None
                shares[owner][group.place(member)] = salted[:SHARE_SIZE]
    return GroupInput(
        group=group,
        blobs=blobs,
        self_shares={owner: found for owner, found in shares.items() if owner in blobs},
        key_shares={owner: found for owner, found in shares.items() if owner not in blobs},
    )

"""From what the chain has on record of a federated round to the arithmetic, for miners and members.

`aggregate_of` is what every miner computes for itself, whose digest it sends as `round.aggregate`.
"""

from collections.abc import Mapping

from chain.federated.records import SHARE_SIZE, FederatedRound, Member, RevealRecord
from chain.types import Address, Digest
from ml_validator.errors import InvalidUpdate, TooFewContributions, VoidGroup
from ml_validator.federated.aggregation import Rule, aggregate, contribution, without_copies
from ml_validator.federated.fixed_point import (
    Integers,
    UpdateRules,
    decode_update,
    decode_words,
    divided,
)
from ml_validator.federated.group_sum import GroupInput, group_mean
from ml_validator.federated.masking import Group

Reveals = Mapping[Address, RevealRecord]
Blobs = Mapping[Address, bytes]


def rules_of(found: FederatedRound) -> UpdateRules:
    """Return what a round asks of updates."""
    return UpdateRules(
        parameters=found.terms.parameter_count,
        fraction_bits=found.terms.scale_bits,
        norm_max=found.terms.clip,
        weight_total=sum(member.weight for member in found.members),
    )


def group_of(round_id: Digest, found: FederatedRound, index: int) -> Group:
    """Return a masked group; who is absent in it is known once the round is at `commit`."""
    members = found.members_of(index)
    return Group(
        round_id=round_id,
        index=index,
        members=tuple(member.device for member in members),
        mask_keys=tuple(member.mask_key or b"" for member in members),
        box_keys=tuple(member.box_key or b"" for member in members),
        absent=frozenset(member.device for member in members if not member.has_shared),
    )


def is_sound(data: bytes, member: Member, found: FederatedRound) -> bool:
    """Tell whether a miner may attest an update whose blob it holds.

    Of a masked one only the size can be told; in the audit mode its norm has to be within bounds.
    """
    try:
        if found.terms.is_masked:
            decode_words(data, parameters=found.terms.parameter_count)
        else:
            decode_update(data, rules=rules_of(found), weight=member.weight)
    except InvalidUpdate:
        return False
    return True


def aggregate_of(
    round_id: Digest, found: FederatedRound, *, reveals: Reveals, blobs: Blobs
) -> Integers:
    """Return the aggregate of a round that is at `aggregate`.

    Parameters
    ----------
    reveals : mapping of Address to RevealRecord
        What members have revealed, by their ids; empty in the audit mode.
    blobs : mapping of Address to bytes
        The updates of all included members. Who lacks one cannot compute the aggregate and says
        nothing.

    Raises
    ------
    TooFewContributions
        So many groups turn out void that fewer than `groups_min` are left, or fewer than the rule
        needs: the miner says nothing.
    """
    if found.terms.is_masked:
        means = _group_means(round_id, found, reveals, blobs)
        rows = [contribution(mean) for mean in means]
    else:
        updates = _updates(found, blobs)
        rows = without_copies([contribution(update) for update in updates])
    if len(rows) < found.terms.groups_min:
        raise TooFewContributions(found.terms.rule, len(rows), found.terms.groups_min)
    return aggregate(rows, rule=Rule(found.terms.rule), attackers=found.terms.tolerated)


def _group_means(
    round_id: Digest, found: FederatedRound, reveals: Reveals, blobs: Blobs
) -> list[Integers]:
    rules = rules_of(found)
    weights = {member.device: member.weight for member in found.members}
    means = []
    for index in found.groups:
        given = _group_input(round_id, found, index, reveals, blobs)
        try:
            means.append(group_mean(given, weights=weights, rules=rules))
        except VoidGroup:
            continue
    return means


def _group_input(
    round_id: Digest, found: FederatedRound, index: int, reveals: Reveals, blobs: Blobs
) -> GroupInput:
    group = group_of(round_id, found, index)
    included = {m.device for m in found.members_of(index) if m.status == "included"}
    shares: dict[Address, dict[int, bytes]] = {owner: {} for owner in group.sharing}
    for receiver in group.members:
        if receiver in reveals:
            for owner, salted in zip(group.sharing, reveals[receiver].shares, strict=True):
                if salted is not None:
                    shares[owner][group.place(receiver)] = salted[:SHARE_SIZE]
    return GroupInput(
        group=group,
        blobs={
            device: decode_words(blobs[device], parameters=found.terms.parameter_count)
            for device in group.members
            if device in included
        },
        self_shares={owner: of for owner, of in shares.items() if owner in included},
        key_shares={owner: of for owner, of in shares.items() if owner not in included},
    )


def _updates(found: FederatedRound, blobs: Blobs) -> list[Integers]:
    """Return the updates of the audit mode by what they would be with the weight 1.

    An update that an honest miner would not have attested is left out, whoever has.
    """
    rules = rules_of(found)
    updates = []
    for member in found.members:
        if member.status == "included" and is_sound(blobs[member.device], member, found):
            update = decode_update(blobs[member.device], rules=rules, weight=member.weight)
            updates.append(divided(update, member.weight))
    return updates

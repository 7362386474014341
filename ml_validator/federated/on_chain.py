"""From what the chain has on record of a federated round to the arithmetic, for miners and members.

A miner computes group by group, by `contribution_of` and `join`; `aggregate_of` does it at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from chain.federated.boxes import ShareKind, kind_to_reveal
from chain.federated.records import FederatedRound, Member, RevealRecord
from chain.types import Address, Digest
from ml_validator.errors import InvalidUpdate, TooFewContributions, VoidGroup
from ml_validator.federated.aggregation import (
    Contribution,
    Rule,
    aggregate,
    contribution,
    without_copies,
)
from ml_validator.federated.fixed_point import (
    Integers,
    UpdateRules,
    Words,
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


def kinds_to_reveal(found: FederatedRound, index: int) -> dict[Address, ShareKind]:
    """Return of each member of a group that has shared which share is to be revealed, in order."""
    return {
        owner.device: kind_to_reveal(owner) for owner in found.members_of(index) if owner.has_shared
    }


def read_update(data: bytes, member: Member, found: FederatedRound) -> Integers:
    """Read an update that is not masked; a masked one tells nothing of itself.

    Raises
    ------
    InvalidUpdate
        It is longer than the clip allows, or of another size: no miner attests it.
    """
    return decode_update(data, rules=rules_of(found), weight=member.weight)


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
    rows = []
    for index in found.groups:
        with suppress(VoidGroup):
            rows.append(contribution_of(round_id, found, index, reveals=reveals, blobs=blobs))
    return join(found, rows)


def contribution_of(
    round_id: Digest, found: FederatedRound, index: int, *, reveals: Reveals, blobs: Blobs
) -> Contribution:
    """Return what a group contributes: the mean of its included updates.

    Parameters
    ----------
    blobs : mapping of Address to bytes
        As for `aggregate_of`; each is looked up when it is added, so they need not be in memory
        together.

    Raises
    ------
    VoidGroup
        It contributes nothing: a secret does not come out, or the sum breaks the clip; in the audit
        mode its update does, whoever has attested it.
    """
    if found.terms.is_masked:
        given = _group_input(round_id, found, index, reveals, blobs)
        weights = {member.device: member.weight for member in found.members}
        return contribution(group_mean(given, weights=weights, rules=rules_of(found)))
    (member,) = found.members_of(index)
    try:
        update = read_update(blobs[member.device], member, found)
    except InvalidUpdate as error:
        raise VoidGroup(index, str(error)) from error
    return contribution(divided(update, member.weight))


def join(found: FederatedRound, rows: Sequence[Contribution]) -> Integers:
    """Join what the groups of a round contribute; raises `TooFewContributions`."""
    kept = list(rows) if found.terms.is_masked else without_copies(rows)
    if len(kept) < found.terms.groups_min:
        raise TooFewContributions(found.terms.rule, len(kept), found.terms.groups_min)
    return aggregate(kept, rule=Rule(found.terms.rule), attackers=found.terms.tolerated)


def _group_input(
    round_id: Digest, found: FederatedRound, index: int, reveals: Reveals, blobs: Blobs
) -> GroupInput:
    group = group_of(round_id, found, index)
    included = [m.device for m in found.members_of(index) if m.status == "included"]
    shares: dict[Address, dict[int, bytes]] = {owner: {} for owner in group.sharing}
    for receiver in group.members:
        if receiver in reveals:
            for owner, share in zip(group.sharing, reveals[receiver].shares, strict=True):
                if share is not None:
                    shares[owner][group.place(receiver)] = share
    return GroupInput(
        group=group,
        blobs=_Decoded(included, blobs, found.terms.parameter_count),
        self_shares={owner: of for owner, of in shares.items() if owner in included},
        key_shares={owner: of for owner, of in shares.items() if owner not in included},
    )


class _Decoded(Mapping[Address, Words]):
    """Masked updates, each decoded when it is looked up."""

    def __init__(self, included: Sequence[Address], blobs: Blobs, parameters: int) -> None:
        self._included = included
        self._blobs = blobs
        self._parameters = parameters

    def __getitem__(self, device: Address) -> Words:
        return decode_words(self._blobs[device], parameters=self._parameters)

    def __contains__(self, device: object) -> bool:
        return device in self._included

    def __iter__(self) -> Iterator[Address]:
        return iter(self._included)

    def __len__(self) -> int:
        return len(self._included)

"""What comes out of a federated round, from the chain's records and the blobs that they name.

Every miner computes it for itself, to the same bits: integers only, and nothing that one miner
knows and another does not. All of it may take a while, and runs beside the event loop. Blobs are
read when they are added, so of a masked group one update is in memory at a time; what is kept is
one contribution of each group. docs/spec/federated.md, section 5; docs/spec/aggregation.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chain.federated.boxes import ShareKind
from chain.federated.records import (
    SHARE_SIZE,
    FederatedRound,
    Member,
    RevealRecord,
    threshold,
)
from chain.types import Address, Digest
from ml_validator.errors import TooFewContributions
from ml_validator.federated import (
    Contribution,
    GroupInput,
    Rule,
    UpdateRules,
    aggregate,
    contribution,
    decode_update,
    decode_words,
    encode_update,
    group_mean,
    group_of,
    rules_of,
    without_copies,
)
from ml_validator.federated.fixed_point import Words, divided
from node.blobs.store import BlobStore
from node.errors import MissingBlob


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSums:
    """The arithmetic of one federated round.

    Parameters
    ----------
    found : FederatedRound
        As the chain has it; who is included is fixed from the phase `aggregate` on.
    blobs : BlobStore
        Where the updates are.

    Notes
    -----
    All methods raise `MissingBlob` where an update is not held, and `DamagedEntry` where the disk
    has other bytes than were written; it is not held any more then.
    """

    id: Digest
    found: FederatedRound
    blobs: BlobStore

    @property
    def rules(self) -> UpdateRules:
        """What the terms ask of an update."""
        return rules_of(self.found)

    def check(self, member: Member) -> None:
        """Read an update that is not masked.

        Raises
        ------
        InvalidUpdate
            It is longer than the clip allows.
        """
        decode_update(self._read(member), rules=self.rules, weight=member.weight)

    def contribution_of(self, group: int, revealed: Mapping[Address, RevealRecord]) -> Contribution:
        """Return what a group contributes: the mean of its included updates.

        Parameters
        ----------
        revealed : mapping of Address to RevealRecord
            What members of the group have revealed; nothing where updates are not masked.

        Raises
        ------
        VoidGroup
            A secret does not come out, or the sum breaks the clip: of masked groups.
        InvalidUpdate
            As `check`: where updates are not masked.
        """
        members = self.found.members_of(group)
        if self.found.terms.is_masked:
            given = self._group_input(group, members, revealed)
            weights = {member.device: member.weight for member in members}
            return contribution(group_mean(given, weights=weights, rules=self.rules))
        (member,) = members
        update = decode_update(self._read(member), rules=self.rules, weight=member.weight)
        return contribution(divided(update, member.weight))

    def join(self, contributions: Sequence[Contribution]) -> bytes:
        """Return the aggregate as the bytes of a blob.

        Raises
        ------
        TooFewContributions
            Fewer groups are left than the terms ask for, or than the rule can stand on.
        """
        terms = self.found.terms
        kept = sorted(contributions, key=lambda entry: entry.digest)
        if not terms.is_masked:
            kept = without_copies(kept)
        if len(kept) < terms.groups_min:
            raise TooFewContributions(terms.rule, len(kept), terms.groups_min)
        values = aggregate(kept, rule=Rule(terms.rule), attackers=terms.tolerated)
        return encode_update(values)

    def _group_input(
        self, group: int, members: tuple[Member, ...], revealed: Mapping[Address, RevealRecord]
    ) -> GroupInput:
        owners = [member for member in members if member.has_shared]
        shares: dict[ShareKind, dict[Address, dict[int, bytes]]] = {
            kind: {owner.device: {} for owner in owners} for kind in ShareKind
        }
        needed = threshold(len(members))
        for place, receiver in enumerate(members, start=1):
            record = revealed.get(receiver.device)
            for owner, salted in zip(owners, record.shares if record else (), strict=False):
                of_owner = shares[_revealed_kind(owner)][owner.device]
                # The first ones count, so that all miners restore the same.
                if salted is not None and len(of_owner) < needed:
                    of_owner[place] = salted[:SHARE_SIZE]
        return GroupInput(
            group=group_of(self.id, self.found, group),
            blobs=_Updates(self, [member for member in members if member.status == "included"]),
            self_shares=shares[ShareKind.SELF_MASK],
            key_shares=shares[ShareKind.KEY],
        )

    def _read(self, member: Member) -> bytes:
        assert member.update is not None, "who has committed has an update"
        data = self.blobs.read_whole(member.update, size_max=self.found.terms.update_size)
        if data is None:
            raise MissingBlob(member.update)
        return data


class _Updates(Mapping[Address, Words]):
    """The masked updates of members, each read when it is asked for."""

    def __init__(self, sums: RoundSums, members: Sequence[Member]) -> None:
        self._sums = sums
        self._members = {member.device: member for member in members}

    def __getitem__(self, device: Address) -> Words:
        data = self._sums._read(self._members[device])
        return decode_words(data, parameters=self._sums.found.terms.parameter_count)

    def __contains__(self, device: object) -> bool:
        return device in self._members

    def __iter__(self) -> Iterator[Address]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _revealed_kind(owner: Member) -> ShareKind:
    """Return which share of a member is revealed, and no other."""
    return ShareKind.SELF_MASK if owner.status == "included" else ShareKind.KEY

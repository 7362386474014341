"""Participants of federated rounds with real secrets, masks and updates, and what must come out.

They make the bodies of transactions from what the chain says and what they know. `expected` is the
aggregate by another way: from the updates in the clear, in fractions.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from hashlib import sha256
from random import Random
from statistics import median

import numpy as np

from chain.blobs import CHUNK_SIZE
from chain.federated.boxes import ShareKind
from chain.federated.records import FederatedRound, Member, SharesRecord
from chain.kinds.participation import (
    RoundComplaint,
    RoundJoin,
    RoundShare,
    UpdateCommit,
    UpdateReveal,
)
from chain.merkle import leaf_hash, root_of_hashes
from chain.types import Address, Digest
from ml_validator.federated import Group, RoundSecrets, encode_update

Integers = np.ndarray


class Learner:
    """A participant.

    Parameters
    ----------
    id : Address
        Of its device.
    lies : bool
        Whether the shares of its mask key are not those of the key, though they hash and open.
    breaks_hashes : bool
        Whether it publishes hashes that the shares of nobody have.
    factor : int
        By which what it has learned is too long.
    """

    def __init__(
        self, id: Address, *, lies: bool = False, breaks_hashes: bool = False, factor: int = 1
    ) -> None:
        self.id = id
        self.lies = lies
        self.breaks_hashes = breaks_hashes
        self.factor = factor

    def secrets(self, round_id: Digest) -> RoundSecrets:
        """Return what only it knows."""
        seed = sha256(b"seed" + self.id).digest()
        return RoundSecrets(seed=seed, round_id=round_id, member=self.id)

    def join(self, round_id: Digest) -> RoundJoin:
        """Return its `round.join`."""
        own = self.secrets(round_id)
        return RoundJoin(round=round_id, mask_key=own.mask_public, box_key=own.box_public)

    def share(self, round_id: Digest, found: FederatedRound) -> RoundShare:
        """Return its `round.share`."""
        group = group_of(round_id, found, self.id)
        own = self.secrets(round_id)
        if self.lies:
            own = _Liar(seed=own.seed, round_id=round_id, member=self.id)
        shares = own.shares(group)
        hashes = shares.hashes
        if self.breaks_hashes:
            hashes = bytes([byte ^ 1 for byte in hashes])
        return RoundShare(round=round_id, hashes=hashes, boxes=shares.boxes)

    def update(self, found: FederatedRound) -> list[int]:
        """Return what it has learned, before it is weighted."""
        random = Random(f"{self.id.hex()} at {found.opened_height}")
        count = found.terms.parameter_count
        return [self.factor * random.randrange(-1_000, 1_000) for _ in range(count)]

    def blob(self, round_id: Digest, found: FederatedRound) -> bytes:
        """Return its update as it sends it."""
        weighted = np.array(self.update(found), np.int64) * member_of(found, self.id).weight
        if not found.terms.is_masked:
            return encode_update(weighted)
        group = group_of(round_id, found, self.id)
        return encode_update(self.secrets(round_id).masked(weighted, group))

    def commit(self, round_id: Digest, found: FederatedRound) -> UpdateCommit:
        """Return its `update.commit`."""
        data = self.blob(round_id, found)
        return UpdateCommit(
            round=round_id, base=found.terms.base, size_bytes=len(data), root=root_of(data)
        )

    def cheats(
        self, round_id: Digest, found: FederatedRound, shares: Mapping[Address, SharesRecord]
    ) -> list[Address]:
        """Return who of its group has hashed other shares than it has handed to this one."""
        received = self.secrets(round_id).received(group_of(round_id, found, self.id), shares)
        return [owner for owner, pair in received.items() if pair is None]

    def complaint(self, round_id: Digest, accused: Address) -> RoundComplaint:
        """Return its `round.complaint`."""
        secret = self.secrets(round_id).box_private
        return RoundComplaint(round=round_id, accused=accused, secret=secret)

    def reveal(
        self,
        round_id: Digest,
        found: FederatedRound,
        shares: Mapping[Address, SharesRecord],
        *,
        swaps: bool = False,
    ) -> UpdateReveal:
        """Return its `update.reveal`: of each that has shared the one share that may be known.

        Parameters
        ----------
        swaps : bool
            Reveal the others, which nobody may know.
        """
        group = group_of(round_id, found, self.id)
        received = self.secrets(round_id).received(group, shares)
        revealed: list[bytes | None] = []
        for owner in found.members_of(member_of(found, self.id).group):
            if not owner.has_shared:
                continue
            pair = received[owner.device]
            is_known = (owner.status == "included") != swaps
            kind = ShareKind.SELF_MASK if is_known else ShareKind.KEY
            revealed.append(None if pair is None else pair[kind])
        return UpdateReveal(round=round_id, shares=tuple(revealed))


class _Liar(RoundSecrets):
    """Hands out shares of another key than it has announced."""

    @property
    def mask_private(self) -> bytes:
        return sha256(b"another key").digest()


def member_of(found: FederatedRound, device: Address) -> Member:
    """Return how a participant stands."""
    place = found.position_of(device)
    assert place is not None, "it is invited"
    return found.members[place]


def group_of(round_id: Digest, found: FederatedRound, device: Address) -> Group:
    """Return the group that a participant was drawn into."""
    index = member_of(found, device).group
    assert index is not None, "groups are drawn"
    members = found.members_of(index)
    has_begun = found.phase not in ("join", "draw", "share")
    absent = [m.device for m in members if has_begun and not m.has_shared]
    return Group(
        round_id=round_id,
        index=index,
        members=tuple([member.device for member in members]),
        mask_keys=tuple([member.mask_key or b"" for member in members]),
        box_keys=tuple([member.box_key or b"" for member in members]),
        absent=frozenset(absent),
    )


def root_of(data: bytes) -> Digest:
    """Return the Merkle root of a blob."""
    return root_of_hashes(
        [leaf_hash(data[start : start + CHUNK_SIZE]) for start in range(0, len(data), CHUNK_SIZE)]
    )


def expected(
    found: FederatedRound, learners: Iterable[Learner], *, without: Iterable[int] = ()
) -> Digest:
    """Return the digest of the aggregate that has to come out.

    Parameters
    ----------
    without : iterable of int
        Groups that spoil themselves.
    """
    of = {learner.id: learner for learner in learners}
    rows: list[list[int]] = []
    for group in sorted(set(found.groups).difference(without)):
        included = [m for m in found.members_of(group) if m.status == "included"]
        weight = sum([member.weight for member in included])
        updates = [[m.weight * v for v in of[m.device].update(found)] for m in included]
        rows.append([round(Fraction(sum(column), weight)) for column in zip(*updates, strict=True)])
    columns = list(zip(*rows, strict=True))
    match found.terms.rule:
        case "mean":
            values = [round(Fraction(sum(column), len(column))) for column in columns]
        case "median":
            values = [round(median([Fraction(value) for value in column])) for column in columns]
        case rule:
            raise NotImplementedError(rule)
    data = b"".join([value.to_bytes(8, "little", signed=True) for value in values])
    return found.terms.blob_of(root_of(data))

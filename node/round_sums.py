"""The updates of a federated round where a node holds them, and what comes out of them.

The arithmetic is `ml_validator.federated`. It may take a while, and runs beside the event loop.
Blobs are read when they are added, so of a masked group one update is in memory at a time; what is
kept is one contribution of each group. docs/spec/federated.md, section 5; docs/spec/aggregation.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chain.federated.records import FederatedRound, Member, RevealRecord
from chain.types import Address, Digest
from ml_validator.federated import (
    Contribution,
    contribution_of,
    encode_update,
    join,
    read_update,
)
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

    def check(self, member: Member) -> None:
        """Read an update that is not masked.

        Raises
        ------
        InvalidUpdate
            It is longer than the clip allows.
        """
        read_update(_read(self.blobs, member, self.found), member, self.found)

    def contribution_of(self, group: int, revealed: Mapping[Address, RevealRecord]) -> Contribution:
        """Return what a group contributes: the mean of its included updates.

        Parameters
        ----------
        revealed : mapping of Address to RevealRecord
            What members of the group have revealed; nothing where updates are not masked.

        Raises
        ------
        VoidGroup
            It contributes nothing.
        """
        updates = _Updates(self.blobs, self.found)
        return contribution_of(self.id, self.found, group, reveals=revealed, blobs=updates)

    def join(self, contributions: Sequence[Contribution]) -> bytes:
        """Return the aggregate as the bytes of a blob.

        Raises
        ------
        TooFewContributions
            Fewer groups are left than the terms ask for, or than the rule can stand on.
        """
        return encode_update(join(self.found, contributions))


class _Updates(Mapping[Address, bytes]):
    """The included updates, each read when it is asked for."""

    def __init__(self, blobs: BlobStore, found: FederatedRound) -> None:
        self._blobs = blobs
        self._found = found
        self._members = {m.device: m for m in found.members if m.status == "included"}

    def __getitem__(self, device: Address) -> bytes:
        return _read(self._blobs, self._members[device], self._found)

    def __iter__(self) -> Iterator[Address]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _read(blobs: BlobStore, member: Member, found: FederatedRound) -> bytes:
    assert member.update is not None, "who has committed has an update"
    data = blobs.read_whole(member.update, size_max=found.terms.update_size)
    if data is None:
        raise MissingBlob(member.update)
    return data

"""The updates of a federated round as this node holds them."""

from collections.abc import Iterator, Mapping

from chain.federated.records import FederatedRound
from chain.types import Address, Digest
from node.blobs.store import BlobStore
from node.errors import MissingBlob


class StoredUpdates(Mapping[Address, bytes]):
    """Updates by their members' devices, each read from the disk when it is asked for.

    Asking raises `MissingBlob` where an update is not held, and `DamagedEntry` where the disk has
    other bytes than were written; it is not held any more then. May be used from any thread.

    Parameters
    ----------
    found : FederatedRound
        Whose members have committed to them.
    """

    def __init__(self, found: FederatedRound, blobs: BlobStore) -> None:
        self._size = found.terms.update_size
        self._blobs = blobs
        self._digests: dict[Address, Digest] = {
            member.device: member.update for member in found.members if member.update is not None
        }

    def __getitem__(self, device: Address) -> bytes:
        digest = self._digests[device]
        data = self._blobs.read_whole(digest, size_max=self._size)
        if data is None:
            raise MissingBlob(digest)
        return data

    def __iter__(self) -> Iterator[Address]:
        return iter(self._digests)

    def __len__(self) -> int:
        return len(self._digests)

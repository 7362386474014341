"""The set of miners of a height, and how many of them must agree."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from chain import codec
from chain.crypto import ED25519_KEY_SIZE, tagged_hash
from chain.errors import DecodeError
from chain.fields import ADDRESS, MINER_KEY
from chain.schema import ListOf, Record
from chain.types import DIGEST_SIZE, Address, Digest, PublicKey

MINERS_MAX: Final = 100
"""Votes grow with the square of the members; beyond this a committee would be the answer."""

_SET_TAG: Final = b"securenet/miner-set/v1"


def faulty_max(n: int) -> int:
    """Return f, the number of Byzantine miners that `n` miners withstand (PBFT, OSDI'99 §3)."""
    return (n - 1) // 3


def quorum(n: int) -> int:
    """Return how many distinct miners make a quorum: any two quorums share an honest miner.

    Notes
    -----
    ``ceil((n + f + 1) / 2)``, which is 2f + 1 only for n = 3f + 1: five and six miners need four.
    """
    return (n + faulty_max(n) + 2) // 2


def weak_quorum(n: int) -> int:
    """Return f + 1: among so many distinct miners at least one is honest."""
    return faulty_max(n) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Miner:
    """A member: its permanent id, and the key it signs consensus messages with."""

    id: Address
    key: PublicKey


MINER: Final = Record(Miner, id=ADDRESS, key=MINER_KEY)
MINERS: Final = ListOf(MINER, MINERS_MAX, minimum=1)
MINERS_SIZE_MAX: Final = 8 + MINERS_MAX * (DIGEST_SIZE + ED25519_KEY_SIZE + 8)


@dataclass(frozen=True, slots=True)
class MinerSet:
    """The miners of a height in ascending order of their ids.

    Parameters
    ----------
    members : tuple of Miner
        Strictly ascending ids.

    Raises
    ------
    DecodeError
        None, too many, or not in order; a set may come from a peer that proves something.

    Notes
    -----
    A member's *index* is its place in this order; certificates name signers by it. There is one
    path from an index or an id to a key, so that no two parts of the node can disagree about who
    signed (the mechanism of CSA-2026-001).
    """

    members: tuple[Miner, ...]
    hash: Digest = field(init=False, compare=False, repr=False)
    _index: dict[Address, int] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        ids = [miner.id for miner in self.members]
        if not 0 < len(ids) <= MINERS_MAX or ids != sorted(set(ids)):
            raise DecodeError("miners", f"not 1 to {MINERS_MAX} distinct miners in ascending order")
        digest = tagged_hash(_SET_TAG, encode_miners(self))
        object.__setattr__(self, "hash", digest)
        object.__setattr__(self, "_index", {id_: index for index, id_ in enumerate(ids)})

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Miner]:
        return iter(self.members)

    def __contains__(self, miner_id: object) -> bool:
        return miner_id in self._index

    @property
    def f(self) -> int:
        """How many members may be Byzantine."""
        return faulty_max(len(self.members))

    @property
    def quorum(self) -> int:
        """How many members decide."""
        return quorum(len(self.members))

    @property
    def weak_quorum(self) -> int:
        """How many members contain an honest one."""
        return weak_quorum(len(self.members))

    def index_of(self, miner_id: Address) -> int | None:
        """Return the member's index, or None for a stranger."""
        return self._index.get(miner_id)

    def get(self, miner_id: Address) -> Miner | None:
        """Return the member with this id, or None for a stranger."""
        index = self._index.get(miner_id)
        return None if index is None else self.members[index]


def encode_miners(miners: MinerSet) -> bytes:
    """Return the canonical bytes of a set."""
    return codec.encode(MINERS.write(miners.members))


def decode_miners(data: bytes) -> MinerSet:
    """Read `encode_miners`; raises `DecodeError`."""
    items = codec.decode(data, what="miners", size_max=MINERS_SIZE_MAX, items_max=MINERS_MAX)
    return MinerSet(MINERS.read(items, "miners"))

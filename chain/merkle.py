"""Merkle trees and inclusion proofs as in RFC 9162, section 2.1 (Certificate Transparency 2.0).

Leaves and inner nodes are hashed under different prefixes, and the odd node is promoted rather
than doubled, so that no two lists of leaves share a root.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from chain.errors import InvalidProof
from chain.types import DIGEST_SIZE, Digest

LEAVES_MAX: Final = 2**20
PROOF_LENGTH_MAX: Final = 20
"""Depth of a tree with `LEAVES_MAX` leaves; a longer proof is refused unread."""

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def merkle_root(leaves: Sequence[bytes]) -> Digest:
    """Return MTH(leaves): the root over the leaf data in order; SHA-256 of nothing for none."""
    # Each block hashes thousands of leaves: calls would cost as much as the hashing.
    return root_of_hashes([sha256(_LEAF + leaf).digest() for leaf in leaves])


def leaf_hash(leaf: bytes) -> Digest:
    """Return the hash that stands for a leaf, for trees whose leaves do not fit into memory."""
    return Digest(sha256(_LEAF + leaf).digest())


def root_of_hashes(hashes: Sequence[bytes]) -> Digest:
    """Return the root over leaves of which only the hashes are given."""
    return MerkleTree(hashes).root


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """Return PATH(index, leaves): the sibling hashes from the leaf up to the root.

    Raises
    ------
    InvalidProof
        There is no leaf `index`.
    """
    return path_of_hashes([leaf_hash(leaf) for leaf in leaves], index)


def path_of_hashes(hashes: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """Return the same path from the hashes of the leaves; raises as `inclusion_proof`."""
    return MerkleTree(hashes).path(index)


class MerkleTree:
    """A tree that is kept, so that a path costs its own length and not a pass over the leaves.

    Parameters
    ----------
    hashes : sequence of bytes
        Of the leaves, in order.
    """

    __slots__ = ("_levels",)

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._levels = [list(hashes)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_next_level(self._levels[-1]))

    @property
    def leaves(self) -> Sequence[bytes]:
        """The hashes of the leaves."""
        return self._levels[0]

    @property
    def root(self) -> Digest:
        """The root; SHA-256 of nothing where there is no leaf."""
        top = self._levels[-1]
        return Digest(top[0] if top else sha256(b"").digest())

    def path(self, index: int) -> tuple[Digest, ...]:
        """Return PATH(index, leaves); raises as `inclusion_proof`."""
        if not 0 <= index < len(self.leaves):
            raise InvalidProof(f"no leaf {index} among {len(self.leaves)}")
        path: list[Digest] = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                path.append(Digest(level[sibling]))
            index >>= 1
        return tuple(path)


def verify_inclusion(
    *, root: bytes, leaf: bytes, index: int, leaf_count: int, path: Sequence[bytes]
) -> None:
    """Check that `leaf` is leaf number `index` of the `leaf_count` leaves under `root`.

    Raises
    ------
    InvalidProof
        It is not, or the path has the wrong length.

    Notes
    -----
    The root does not commit to `leaf_count`. With a count from a stranger the proof shows that
    `leaf` is one of the leaves, and no more: trees of other sizes can give it another index.

    References
    ----------
    RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < leaf_count <= LEAVES_MAX:
        raise InvalidProof(f"index {index} is outside a tree of {leaf_count} leaves")
    if len(path) > PROOF_LENGTH_MAX:
        raise InvalidProof(f"{len(path)} hashes, at most {PROOF_LENGTH_MAX} are possible")
    if any(len(sibling) != DIGEST_SIZE for sibling in path):
        raise InvalidProof(f"a hash has not {DIGEST_SIZE} bytes")
    node, last = index, leaf_count - 1
    digest: bytes = leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            raise InvalidProof("the path is too long for the tree")
        if node & 1 or node == last:
            digest = sha256(_NODE + sibling + digest).digest()
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            digest = sha256(_NODE + digest + sibling).digest()
        node >>= 1
        last >>= 1
    if last != 0:
        raise InvalidProof("the path is too short for the tree")
    if digest != root:
        raise InvalidProof("the path leads to another root")


def _next_level(level: list[bytes]) -> list[bytes]:
    paired = [sha256(_NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        paired.append(level[-1])
    return paired

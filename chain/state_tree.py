"""The authenticated map under the state root: a compact sparse Merkle tree.

Keys are spread by their hash. A subtree with one entry is that entry's leaf, an empty one is the
zero digest, so that the root depends on the entries alone and never on the order in which they
came. Nodes are immutable and shared between versions: a proposed block gets its root without
touching the committed tree. docs/spec/state.md, section "State root", is normative.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from chain.crypto import domain, tagged_hash
from chain.errors import InvalidProof
from chain.fields import DIGEST
from chain.schema import ListOf, Optional, Record
from chain.types import DIGEST_SIZE, ZERO_DIGEST, Digest

DEPTH_MAX: Final = 256

_KEY_TAG: Final = b"securenet/state-key/v1"
_VALUE_TAG: Final = b"securenet/state-value/v1"
LEAF_PREFIX: Final = domain(b"securenet/state-leaf/v1")
BRANCH_PREFIX: Final = domain(b"securenet/state-branch/v1")


class Leaf:
    """An entry, by the hashes of its key and value."""

    __slots__ = ("hash", "path", "value_hash")

    def __init__(self, path: bytes, value_hash: bytes) -> None:
        self.path = path
        self.value_hash = value_hash
        self.hash: bytes = sha256(LEAF_PREFIX + path + value_hash).digest()


class Branch:
    """Two subtrees, together at least two entries."""

    __slots__ = ("hash", "left", "right")

    def __init__(self, left: "Node | None", right: "Node | None") -> None:
        self.left = left
        self.right = right
        self.hash: bytes = sha256(
            BRANCH_PREFIX
            + (left.hash if left is not None else ZERO_DIGEST)
            + (right.hash if right is not None else ZERO_DIGEST)
        ).digest()


Node = Leaf | Branch


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafHashes:
    """The leaf at the end of a proof's path."""

    path: Digest
    value_hash: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StateProof:
    """Proof that a key has a value under a state root, or that it has none.

    Parameters
    ----------
    siblings : tuple of Digest
        Hashes beside the path, from the root down.
    leaf : LeafHashes or None
        The leaf where the path ends: the key's own (presence), another key's (absence), or None
        where nothing is (absence).
    """

    siblings: tuple[Digest, ...]
    leaf: LeafHashes | None

    def verify(self, *, root: Digest, key: bytes, value: bytes | None) -> None:
        """Check that `key` has `value` under `root`; None means that it is absent.

        Raises
        ------
        InvalidProof
            The proof shows something else, or nothing.
        """
        if len(self.siblings) > DEPTH_MAX:
            raise InvalidProof(f"{len(self.siblings)} hashes, at most {DEPTH_MAX} are possible")
        ends = () if self.leaf is None else (self.leaf.path, self.leaf.value_hash)
        # Of other sizes, path and value hash could share their bytes out differently.
        if any(len(digest) != DIGEST_SIZE for digest in (*self.siblings, *ends)):
            raise InvalidProof(f"a hash has not {DIGEST_SIZE} bytes")
        path = path_of(key)
        if value is not None:
            if self.leaf is None or self.leaf.path != path:
                raise InvalidProof("the path does not end at this key")
            if self.leaf.value_hash != value_hash_of(value):
                raise InvalidProof("the key has another value")
        elif self.leaf is not None:
            if self.leaf.path == path:
                raise InvalidProof("the key is present")
            if _shared_bits(self.leaf.path, path) < len(self.siblings):
                raise InvalidProof("the leaf does not stand on the path of the key")
        if self.leaf is None:
            digest: bytes = ZERO_DIGEST
        else:
            digest = sha256(LEAF_PREFIX + self.leaf.path + self.leaf.value_hash).digest()
        for depth in range(len(self.siblings) - 1, -1, -1):
            sibling = self.siblings[depth]
            pair = sibling + digest if bit(path, depth) else digest + sibling
            digest = sha256(BRANCH_PREFIX + pair).digest()
        if digest != root:
            raise InvalidProof("the path leads to another root")


STATE_PROOF: Final = Record(
    StateProof,
    siblings=ListOf(DIGEST, DEPTH_MAX),
    leaf=Optional(Record(LeafHashes, path=DIGEST, value_hash=DIGEST)),
)


class StateTree:
    """One version of the map; `updated` gives the next and leaves this one as it is."""

    __slots__ = ("_root",)

    def __init__(self, root: Node | None = None) -> None:
        self._root = root

    @property
    def top(self) -> Node | None:
        """The uppermost node; None for an empty map."""
        return self._root

    @property
    def root(self) -> Digest:
        """The state root; the zero digest for an empty map."""
        return ZERO_DIGEST if self._root is None else Digest(self._root.hash)

    def updated(self, changes: Mapping[bytes, bytes | None]) -> "StateTree":
        """Return the tree after `changes`; a value of None removes its key.

        Parameters
        ----------
        changes : mapping of bytes to bytes or None
            State keys and their encoded values.
        """
        hashed = sorted(
            (
                path_of(key),
                None if value is None else value_hash_of(value),
            )
            for key, value in changes.items()
        )
        return StateTree(_apply(self._root, hashed, 0))

    def prove(self, key: bytes) -> StateProof:
        """Return the proof of presence or absence of `key`."""
        path = path_of(key)
        siblings: list[Digest] = []
        node = self._root
        while isinstance(node, Branch):
            near, far = node.left, node.right
            if bit(path, len(siblings)):
                near, far = far, near
            siblings.append(ZERO_DIGEST if far is None else Digest(far.hash))
            node = near
        leaf = None
        if node is not None:
            leaf = LeafHashes(path=Digest(node.path), value_hash=Digest(node.value_hash))
        return StateProof(siblings=tuple(siblings), leaf=leaf)


def _apply(
    node: Node | None, changes: Sequence[tuple[bytes, bytes | None]], depth: int
) -> Node | None:
    """Return the subtree at `depth` after `changes`, all of which lie under it, sorted."""
    if not changes:
        return node
    if not isinstance(node, Branch):
        present = [(path, value) for path, value in changes if value is not None]
        if node is not None and all(path != node.path for path, _ in changes):
            present.append((node.path, node.value_hash))
            present.sort()
        return build(present, depth)
    split = _split(changes, depth)
    left = _apply(node.left, changes[:split], depth + 1)
    right = _apply(node.right, changes[split:], depth + 1)
    if left is None and not isinstance(right, Branch):
        return right
    if right is None and isinstance(left, Leaf):
        return left
    return Branch(left, right)


def build(entries: Sequence[tuple[bytes, bytes]], depth: int) -> Node | None:
    """Return the subtree at `depth` that holds `entries`: paths, ascending, and value hashes."""
    if not entries:
        return None
    if len(entries) == 1:
        return Leaf(*entries[0])
    split = _split(entries, depth)
    return Branch(build(entries[:split], depth + 1), build(entries[split:], depth + 1))


def _split(entries: Sequence[tuple[bytes, bytes | None]], depth: int) -> int:
    """Return the index of the first entry whose path has bit `depth` set."""
    return bisect_left(entries, 1, key=lambda entry: bit(entry[0], depth))


def path_of(key: bytes) -> Digest:
    """Return where the leaf of a state key stands: bits of 1 lead to the right."""
    return tagged_hash(_KEY_TAG, key)


def value_hash_of(value: bytes) -> Digest:
    """Return what a leaf holds of its value."""
    return tagged_hash(_VALUE_TAG, value)


def bit(path: bytes, depth: int) -> int:
    """Return a bit of a path, the highest at depth 0."""
    return (path[depth >> 3] >> (7 - (depth & 7))) & 1


def _shared_bits(a: bytes, b: bytes) -> int:
    difference = int.from_bytes(a, "big") ^ int.from_bytes(b, "big")
    return DEPTH_MAX - difference.bit_length()

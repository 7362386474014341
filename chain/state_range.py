"""Proofs of whole ranges of the state: all entries between two paths, and none left out.

A node that joins takes the state in such pieces, from several peers at once. Each piece proves
itself under a header's state root, so that nothing else has to be trusted, and a liar is found by
the first piece that he sends. docs/spec/state.md, section "Ranges", is normative.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from chain.errors import InvalidProof
from chain.fields import DIGEST
from chain.schema import Blob, ListOf, Record
from chain.state_tree import (
    BRANCH_PREFIX,
    DEPTH_MAX,
    LEAF_PREFIX,
    Leaf,
    Node,
    StateTree,
    build,
    path_of,
    value_hash_of,
)
from chain.table import RECORD_SIZE_MAX
from chain.types import DIGEST_SIZE, ZERO_DIGEST, Digest

PIECE_SIZE: Final = 256 * 1024
"""A piece ends with the entry that makes its keys and values so large."""
PIECE_ENTRIES_MAX: Final = 4_096
KEY_SIZE_MAX: Final = 256
PIECE_SIZE_MAX: Final = PIECE_SIZE + RECORD_SIZE_MAX + 64 * PIECE_ENTRIES_MAX + 64 * 1024
"""More than any piece has bytes on the wire."""
STEPS_MAX: Final = 4 * DEPTH_MAX
"""At each depth at most two subtrees are cut by the range, and two lie beside those."""

FIRST_PATH: Final = ZERO_DIGEST
LAST_PATH: Final = Digest(b"\xff" * DIGEST_SIZE)

_EMPTY: Final = b""
_LEAF: Final = b"l"
_BRANCH: Final = b"b"

Entry = tuple[bytes, bytes]
"""A state key and its encoded value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateEntry:
    """A state key and its encoded value."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePiece:
    """All entries of a state whose paths lie from `first` to `last`, both included.

    Parameters
    ----------
    entries : tuple of StateEntry
        Ascending by path.
    steps : tuple of bytes
        What the proof says of the subtrees that do not lie within, from the root down, left before
        right: the hash of one that lies outside; of one that the range cuts, that it is a branch,
        the next entry alone, empty, or a leaf outside the range, by path and value hash.
    """

    first: Digest
    last: Digest
    entries: tuple[StateEntry, ...]
    steps: tuple[bytes, ...]

    @property
    def is_full(self) -> bool:
        """Whether it ends where `cut_state` ends one; what does not may prove itself all the same.

        Whoever takes pieces of any size may be given a state that never ends.
        """
        return (
            self.last == LAST_PATH
            or len(self.entries) == PIECE_ENTRIES_MAX
            or sum([len(entry.key) + len(entry.value) for entry in self.entries]) >= PIECE_SIZE
        )

    def verify(self, root: Digest) -> None:
        """Check that exactly these entries stand in this range under `root`.

        Raises
        ------
        InvalidProof
            They do not, or the proof does not show it.
        """
        digest = _Reading(self).digest(0, 0)
        if digest != root:
            raise InvalidProof("the range leads to another root")


STATE_PIECE: Final = Record(
    StatePiece,
    first=DIGEST,
    last=DIGEST,
    entries=ListOf(
        Record(StateEntry, key=Blob(1, KEY_SIZE_MAX), value=Blob(1, RECORD_SIZE_MAX)),
        PIECE_ENTRIES_MAX,
    ),
    steps=ListOf(Blob(0, 2 * DIGEST_SIZE), STEPS_MAX),
)


def decode_piece(data: bytes) -> StatePiece:
    """Read a `STATE_PIECE`; raises `DecodeError`."""
    items_max = max(PIECE_ENTRIES_MAX, STEPS_MAX)
    return STATE_PIECE.decode(data, what="piece", size_max=PIECE_SIZE_MAX, items_max=items_max)


def cut_state(tree: StateTree, entries: Iterable[Entry]) -> Iterator[StatePiece]:
    """Cut a whole state into pieces, whose ranges follow one another without a gap.

    Parameters
    ----------
    entries : iterable of Entry
        All entries of `tree`, in any order; they are held in memory, as the tree is.
    """
    ordered = sorted((path_of(key), key, value) for key, value in entries)
    first, start = FIRST_PATH, 0
    while True:
        stop = _end_of_piece(ordered, start)
        is_last = stop == len(ordered)
        last = LAST_PATH if is_last else ordered[stop - 1][0]
        yield StatePiece(
            first=first,
            last=last,
            entries=tuple(
                [StateEntry(key=key, value=value) for _, key, value in ordered[start:stop]]
            ),
            steps=prove_range(tree, first, last),
        )
        if is_last:
            return
        first, start = next_path(last), stop


def next_path(path: Digest) -> Digest:
    """Return the path behind `path`, which is not the last."""
    return Digest((int.from_bytes(path, "big") + 1).to_bytes(DIGEST_SIZE, "big"))


def prove_range(tree: StateTree, first: Digest, last: Digest) -> tuple[bytes, ...]:
    """Return the steps which prove the entries of `tree` from path `first` to path `last`."""
    steps: list[bytes] = []
    low, high = int.from_bytes(first, "big"), int.from_bytes(last, "big")
    _prove(tree.top, 0, 0, low, high, steps)
    return tuple(steps)


def _prove(
    node: Node | None, depth: int, start: int, low: int, high: int, steps: list[bytes]
) -> None:
    """Add the steps of the subtree at `depth` whose lowest path is `start`."""
    end = _end_of_subtree(depth, start)
    if end < low or start > high:
        steps.append(ZERO_DIGEST if node is None else node.hash)
    elif low <= start and end <= high:
        pass  # its entries say it all
    elif node is None:
        steps.append(_EMPTY)
    elif isinstance(node, Leaf):
        inside = low <= int.from_bytes(node.path, "big") <= high
        steps.append(_LEAF if inside else node.path + node.value_hash)
    else:
        steps.append(_BRANCH)
        _prove(node.left, depth + 1, start, low, high, steps)
        _prove(node.right, depth + 1, _right_of(depth, start), low, high, steps)


@dataclass(slots=True)
class _Reading:
    """The root that a piece leads to.

    Every subtree within the range is built from the entries alone, so that none can be missing or
    added; of those that the range cuts the proof says what they are, and a false word of it changes
    the root, for leaves, branches and emptiness never hash to the same.
    """

    piece: StatePiece
    low: int = field(init=False)
    high: int = field(init=False)
    paths: list[bytes] = field(init=False)
    hashes: list[tuple[bytes, bytes]] = field(init=False)
    at: int = 0

    def __post_init__(self) -> None:
        piece = self.piece
        if len(piece.first) != DIGEST_SIZE or len(piece.last) != DIGEST_SIZE:
            raise InvalidProof(f"a path has not {DIGEST_SIZE} bytes")
        self.low, self.high = int.from_bytes(piece.first, "big"), int.from_bytes(piece.last, "big")
        self.hashes = [(path_of(e.key), value_hash_of(e.value)) for e in piece.entries]
        self.paths = [path for path, _ in self.hashes]
        if any(a >= b for a, b in zip(self.paths, self.paths[1:], strict=False)):
            raise InvalidProof("the entries do not ascend")
        if piece.first > piece.last or (
            self.paths and not piece.first <= self.paths[0] <= self.paths[-1] <= piece.last
        ):
            raise InvalidProof("an entry lies outside the range")

    def digest(self, depth: int, start: int) -> bytes:
        """Return the hash of the subtree at `depth` whose lowest path is `start`."""
        found = self._read(depth, start)
        if depth == 0 and self.at != len(self.piece.steps):
            raise InvalidProof("the proof says more than the range needs")
        return found

    def _read(self, depth: int, start: int) -> bytes:
        end = _end_of_subtree(depth, start)
        if end < self.low or start > self.high:
            digest = self._take()
            if len(digest) != DIGEST_SIZE:
                raise InvalidProof(f"a hash has not {DIGEST_SIZE} bytes")
            return digest
        inside = self._between(start, end)
        if self.low <= start and end <= self.high:
            node = build(inside, depth)
            return ZERO_DIGEST if node is None else node.hash
        step = self._take()
        if step == _BRANCH:
            left = self._read(depth + 1, start)
            right = self._read(depth + 1, _right_of(depth, start))
            return sha256(BRANCH_PREFIX + left + right).digest()
        if step == _LEAF and len(inside) == 1:
            return Leaf(*inside[0]).hash
        if not inside and step == _EMPTY:
            return ZERO_DIGEST
        if not inside and len(step) == 2 * DIGEST_SIZE:
            path = int.from_bytes(step[:DIGEST_SIZE], "big")
            if start <= path <= end and not self.low <= path <= self.high:
                return sha256(LEAF_PREFIX + step).digest()
        raise InvalidProof("the proof does not fit the entries")

    def _take(self) -> bytes:
        if self.at == len(self.piece.steps):
            raise InvalidProof("the proof ends too early")
        self.at += 1
        return self.piece.steps[self.at - 1]

    def _between(self, start: int, end: int) -> Sequence[tuple[bytes, bytes]]:
        first = bisect_left(self.paths, start.to_bytes(DIGEST_SIZE, "big"))
        stop = bisect_right(self.paths, end.to_bytes(DIGEST_SIZE, "big"))
        return self.hashes[first:stop]


def _end_of_piece(ordered: Sequence[tuple[Digest, bytes, bytes]], start: int) -> int:
    size = 0
    for index in range(start, min(len(ordered), start + PIECE_ENTRIES_MAX)):
        _, key, value = ordered[index]
        size += len(key) + len(value)
        if size >= PIECE_SIZE:
            return index + 1
    return min(len(ordered), start + PIECE_ENTRIES_MAX)


def _end_of_subtree(depth: int, start: int) -> int:
    return start + (1 << (DEPTH_MAX - depth)) - 1


def _right_of(depth: int, start: int) -> int:
    return start + (1 << (DEPTH_MAX - depth - 1))

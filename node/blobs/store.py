"""The blobs that a node holds: whole, proven and bounded.

A blob is one file: its bytes, the leaf hashes of its chunks, and a foot. It is written under a
draft's name and gets its own only when it is whole, proven and synced; so a crash leaves drafts and
nothing half. Drafts of what peers send are gone on with: a chunk counts where its hash agrees.

What the state names is kept; files of devices as long as they are named to the store; the rest
goes after a time. Neither of the latter two takes more than its share of room.
All methods but `find`, `held` and `size_max` touch the disk; any thread may call them.
docs/spec/durability.md, section "Blobs".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from chain.blobs import (
    BLOB_SIZE_MAX,
    CHUNK_SIZE,
    BlobChunk,
    chunk_count,
    chunk_size,
    digest_of_hashes,
    digest_of_root,
    prove_chunk,
)
from chain.errors import InvalidProof
from chain.merkle import MerkleTree, leaf_hash
from chain.types import DIGEST_SIZE, Digest
from node.errors import BlobRefused, DamagedEntry, StorageError
from node.ports import Clock, Files

SOURCE_SIZE: Final = 16
TREES_MAX: Final = 4
"""Trees of hashes kept in memory, of the blobs that were read last."""
PEERS: Final = bytes(SOURCE_SIZE)
"""The source of what was fetched."""

_FOOT_SIZE: Final = 32
_NO_HASH: Final = bytes(DIGEST_SIZE)
_PART: Final = ".part"
_UPLOAD: Final = ".upload"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobLimits:
    """What blobs may take.

    Parameters
    ----------
    blob_size_max : int
        Bytes of one.
    store_size_max : int
        Of all, drafts included; those that the chain does not name may have half of it, and
        together with the files of devices three quarters.
    source_size_max : int
        Of those that the chain does not name, from one address.
    count_max : int
        Blobs that the chain does not name, however small.
    keep_ms : int
        How long one is kept that the chain does not name.
    """

    blob_size_max: int = 1024 * 1024 * 1024
    store_size_max: int = 8 * 1024 * 1024 * 1024
    source_size_max: int = 2 * 1024 * 1024 * 1024
    count_max: int = 10_000
    keep_ms: int = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A blob that is held, or a draft of one; `source` is where it came from."""

    size: int
    time_ms: int
    source: bytes

    @property
    def file_size(self) -> int:
        """Bytes of its file."""
        return self.size + DIGEST_SIZE * chunk_count(self.size) + _FOOT_SIZE

    def foot(self) -> bytes:
        """Return what its file ends with."""
        return self.size.to_bytes(8, "big") + self.time_ms.to_bytes(8, "big") + self.source


class Draft:
    """A blob of which chunks come in, in any order; made by `BlobStore`, used by one at a time."""

    def __init__(self, files: Files, name: str, entry: Entry) -> None:
        self.name = name
        self.entry = entry
        self.hashes: list[bytes] = [_NO_HASH] * chunk_count(entry.size)
        self._files = files
        self._left = len(self.hashes)

    @property
    def is_complete(self) -> bool:
        """Whether all chunks are here."""
        return not self._left

    @property
    def missing(self) -> list[int]:
        """Indices of the chunks that are not here."""
        return [index for index, known in enumerate(self.hashes) if known == _NO_HASH]

    def begin(self) -> None:
        """Write the foot, which gives the file its length."""
        self._files.write(self.name, self.entry.file_size - _FOOT_SIZE, self.entry.foot())

    def resume(self) -> None:
        """Find the chunks that an earlier process has left whole."""
        for index, known in enumerate(_read_hashes(self._files, self.name, self.entry.size)):
            data = self._files.read(
                self.name, index * CHUNK_SIZE, chunk_size(self.entry.size, index)
            )
            if known != _NO_HASH and leaf_hash(data) == known:
                self._note(index, known)

    def write(self, index: int, data: bytes) -> None:
        """Take in chunk `index`."""
        assert len(data) == chunk_size(self.entry.size, index), "a chunk has the size of its place"
        known = leaf_hash(data)
        self._files.write(self.name, index * CHUNK_SIZE, data)
        self._files.write(self.name, self.entry.size + index * DIGEST_SIZE, known)
        self._note(index, known)

    def _note(self, index: int, known: bytes) -> None:
        self._left -= self.hashes[index] == _NO_HASH
        self.hashes[index] = known


class BlobStore:
    """The blobs in a directory.

    Parameters
    ----------
    path : Path
        Where they are, for messages.

    Attributes
    ----------
    named : mapping of Digest to int
        The blobs that the state names, with the size each may have at most; they are never swept.
        Set by `name`.
    files : mapping of Digest to int
        The same of devices' files; they are not swept while they are here.
    """

    def __init__(
        self, files: Files, *, path: Path, clock: Clock, limits: BlobLimits | None = None
    ) -> None:
        self.limits = limits or BlobLimits()
        self.named: Mapping[Digest, int] = {}
        self._parts: dict[str, Mapping[Digest, int]] = {}
        self.files: Mapping[Digest, int] = {}
        self._files = files
        self._path = path
        self._clock = clock
        self._lock = Lock()
        self._entries: dict[Digest, Entry] = {}
        self._drafts: dict[str, tuple[Digest, Entry]] = {}
        self._trees: dict[Digest, MerkleTree] = {}
        self._uploads = 0
        for name, size in sorted(files.sizes().items()):
            self._open(name, size)

    def name(self, part: str, blobs: Mapping[Digest, int]) -> None:
        """Say which blobs one part of the state names, as models or federated rounds do."""
        self._parts[part] = blobs
        named: dict[Digest, int] = {}
        for found in self._parts.values():
            for digest, size in found.items():
                # A digest holds whoever sends the blob to its size; that somebody else has named a
                # smaller one keeps nothing out.
                named[digest] = max(size, named.get(digest, 0))
        self.named = named

    def find(self, digest: Digest) -> Entry | None:
        """Return what is known of a blob that is held."""
        return self._entries.get(digest)

    @property
    def held(self) -> tuple[int, int]:
        """How many blobs are held, and the bytes of their files with those of drafts."""
        # Without the lock: it may be held for as long as a large blob takes to be synced, and this
        # is asked for on the event loop. The copies are made in one go.
        entries, drafts = self._entries.copy(), self._drafts.copy()
        sizes = [entry.file_size for entry in entries.values()]
        return len(entries), sum(sizes + [entry.file_size for _, entry in drafts.values()])

    def size_max(self, digest: Digest) -> int | None:
        """Return the size that a blob may have which the chain names; None for another."""
        # The larger, as within the state: whoever names a blob too small keeps it out nowhere.
        found = (self.named.get(digest), self.files.get(digest))
        return max([size for size in found if size is not None], default=None)

    # Reading

    def chunk(self, digest: Digest, index: int) -> BlobChunk | None:
        """Return a chunk with its proof, or None where it is not held; raises as `read`."""
        data = self.read(digest, index)
        entry = self._entries.get(digest)
        if data is None or entry is None:
            return None
        return prove_chunk(entry.size, self._tree(digest, entry), index, data)

    def read(self, digest: Digest, index: int) -> bytes | None:
        """Return a chunk, or None where it is not held.

        Raises
        ------
        DamagedEntry
            The disk has other bytes than were written; the blob is not held any more, so that it
            can be fetched again.
        """
        entry = self._entries.get(digest)
        if entry is None or not 0 <= index < chunk_count(entry.size):
            return None
        tree = self._tree(digest, entry)
        data = self._files.read(digest.hex(), index * CHUNK_SIZE, chunk_size(entry.size, index))
        if leaf_hash(data) != tree.leaves[index]:
            raise self._damaged(digest, f"chunk {index} is not what was written")
        return data

    def read_whole(self, digest: Digest, *, size_max: int) -> bytes | None:
        """Return a blob of at most `size_max` bytes, or None where it is not held; as `read`."""
        entry = self._entries.get(digest)
        if entry is None or entry.size > size_max:
            return None
        parts = [self.read(digest, index) for index in range(chunk_count(entry.size))]
        return None if None in parts else b"".join(part for part in parts if part is not None)

    # Taking in

    def begin_upload(self, size: int, *, source: str, digest: Digest) -> Draft:
        """Begin a blob that a client sends; raises `BlobRefused`, `StorageError`."""
        with self._lock:
            self._uploads += 1
            name = f"{self._uploads}{_UPLOAD}"
        mark = sha256(source.encode()).digest()[:SOURCE_SIZE]
        return self._begin(name, size, mark, digest)

    def begin_part(self, size: int, digest: Digest) -> Draft:
        """Begin a blob that peers send, or go on with it; raises as `begin_upload`."""
        name = digest.hex() + _PART
        _, entry = self._drafts.get(name, (digest, None))
        if entry is not None and entry.size == size:
            draft = Draft(self._files, name, entry)
            draft.resume()
            return draft
        return self._begin(name, size, PEERS, digest)

    def finish(self, draft: Draft, digest: Digest) -> bool:
        """Hold a blob whose chunks are all here.

        Returns
        -------
        bool
            False where it was forgotten while they came; then it is not held.

        Raises
        ------
        InvalidProof
            They are not those of `digest`; the draft is gone.
        StorageError
            The disk refused.
        """
        if digest_of_hashes(draft.entry.size, draft.hashes) != digest:
            self.abandon(draft)
            raise InvalidProof("the bytes have another digest")
        if self._drafts.get(draft.name, (digest, None))[1] is draft.entry:
            # What takes long goes ahead: nobody reads or takes in a blob while the lock is held.
            self._files.sync(draft.name)
        with self._lock:
            _, known = self._drafts.get(draft.name, (digest, None))
            if known is draft.entry:
                self._files.finish(draft.name, digest.hex())
                del self._drafts[draft.name]
                self._entries[digest] = draft.entry
                return True
        if known is None:
            # The last chunks have made the file anew.
            self._files.remove(draft.name)
        return False

    def abandon(self, draft: Draft) -> None:
        """Throw a draft away."""
        with self._lock:
            self._drafts.pop(draft.name, None)
        self._files.remove(draft.name)

    def sweep(self) -> int:
        """Remove what the chain does not name and is too old; return how many blobs that were."""
        oldest_ms = self._clock.wall_ms() - self.limits.keep_ms
        with self._lock:
            old = [
                digest
                for digest, entry in self._entries.items()
                if entry.time_ms < oldest_ms and self.size_max(digest) is None
            ]
            # Names of drafts that peers send; an upload ends by itself.
            left = [
                name
                for name, (digest, entry) in self._drafts.items()
                if entry.time_ms < oldest_ms
                and name.endswith(_PART)
                and self.size_max(digest) is None
            ]
        self._remove(old, left)
        return len(old)

    def forget(self, digests: Iterable[Digest]) -> int:
        """Remove blobs and what peers have sent of them, unless the chain names them still.

        Returns
        -------
        int
            How many blobs were held.
        """
        with self._lock:
            gone = [digest for digest in digests if self.size_max(digest) is None]
            held = [digest for digest in gone if digest in self._entries]
            parts = [name for digest in gone if (name := digest.hex() + _PART) in self._drafts]
        self._remove(held, parts)
        return len(held)

    def _remove(self, held: Sequence[Digest], drafts: Sequence[str]) -> None:
        with self._lock:
            for digest in held:
                self._entries.pop(digest, None)
                self._trees.pop(digest, None)
            for name in drafts:
                self._drafts.pop(name, None)
        for name in (*(digest.hex() for digest in held), *drafts):
            self._files.remove(name)

    def _begin(self, name: str, size: int, source: bytes, digest: Digest) -> Draft:
        entry = Entry(size=size, time_ms=self._clock.wall_ms(), source=source)
        with self._lock:
            self._require_room(entry, digest)
            self._drafts[name] = (digest, entry)
        draft = Draft(self._files, name, entry)
        try:
            self._files.remove(name)
            draft.begin()
        except StorageError:
            with self._lock:
                # It may have been forgotten meanwhile.
                self._drafts.pop(name, None)
            raise
        return draft

    def _require_room(self, entry: Entry, digest: Digest) -> None:
        limits = self.limits
        named = self.size_max(digest)
        if entry.size > min(limits.blob_size_max, BLOB_SIZE_MAX if named is None else named):
            raise BlobRefused("too_large", f"a blob of {entry.size} bytes is more than is taken")
        if named is None:
            others = [other for known, other in self._all() if self.size_max(known) is None]
            own = sum(other.file_size for other in others if other.source == entry.source)
            if len(others) >= limits.count_max:
                raise BlobRefused("blobs_full", f"{len(others)} blobs that nobody names are here")
            if own + entry.file_size > limits.source_size_max:
                raise BlobRefused("blobs_full", "the sender's share of the blob store is used up")
            self._require(entry, others, limits.store_size_max // 2)
        if digest not in self.named:
            # What the state names finds room whatever else clients and devices bring.
            rest = [other for known, other in self._all() if known not in self.named]
            self._require(entry, rest, limits.store_size_max * 3 // 4)
        self._require(entry, [other for _, other in self._all()], limits.store_size_max)

    def _require(self, entry: Entry, others: Sequence[Entry], bound: int) -> None:
        if sum(other.file_size for other in others) + entry.file_size > bound:
            raise BlobRefused("blobs_full", "the blob store is full")

    def _all(self) -> Iterator[tuple[Digest, Entry]]:
        """Yield what is held, and what drafts will be; the lock is the caller's."""
        yield from self._entries.items()
        yield from self._drafts.values()

    def _tree(self, digest: Digest, entry: Entry) -> MerkleTree:
        """Return the tree over the chunks of a blob, proven by its digest."""
        with self._lock:
            tree = self._trees.get(digest)
        if tree is None:
            tree = MerkleTree(_read_hashes(self._files, digest.hex(), entry.size))
            if digest_of_root(entry.size, tree.root) != digest:
                raise self._damaged(digest, "its hashes are not those of its digest")
            with self._lock:
                self._trees[digest] = tree
                while len(self._trees) > TREES_MAX:
                    del self._trees[next(iter(self._trees))]
        return tree

    def _damaged(self, digest: Digest, cause: str) -> DamagedEntry:
        with self._lock:
            self._entries.pop(digest, None)
            self._trees.pop(digest, None)
        self._files.remove(digest.hex())
        return DamagedEntry(
            self._path, entry=f"blob {digest.hex()}", key=bytes(digest), cause=cause
        )

    def _open(self, name: str, file_size: int) -> None:
        """Take up a file that is there; what is neither a blob nor a part of one is removed."""
        stem = name.removesuffix(_PART)
        foot = self._files.read(name, max(0, file_size - _FOOT_SIZE), _FOOT_SIZE)
        if len(foot) == _FOOT_SIZE and _is_digest(stem):
            entry = Entry(
                size=int.from_bytes(foot[:8], "big"),
                time_ms=int.from_bytes(foot[8:16], "big"),
                source=foot[16:],
            )
            if 1 <= entry.size <= BLOB_SIZE_MAX and entry.file_size == file_size:
                if name == stem:
                    self._entries[Digest(bytes.fromhex(stem))] = entry
                else:
                    self._drafts[name] = (Digest(bytes.fromhex(stem)), entry)
                return
        log.info("a file that is no blob is removed", name=name[:80])
        self._files.remove(name)


def _read_hashes(files: Files, name: str, size: int) -> list[bytes]:
    count = chunk_count(size)
    data = files.read(name, size, DIGEST_SIZE * count).ljust(DIGEST_SIZE * count, b"\0")
    return [data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE)]


def _is_digest(name: str) -> bool:
    return len(name) == 2 * DIGEST_SIZE and set(name) <= set("0123456789abcdef")

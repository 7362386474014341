"""Whose files a node keeps room for: those that the chain names, within the shares of their owners.

A share is of bytes and of files, for each device and for each organisation. What is registered
counts whether or not its bytes have come; what is beyond a share is not named here, and nobody is
asked for it. Shares are this node's own matter: the transaction stands on the chain in any case.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from chain.manifests import MANIFEST_SIZE_MAX
from chain.payloads import Chunked
from chain.types import Address, Digest

K = TypeVar("K")

DEVICE_FILES_MAX: Final = 1_000
ORGANISATION_FILES_MAX: Final = 10_000
FILES_MAX: Final = 20_000
"""Of all organisations together; beyond it nothing more is named until something is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """How much of devices' files is kept, and for how long.

    Parameters
    ----------
    device_size_max, organisation_size_max : int
        Bytes of the files of one, within `keep_ms`.
    keep_ms : int
        How long a file is kept after the block that names it.
    fetches : bool
        Whether files that others hold are fetched.
    """

    device_size_max: int = 2 * 1024 * 1024 * 1024
    organisation_size_max: int = 4 * 1024 * 1024 * 1024
    keep_ms: int = 30 * 24 * 3_600_000
    fetches: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """A file that a committed transaction names.

    Parameters
    ----------
    time_ms : int
        Of its block.
    """

    file: Chunked
    device: Address
    organisation: Address
    time_ms: int

    @property
    def size(self) -> int:
        """Bytes that it may take: those of its chunks and of the largest manifest."""
        return self.file.size_bytes + MANIFEST_SIZE_MAX

    @property
    def blobs(self) -> Mapping[Digest, int]:
        """Its blobs with the size that each may have at most; the small one first."""
        return {self.file.manifest: MANIFEST_SIZE_MAX, self.file.chunks: self.file.size_bytes}


class FileLedger:
    """The files that are named now, oldest first; at most `FILES_MAX`.

    Attributes
    ----------
    named : dict of Digest to int
        Their blobs with the size that each may have at most.
    """

    def __init__(self, limits: FileLimits) -> None:
        self.named: dict[Digest, int] = {}
        self._limits = limits
        self._files: deque[NamedFile] = deque()
        self._uses: Counter[Digest] = Counter()
        self._sizes: Counter[Address] = Counter()
        self._counts: Counter[Address] = Counter()

    @property
    def count(self) -> int:
        """How many files are named."""
        return len(self._files)

    @property
    def oldest_ms(self) -> int | None:
        """Block time of the oldest of them, or None."""
        return self._files[0].time_ms if self._files else None

    def register(self, entry: NamedFile) -> bool:
        """Name a file, which no earlier one may be younger than; tell whether there was a share."""
        limits = self._limits
        shares = (
            (entry.device, limits.device_size_max, DEVICE_FILES_MAX),
            (entry.organisation, limits.organisation_size_max, ORGANISATION_FILES_MAX),
        )
        is_beyond = any(
            self._sizes[owner] + entry.size > size_max or self._counts[owner] >= count_max
            for owner, size_max, count_max in shares
        )
        if is_beyond or len(self._files) >= FILES_MAX:
            return False
        self._files.append(entry)
        for owner in (entry.device, entry.organisation):
            self._sizes[owner] += entry.size
            self._counts[owner] += 1
        for digest, size in entry.blobs.items():
            self._uses[digest] += 1
            # One digest has one size, but a manifest's may be named as chunks by another.
            self.named[digest] = max(size, self.named.get(digest, 0))
        return True

    def expire(self, time_ms: int) -> list[Digest]:
        """Forget the files of blocks up to `time_ms`; return the blobs that nobody names now."""
        gone: list[Digest] = []
        while self._files and self._files[0].time_ms <= time_ms:
            entry = self._files.popleft()
            for owner in (entry.device, entry.organisation):
                _take(self._sizes, owner, entry.size)
                _take(self._counts, owner, 1)
            for digest in entry.blobs:
                _take(self._uses, digest, 1)
                if digest not in self._uses:
                    del self.named[digest]
                    gone.append(digest)
        return gone


def _take(counter: Counter[K], key: K, amount: int) -> None:
    counter[key] -= amount
    if not counter[key]:
        del counter[key]

"""Blobs: byte strings kept outside the chain, which names them by their digest.

A blob is cut into chunks of `CHUNK_SIZE` bytes, the last one shorter. Its digest commits to its
size and to the Merkle root over the chunks (RFC 9162), so that each chunk proves itself: it may
come from anybody, in any order. docs/spec/encoding.md, section "Blobs", is normative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chain.crypto import tagged_hash
from chain.errors import InvalidProof
from chain.merkle import MerkleTree, leaf_hash, root_of_hashes, verify_inclusion
from chain.types import Digest

BLOB_TAG: Final = b"securenet/blob/v1"
CHUNK_SIZE: Final = 256 * 1024
BLOB_SIZE_MAX: Final = 2**32
"""Larger blobs have no digest: they would have more chunks than a proof may speak of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobChunk:
    """One chunk of a blob, with what proves it.

    Parameters
    ----------
    size : int
        Bytes of the whole blob.
    root : Digest
        Merkle root over its chunks.
    index : int
        Place of the chunk, from 0.
    path : tuple of Digest
        Siblings from the chunk up to the root.
    data : bytes
        The chunk.
    """

    size: int
    root: Digest
    index: int
    path: tuple[Digest, ...]
    data: bytes

    def verify(self, digest: Digest, index: int) -> None:
        """Make sure that this is chunk `index` of the blob `digest`.

        Raises
        ------
        InvalidProof
            It is not: another blob, another place, or other bytes.
        """
        if self.index != index:
            # The place is the one asked for, in the message and in the proof alike.
            raise InvalidProof(f"chunk {self.index} instead of {index}")
        if not 1 <= self.size <= BLOB_SIZE_MAX:
            raise InvalidProof(f"no blob has {self.size} bytes")
        if digest_of_root(self.size, self.root) != digest:
            raise InvalidProof("size and root are those of another blob")
        count = chunk_count(self.size)
        if not 0 <= index < count or len(self.data) != chunk_size(self.size, index):
            raise InvalidProof(f"no chunk {index} of {len(self.data)} bytes in {self.size}")
        verify_inclusion(
            root=self.root, leaf=self.data, index=index, leaf_count=count, path=self.path
        )


def blob_digest(data: bytes) -> Digest:
    """Return the digest of a blob of 1 to `BLOB_SIZE_MAX` bytes."""
    hashes = [
        leaf_hash(data[start : start + CHUNK_SIZE]) for start in range(0, len(data), CHUNK_SIZE)
    ]
    return digest_of_hashes(len(data), hashes)


def digest_of_hashes(size: int, hashes: Sequence[bytes]) -> Digest:
    """Return the digest of a blob from its size and the leaf hashes of its chunks."""
    return digest_of_root(size, root_of_hashes(hashes))


def digest_of_root(size: int, root: Digest) -> Digest:
    """Return the digest of a blob from its size and the Merkle root over its chunks."""
    return tagged_hash(BLOB_TAG, size.to_bytes(8, "big"), root)


def chunk_count(size: int) -> int:
    """Return how many chunks a blob of `size` bytes has."""
    return -(-size // CHUNK_SIZE)


def chunk_size(size: int, index: int) -> int:
    """Return the bytes of chunk `index` of a blob of `size` bytes."""
    return min(CHUNK_SIZE, size - index * CHUNK_SIZE)


def prove_chunk(size: int, tree: MerkleTree, index: int, data: bytes) -> BlobChunk:
    """Return a chunk with its proof, given the tree over all chunks."""
    return BlobChunk(
        size=size,
        root=tree.root,
        index=index,
        path=tree.path(index),
        data=data,
    )

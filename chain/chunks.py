"""Files in safe chunks: cut, encrypted, and proven by one Merkle root on the chain.

Each chunk of a file is encrypted into exactly one chunk of a blob (`chain.blobs`), so that the
blob's root proves every encrypted chunk, and whoever has the content key can tell of each chunk
that it is the one of this file and this place. Who has the content key, `chain.manifests` says.
docs/spec/chunks.md is normative.

References
----------
Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, CRYPTO 2015 (STREAM). RFC 8439 (ChaCha20-Poly1305), RFC 5869 (HKDF).
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chain.blobs import BLOB_SIZE_MAX, CHUNK_SIZE, chunk_count
from chain.crypto import domain
from chain.errors import InvalidChunk
from chain.types import Digest

CONTENT_KEY_SIZE: Final = 32
TAG_SIZE: Final = 16
"""What encryption adds to a chunk."""
PLAIN_CHUNK_SIZE: Final = CHUNK_SIZE - TAG_SIZE
"""Bytes of a file in each chunk but the last, which may have fewer."""
FILE_SIZE_MAX: Final = BLOB_SIZE_MAX // CHUNK_SIZE * PLAIN_CHUNK_SIZE
"""The largest file whose encrypted chunks are a blob."""

CHUNK_TAG: Final = b"securenet/file-chunk/v1"
FILE_ID_TAG: Final = b"securenet/file-id/v1"


class FileCipher:
    """Encrypts and decrypts the chunks of one file.

    Parameters
    ----------
    content_key : bytes of length 32
        Random, and of this file alone: chunks of two files under one key could be told apart by
        nobody, and their nonces would repeat.
    size : int
        Bytes of the file.

    Notes
    -----
    The nonce is the chunk's place and whether it is the last, as in STREAM, and the associated data
    bind the file, the place and the number of chunks. So no chunk can be changed, moved, left out,
    repeated, appended, or taken from another file.
    """

    def __init__(self, content_key: bytes, size: int) -> None:
        self.size = size
        self.count = file_chunk_count(size)
        self._cipher = ChaCha20Poly1305(derive_key(content_key, CHUNK_TAG))
        self._bound = domain(CHUNK_TAG) + file_id(content_key)

    def seal(self, index: int, data: bytes) -> bytes:
        """Return chunk `index` encrypted; `data` has the size of its place."""
        assert len(data) == self.plain_size(index), "a chunk has the size of its place"
        return self._cipher.encrypt(self._nonce(index), data, self._associated(index))

    def open(self, index: int, sealed: bytes) -> bytes:
        """Return chunk `index` decrypted.

        Raises
        ------
        InvalidChunk
            It is not what was encrypted as chunk `index` of this file.
        """
        if not 0 <= index < self.count or len(sealed) != self.plain_size(index) + TAG_SIZE:
            raise InvalidChunk(index, f"no chunk {index} of {len(sealed)} bytes in this file")
        try:
            return self._cipher.decrypt(self._nonce(index), sealed, self._associated(index))
        except InvalidTag:
            raise InvalidChunk(index, f"chunk {index} is not the one of this file") from None

    def plain_size(self, index: int) -> int:
        """Return the bytes of the file in chunk `index`."""
        return min(PLAIN_CHUNK_SIZE, self.size - index * PLAIN_CHUNK_SIZE)

    def _nonce(self, index: int) -> bytes:
        return index.to_bytes(11, "big") + bytes([index == self.count - 1])

    def _associated(self, index: int) -> bytes:
        return self._bound + index.to_bytes(4, "big") + self.count.to_bytes(4, "big")


def file_id(content_key: bytes) -> Digest:
    """Return what names a file without telling its key.

    It commits to the key: two readers of one file id cannot have been given different keys, under
    which the same bytes would be different files.
    """
    return Digest(derive_key(content_key, FILE_ID_TAG))


def file_chunk_count(size: int) -> int:
    """Return how many chunks a file of `size` bytes has; an empty file has one, of nothing."""
    return max(1, -(-size // PLAIN_CHUNK_SIZE))


def sealed_size(size: int) -> int:
    """Return the bytes of all encrypted chunks of a file of `size` bytes."""
    return size + TAG_SIZE * file_chunk_count(size)


def opened_size(sealed: int) -> int:
    """Return the bytes of the file whose encrypted chunks have `sealed` bytes together.

    Raises
    ------
    InvalidChunk
        No file has.
    """
    size = sealed - TAG_SIZE * chunk_count(sealed)
    if size < 0 or sealed_size(size) != sealed:
        raise InvalidChunk(chunk_count(sealed) - 1, f"no file has {sealed} bytes of chunks")
    return size


def derive_key(secret: bytes, tag: bytes, *, salt: bytes = b"", info: bytes = b"") -> bytes:
    """Return 32 bytes by HKDF-SHA256 that tell nothing of `secret` or of those of another tag."""
    kdf = HKDF(algorithm=SHA256(), length=32, salt=salt or None, info=domain(tag) + info)
    return kdf.derive(secret)

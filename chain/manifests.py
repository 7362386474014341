"""The manifest of a file in chunks: what it is, and for whom its content key is wrapped.

It is a blob of its own, named on the chain beside the root of the chunks. A reader's entry does not
say whose it is: each reader tries all of them. docs/spec/chunks.md is normative.

References
----------
RFC 7748 (X25519). The entries of readers are made as those of age (C2SP, age-encryption.org/v1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chain.chunks import (
    CONTENT_KEY_SIZE,
    FILE_SIZE_MAX,
    TAG_SIZE,
    derive_key,
    file_id,
    sealed_size,
)
from chain.errors import DecodeError, InvalidKey, InvalidProof, NotAReader
from chain.fields import DIGEST
from chain.reader_keys import READER_KEY_SIZE, ReaderKey
from chain.schema import Blob, Integer, ListOf, Optional, Record
from chain.types import Digest

MANIFEST_VERSION: Final = 1
MANIFEST_SIZE_MAX: Final = 8 * 1024
"""More than any manifest has bytes."""
READERS_MAX: Final = 64
FILE_NAME_SIZE_MAX: Final = 255

WRAP_TAG: Final = b"securenet/file-key/v1"
NAME_TAG: Final = b"securenet/file-name/v1"

_NAME_SIZE: Final = 1 + FILE_NAME_SIZE_MAX
_NONCE: Final = bytes(12)
"""Each key made here encrypts one thing once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The content key for one reader.

    Parameters
    ----------
    ephemeral : bytes of length 32
        A public key of X25519 that was made for this entry.
    wrapped : bytes of length 48
        The content key, encrypted under what the two keys agree on.
    """

    ephemeral: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is needed to read a file beside its chunks.

    Parameters
    ----------
    version : int
        Of this format, the cutting and the encryption.
    file : Digest
        Id of the file, by which its content key is known.
    size_bytes : int
        Bytes of the file.
    root : Digest
        Merkle root over its encrypted chunks.
    readers : tuple of Entry
        Who may read it, unnamed. Without any, everybody may.
    open_key : bytes or None
        The content key, where everybody may.
    name : bytes or None
        Name of the file, encrypted.
    """

    version: int
    file: Digest
    size_bytes: int
    root: Digest
    readers: tuple[Entry, ...]
    open_key: bytes | None = field(repr=False)
    name: bytes | None

    def check(self, *, root: Digest, size: int) -> None:
        """Make sure that it is the manifest of the chunks that the chain names.

        Parameters
        ----------
        size : int
            Bytes of all encrypted chunks.

        Raises
        ------
        InvalidProof
            It is that of others.
        """
        if self.root != root or sealed_size(self.size_bytes) != size:
            raise InvalidProof("the manifest is that of other chunks")

    def open(self, reader: ReaderKey | None) -> bytes:
        """Return the content key.

        Raises
        ------
        NotAReader
            It is not for this reader, or for readers alone.
        """
        candidates = [self.open_key] if reader is None or self.open_key else []
        if reader is not None:
            candidates += [_unwrap(entry, reader, self.file) for entry in self.readers]
        for key in candidates:
            if key is not None and file_id(key) == self.file:
                return key
        if reader is None:
            raise NotAReader("the file is encrypted for readers, and no reader's key is given")
        raise NotAReader("the file is not encrypted for this key")

    def open_name(self, content_key: bytes) -> str | None:
        """Return the file's name, which is for people and may be any text; None where it has none.

        Raises
        ------
        InvalidProof
            It was not encrypted with this content key, or is none.
        """
        if self.name is None:
            return None
        try:
            padded = _name_cipher(content_key).decrypt(_NONCE, self.name, self.file)
            return padded[1 : 1 + padded[0]].decode()
        except (InvalidTag, UnicodeDecodeError):
            raise InvalidProof("the name in the manifest is not that of the file") from None


MANIFEST: Final = Record(
    Manifest,
    version=Integer(MANIFEST_VERSION, MANIFEST_VERSION),
    file=DIGEST,
    size_bytes=Integer(0, FILE_SIZE_MAX),
    root=DIGEST,
    readers=ListOf(
        Record(Entry, ephemeral=Blob(READER_KEY_SIZE), wrapped=Blob(CONTENT_KEY_SIZE + TAG_SIZE)),
        READERS_MAX,
    ),
    open_key=Optional(Blob(CONTENT_KEY_SIZE)),
    name=Optional(Blob(_NAME_SIZE + TAG_SIZE)),
)


def make_manifest(
    content_key: bytes,
    *,
    size: int,
    root: Digest,
    readers: Sequence[bytes],
    name: str | None,
    random: Callable[[int], bytes],
) -> Manifest:
    """Return the manifest of a file.

    Parameters
    ----------
    size : int
        Bytes of the file.
    root : Digest
        Merkle root over its encrypted chunks.
    readers : sequence of bytes
        Their public keys, at most `READERS_MAX`; without any, everybody may read the file.
    name : str, optional
        At most `FILE_NAME_SIZE_MAX` bytes of UTF-8.
    random : callable
        Returns so many secret random bytes.

    Raises
    ------
    InvalidKey
        Nothing can be encrypted for one of `readers`.
    """
    assert len(readers) <= READERS_MAX, "the caller bounds the readers"
    file = file_id(content_key)
    return Manifest(
        version=MANIFEST_VERSION,
        file=file,
        size_bytes=size,
        root=root,
        readers=tuple([_wrap(content_key, reader, file, random) for reader in readers]),
        open_key=None if readers else content_key,
        name=None if name is None else _seal_name(name, content_key, file),
    )


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises
    ------
    DecodeError
        It is none.
    """
    found = MANIFEST.decode(data, what="manifest", size_max=MANIFEST_SIZE_MAX)
    if bool(found.readers) == (found.open_key is not None):
        raise DecodeError("manifest.open_key", "it is for readers or for everybody")
    return found


def _wrap(content_key: bytes, reader: bytes, file: Digest, random: Callable[[int], bytes]) -> Entry:
    ephemeral = ReaderKey(random(READER_KEY_SIZE))
    cipher = _wrap_cipher(ephemeral.agree(reader), ephemeral.public, reader)
    return Entry(ephemeral=ephemeral.public, wrapped=cipher.encrypt(_NONCE, content_key, file))


def _unwrap(entry: Entry, reader: ReaderKey, file: Digest) -> bytes | None:
    try:
        cipher = _wrap_cipher(reader.agree(entry.ephemeral), entry.ephemeral, reader.public)
        return cipher.decrypt(_NONCE, entry.wrapped, file)
    except (InvalidKey, InvalidTag):
        return None  # another reader's


def _wrap_cipher(shared: bytes, ephemeral: bytes, reader: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(derive_key(shared, WRAP_TAG, salt=ephemeral + reader))


def _name_cipher(content_key: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(derive_key(content_key, NAME_TAG))


def _seal_name(name: str, content_key: bytes, file: Digest) -> bytes:
    """Return a name encrypted, padded so that its length is told to nobody."""
    data = name.encode()
    assert len(data) <= FILE_NAME_SIZE_MAX, "the caller bounds the name"
    padded = (bytes([len(data)]) + data).ljust(_NAME_SIZE, b"\0")
    return _name_cipher(content_key).encrypt(_NONCE, padded, file)

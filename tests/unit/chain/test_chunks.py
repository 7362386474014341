"""Chunks and manifests at their bounds; their laws stand in tests/property/test_chain_chunks.py."""

from dataclasses import replace

import pytest

from chain.blobs import BLOB_SIZE_MAX, CHUNK_SIZE, chunk_count
from chain.chunks import (
    FILE_SIZE_MAX,
    PLAIN_CHUNK_SIZE,
    FileCipher,
    file_chunk_count,
    opened_size,
    sealed_size,
)
from chain.errors import DecodeError, InvalidChunk, InvalidKey, NotAReader
from chain.manifests import (
    MANIFEST,
    MANIFEST_SIZE_MAX,
    READERS_MAX,
    decode_manifest,
    make_manifest,
)
from chain.payloads import Chunked
from chain.reader_keys import ReaderKey, check_reader_key
from chain.types import ZERO_DIGEST

KEY = b"k" * 32
SMALL_ORDER = [bytes(32), b"\1" + bytes(31)]


def manifest(readers=(), name=None):
    return make_manifest(
        KEY,
        size=1,
        root=ZERO_DIGEST,
        readers=[reader.public for reader in readers],
        name=name,
        random=lambda size: b"e" * size,
    )


def test_every_encrypted_chunk_is_a_chunk_of_the_blob():
    for size in (0, 1, PLAIN_CHUNK_SIZE, PLAIN_CHUNK_SIZE + 1, FILE_SIZE_MAX):
        assert chunk_count(sealed_size(size)) == file_chunk_count(size)
    assert sealed_size(FILE_SIZE_MAX) == BLOB_SIZE_MAX
    cipher = FileCipher(KEY, PLAIN_CHUNK_SIZE + 1)
    assert len(cipher.seal(0, bytes(PLAIN_CHUNK_SIZE))) == CHUNK_SIZE


@pytest.mark.parametrize("size", [0, 15, CHUNK_SIZE + 1, CHUNK_SIZE + 16])
def test_a_size_that_no_file_gives_is_refused(size):
    with pytest.raises(InvalidChunk):
        opened_size(size)


def test_the_last_chunk_of_a_shorter_file_is_not_the_last_of_a_longer_one():
    short = FileCipher(KEY, PLAIN_CHUNK_SIZE)
    long = FileCipher(KEY, PLAIN_CHUNK_SIZE + 1)

    with pytest.raises(InvalidChunk):
        long.open(0, short.seal(0, bytes(PLAIN_CHUNK_SIZE)))


def test_the_largest_manifest_is_within_its_bound():
    readers = [ReaderKey(bytes([number]) * 32) for number in range(READERS_MAX)]

    encoded = MANIFEST.encode(manifest(readers, name="n" * 255))

    assert len(encoded) <= MANIFEST_SIZE_MAX
    assert decode_manifest(encoded).open(readers[-1]) == KEY


def test_a_manifest_is_for_readers_or_for_everybody():
    closed = manifest([ReaderKey(b"r" * 32)])

    for wrong in (replace(closed, open_key=KEY), replace(closed, readers=())):
        with pytest.raises(DecodeError, match="for readers or for everybody"):
            decode_manifest(MANIFEST.encode(wrong))


def test_another_key_than_that_of_the_file_opens_nothing():
    # Two readers of one manifest could else be given two keys, and with them two files.
    with pytest.raises(NotAReader):
        replace(manifest(), open_key=b"o" * 32).open(None)


def test_its_content_key_stands_in_no_text():
    assert repr(KEY) not in repr(manifest())


@pytest.mark.parametrize("public", [*SMALL_ORDER, b"", bytes(31), b"\2" * 33])
def test_nothing_is_encrypted_for_a_key_that_everybody_has(public):
    with pytest.raises(InvalidKey):
        check_reader_key(public)


def test_an_entry_with_a_key_of_small_order_opens_nothing():
    reader = ReaderKey(b"r" * 32)
    made = manifest([reader])
    (entry,) = made.readers
    bad = replace(made, readers=(replace(entry, ephemeral=SMALL_ORDER[0]), entry))

    assert bad.open(reader) == KEY


def test_a_transaction_says_how_many_chunks_and_which_blob():
    file = Chunked(root=ZERO_DIGEST, size_bytes=CHUNK_SIZE + 17, manifest=ZERO_DIGEST)

    assert file.count == 2
    assert file.chunks != replace(file, size_bytes=CHUNK_SIZE + 18).chunks

"""A file in chunks: any change to it is found, and readers alone can read it."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chain import blobs, chunks
from chain.chunks import TAG_SIZE, FileCipher, opened_size, sealed_size
from chain.errors import DecodeError, InvalidChunk, InvalidProof, NotAReader
from chain.manifests import MANIFEST, Manifest, decode_manifest, make_manifest
from chain.merkle import merkle_root
from chain.reader_keys import ReaderKey
from chain.types import Digest

PLAIN = 8
"""Small chunks in place of the real ones: the law is the same, and files have many."""


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "PLAIN_CHUNK_SIZE", PLAIN)
        patch.setattr(blobs, "CHUNK_SIZE", PLAIN + TAG_SIZE)
        yield


files = st.binary(max_size=80)
keys = st.integers(0, 2**32).map(lambda seed: Random(seed).randbytes(32))


def seal(content_key: bytes, data: bytes) -> list[bytes]:
    cipher = FileCipher(content_key, len(data))
    return [
        cipher.seal(index, data[index * PLAIN : (index + 1) * PLAIN])
        for index in range(cipher.count)
    ]


def manifest_of(
    data: bytes, readers: list[ReaderKey], *, key: bytes, name: str | None = None
) -> Manifest:
    return make_manifest(
        key,
        size=len(data),
        root=merkle_root(seal(key, data)),
        readers=[reader.public for reader in readers],
        name=name,
        random=Random(7).randbytes,
    )


@given(files, keys)
def test_what_was_cut_and_encrypted_comes_back(data, key):
    sealed = seal(key, data)
    cipher = FileCipher(key, len(data))

    assert b"".join(cipher.open(index, chunk) for index, chunk in enumerate(sealed)) == data
    assert sum(map(len, sealed)) == sealed_size(len(data))
    assert opened_size(sealed_size(len(data))) == len(data)


@given(st.integers(0, 500))
def test_no_other_size_is_that_of_encrypted_chunks(sealed):
    try:
        size = opened_size(sealed)
    except InvalidChunk:
        assert sealed not in {sealed_size(size) for size in range(sealed + 1)}
    else:
        assert sealed_size(size) == sealed


@given(files, keys, st.data())
def test_a_changed_chunk_is_found(data, key, draw):
    sealed = seal(key, data)
    index = draw.draw(st.integers(0, len(sealed) - 1))
    place = draw.draw(st.integers(0, len(sealed[index]) - 1))
    changed = bytearray(sealed[index])
    changed[place] ^= 1 << draw.draw(st.integers(0, 7))

    with pytest.raises(InvalidChunk) as refused:
        FileCipher(key, len(data)).open(index, bytes(changed))
    assert refused.value.index == index
    for other in (sealed[index][:-1], sealed[index] + b"\0", b""):
        with pytest.raises(InvalidChunk):
            FileCipher(key, len(data)).open(index, other)


@pytest.mark.attack("B15")
@given(files, keys, st.data())
def test_a_chunk_passes_for_none_of_another_place_or_file_or_number_of_chunks(data, key, draw):
    sealed = seal(key, data)
    index = draw.draw(st.integers(0, len(sealed) - 1))
    asked = draw.draw(st.integers(-1, len(sealed)))
    size = draw.draw(st.integers(0, 100))
    another = draw.draw(keys)

    if asked != index:
        with pytest.raises(InvalidChunk):
            FileCipher(key, len(data)).open(asked, sealed[index])
    if FileCipher(key, size).count != len(sealed):
        with pytest.raises(InvalidChunk):
            FileCipher(key, size).open(index, sealed[index])
    if another != key:
        with pytest.raises(InvalidChunk):
            FileCipher(another, len(data)).open(index, sealed[index])


@given(files, keys, st.lists(keys, min_size=1, max_size=4, unique=True), keys)
def test_readers_alone_get_the_key(data, key, seeds, stranger):
    assume(stranger not in seeds)
    readers = [ReaderKey(seed) for seed in seeds]
    manifest = decode_manifest(MANIFEST.encode(manifest_of(data, readers, key=key)))

    assert {manifest.open(reader) for reader in readers} == {key}
    for other in (ReaderKey(stranger), None):
        with pytest.raises(NotAReader):
            manifest.open(other)
    public = MANIFEST.encode(manifest)
    assert key not in public
    assert all(reader.public not in public for reader in readers)


@given(files, keys)
def test_a_file_without_readers_is_open_to_all(data, key):
    manifest = manifest_of(data, [], key=key)

    assert manifest.open(None) == manifest.open(ReaderKey(b"r" * 32)) == key


@given(files, keys, st.text(max_size=60))
def test_the_name_comes_back_and_its_length_is_not_told(data, key, name):
    reader = ReaderKey(b"r" * 32)
    manifest = manifest_of(data, [reader], key=key, name=name)
    unnamed = manifest_of(data, [reader], key=key)

    assert manifest.open_name(key) == name
    assert unnamed.open_name(key) is None
    assert len(manifest.name or b"") == 272


@given(files, keys, st.data())
def test_any_change_to_a_manifest_is_refused_or_leads_to_no_other_file(data, key, draw):
    reader = ReaderKey(b"r" * 32)
    manifest = manifest_of(data, [reader], key=key, name="name")
    encoded = bytearray(MANIFEST.encode(manifest))
    encoded[draw.draw(st.integers(0, len(encoded) - 1))] ^= 1 << draw.draw(st.integers(0, 7))

    try:
        changed = decode_manifest(bytes(encoded))
        changed.check(root=manifest.root, size=sealed_size(len(data)))
        content_key = changed.open(reader)
        name = changed.open_name(content_key)
    except (DecodeError, InvalidProof, NotAReader):
        return
    # The digest of the manifest has changed all the same; here is what would be if it were ours.
    assert (content_key, name) == (key, "name")


@given(files, keys, keys)
def test_two_keys_never_belong_to_one_file(data, key, another):
    assume(key != another)
    reader = ReaderKey(b"r" * 32)
    honest = manifest_of(data, [reader], key=key)
    # The sender gives this reader another key under the id of the file.
    forged = replace(manifest_of(data, [reader], key=another), file=honest.file)

    with pytest.raises(NotAReader):
        forged.open(reader)


@given(files, keys)
def test_the_manifest_of_other_chunks_is_found(data, key):
    manifest = manifest_of(data, [], key=key)
    size = sealed_size(len(data))
    manifest.check(root=manifest.root, size=size)

    for root, claimed in (
        (Digest(bytes(32)), size),
        (manifest.root, size + 1),
        (manifest.root, sealed_size(len(data) + PLAIN)),
    ):
        with pytest.raises(InvalidProof):
            manifest.check(root=root, size=claimed)

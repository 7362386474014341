"""A chunk of a blob proves itself, and nothing but itself."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chain import blobs
from chain.blobs import BlobChunk, blob_digest, chunk_count, prove_chunk
from chain.errors import InvalidProof
from chain.merkle import MerkleTree, leaf_hash
from chain.types import Digest

CHUNK = 8
"""Small chunks in place of the real ones: the law is the same, and trees are deep."""


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "CHUNK_SIZE", CHUNK)
        yield


def chunks_of(data: bytes) -> tuple[Digest, list[BlobChunk]]:
    parts = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    hashes = [leaf_hash(part) for part in parts]
    return blob_digest(data), [
        prove_chunk(len(data), MerkleTree(hashes), index, part) for index, part in enumerate(parts)
    ]


contents = st.builds(
    lambda size, seed: Random(seed).randbytes(size), st.integers(1, 300), st.integers(0, 9)
)


@given(contents)
def test_every_chunk_proves_itself(data):
    digest, chunks = chunks_of(data)

    assert len(chunks) == chunk_count(len(data))
    assert b"".join(chunk.data for chunk in chunks) == data
    for index, chunk in enumerate(chunks):
        chunk.verify(digest, index)


@pytest.mark.attack("B15")
@given(contents, st.data())
def test_no_chunk_passes_for_that_of_another_place_whatever_index_it_names(data, draw):
    digest, chunks = chunks_of(data)
    asked = draw.draw(st.integers(0, len(chunks) - 1))
    chunk = draw.draw(st.sampled_from(chunks))
    # Chunks of random bytes differ but for very short ones.
    assume(chunk.index != asked and chunk.data != chunks[asked].data)

    for claimed in (chunk.index, asked, draw.draw(st.integers(-1, 2**31))):
        with pytest.raises(InvalidProof):
            replace(chunk, index=claimed).verify(digest, asked)


@given(contents, st.data())
def test_any_other_byte_size_root_or_path_is_refused(data, draw):
    digest, chunks = chunks_of(data)
    chunk = draw.draw(st.sampled_from(chunks))
    place = draw.draw(st.integers(0, len(chunk.data) - 1))
    flipped = bytearray(chunk.data)
    flipped[place] ^= 1 << draw.draw(st.integers(0, 7))
    another = Digest(bytes(b ^ 1 for b in chunk.root))
    mutants = [
        replace(chunk, data=bytes(flipped)),
        replace(chunk, data=chunk.data[:-1]),
        replace(chunk, data=chunk.data + b"\0"),
        replace(chunk, root=another),
        replace(chunk, path=(*chunk.path, another)),
        *(replace(chunk, size=chunk.size + step) for step in (-CHUNK, -1, 1, CHUNK, 2**40)),
    ]
    if chunk.path:
        mutants.append(replace(chunk, path=chunk.path[:-1]))
        mutants.append(replace(chunk, path=(another, *chunk.path[1:])))

    for mutant in mutants:
        with pytest.raises(InvalidProof):
            mutant.verify(digest, chunk.index)


@given(contents, contents)
def test_different_blobs_have_different_digests(one, other):
    assert (blob_digest(one) == blob_digest(other)) == (one == other)


@given(contents)
def test_a_blob_is_no_chunk_and_no_prefix_of_another(data):
    _, chunks = chunks_of(data)
    assume(len(chunks) > 1)

    assert blob_digest(data) not in {blob_digest(chunk.data) for chunk in chunks}
    assert blob_digest(data) != blob_digest(data + b"\0")

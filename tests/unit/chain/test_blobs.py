"""The digest of a blob, by the words of docs/spec/encoding.md."""

from hashlib import sha256

import pytest

from chain.blobs import CHUNK_SIZE, blob_digest, chunk_count, chunk_size

TAG = b"\x11securenet/blob/v1"


def leaf(data):
    return sha256(b"\x00" + data).digest()


def node(left, right):
    return sha256(b"\x01" + left + right).digest()


def test_a_small_blob_is_one_chunk():
    size = (5).to_bytes(8, "big")

    assert blob_digest(b"model") == sha256(TAG + size + leaf(b"model")).digest()


def test_a_larger_one_is_a_tree_of_chunks():
    one, two, three = b"a" * CHUNK_SIZE, b"b" * CHUNK_SIZE, b"c"
    root = node(node(leaf(one), leaf(two)), leaf(three))
    size = (2 * CHUNK_SIZE + 1).to_bytes(8, "big")

    assert blob_digest(one + two + three) == sha256(TAG + size + root).digest()


@pytest.mark.parametrize(
    ("size", "chunks", "last"),
    [
        (1, 1, 1),
        (CHUNK_SIZE, 1, CHUNK_SIZE),
        (CHUNK_SIZE + 1, 2, 1),
        (2**32, 2**14, CHUNK_SIZE),
    ],
)
def test_chunks_of_a_size(size, chunks, last):
    assert chunk_count(size) == chunks
    assert chunk_size(size, chunks - 1) == last

"""chain.merkle: trees and proofs of RFC 9162."""

import hashlib

import pytest

from chain.errors import InvalidProof
from chain.merkle import PROOF_LENGTH_MAX, inclusion_proof, merkle_root, verify_inclusion
from chain.types import Digest

LEAVES = [b"leaf %d" % number for number in range(7)]


def verify(leaves=LEAVES, *, index=2, leaf=None, count=None, path=None, root=None):
    verify_inclusion(
        root=merkle_root(leaves) if root is None else root,
        leaf=leaves[index] if leaf is None else leaf,
        index=index,
        leaf_count=len(leaves) if count is None else count,
        path=inclusion_proof(leaves, index) if path is None else path,
    )


def test_no_leaves_have_the_hash_of_nothing():
    assert merkle_root([]) == hashlib.sha256(b"").digest()


def test_one_leaf_is_not_its_own_root():
    assert merkle_root([b"a"]) == hashlib.sha256(b"\x00a").digest()
    assert inclusion_proof([b"a"], 0) == ()


@pytest.mark.attack("B13")
def test_the_last_leaf_is_not_doubled():
    # CVE-2012-2459: [a, b, c] and [a, b, c, c] had one root.
    assert merkle_root([b"a", b"b", b"c"]) != merkle_root([b"a", b"b", b"c", b"c"])


@pytest.mark.attack("B13")
def test_an_inner_node_is_no_leaf():
    left, right = (hashlib.sha256(b"\x00" + leaf).digest() for leaf in (b"a", b"b"))

    assert merkle_root([b"a", b"b"]) != merkle_root([left + right])


@pytest.mark.attack("B13")
def test_bytes_do_not_move_between_leaves():
    # CVE-2023-46132: one hash, other transactions.
    assert merkle_root([b"ab", b"c"]) != merkle_root([b"a", b"bc"])


@pytest.mark.parametrize("index", [-1, 7])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(index):
    with pytest.raises(InvalidProof):
        inclusion_proof(LEAVES, index)


def test_a_proof_holds():
    verify()


@pytest.mark.attack("D5")
@pytest.mark.parametrize("index", [-1, 7, 2**31, 2**70])
def test_an_index_outside_the_tree_is_refused(index):
    # ASA-2024-011: an index out of range crashed the verifier.
    with pytest.raises(InvalidProof):
        verify(index=index, leaf=LEAVES[2], path=inclusion_proof(LEAVES, 2))


@pytest.mark.attack("B15")
@pytest.mark.parametrize("index", [0, 1, 3, 4, 5, 6])
def test_a_proof_of_another_index_is_refused(index):
    # ASA-2025-002: the index of a part was not that of its proof.
    with pytest.raises(InvalidProof):
        verify(index=index, leaf=LEAVES[2], path=inclusion_proof(LEAVES, 2))


@pytest.mark.parametrize("count", [0, 2, 2**20 + 1, -1])
def test_a_count_that_cannot_be_is_refused(count):
    with pytest.raises(InvalidProof):
        verify(count=count)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path[:-1],
        lambda path: (*path, path[0]),
        lambda path: (),
        lambda path: path[::-1],
        lambda path: (Digest(bytes(31)), *path[1:]),
        lambda path: (Digest(path[0] + b"\x00"), *path[1:]),
        lambda path: (path[0],) * (PROOF_LENGTH_MAX + 1),
    ],
)
def test_another_path_is_refused(change):
    with pytest.raises(InvalidProof):
        verify(path=change(inclusion_proof(LEAVES, 2)))


@pytest.mark.attack("B15")
def test_a_count_from_a_stranger_says_nothing_of_the_place():
    # Why the docstring sends whoever needs the place to the receipt, which names it.
    leaves = LEAVES[:3]

    verify(leaves, index=1, leaf=leaves[2], count=2, path=inclusion_proof(leaves, 2))

"""Merkle trees against the definition in RFC 9162, section 2.1.1, word for word."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import InvalidProof
from chain.merkle import inclusion_proof, merkle_root, verify_inclusion
from tests.strategies import mutated

leaf_lists = st.lists(st.binary(max_size=6), min_size=1, max_size=40)


def split(count):
    """Return k: the largest power of two smaller than n."""
    return 1 << (count - 1).bit_length() - 1


def mth(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(index, leaves):
    if len(leaves) == 1:
        return ()
    k = split(len(leaves))
    if index < k:
        return (*path(index, leaves[:k]), mth(leaves[k:]))
    return (*path(index - k, leaves[k:]), mth(leaves[:k]))


@given(st.lists(st.binary(max_size=6), max_size=70))
def test_the_root_is_that_of_the_definition(leaves):
    assert merkle_root(leaves) == mth(leaves)


@given(leaf_lists, st.data())
def test_the_path_is_that_of_the_definition_and_verifies(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = inclusion_proof(leaves, index)

    assert proof == path(index, leaves)
    verify_inclusion(
        root=mth(leaves), leaf=leaves[index], index=index, leaf_count=len(leaves), path=proof
    )


@pytest.mark.attack("B13")
@given(leaf_lists, leaf_lists)
def test_different_lists_have_different_roots(a, b):
    assert (merkle_root(a) == merkle_root(b)) == (a == b)


@pytest.mark.attack("B15")
@given(leaf_lists, st.data())
def test_no_changed_proof_verifies(leaves, data):
    leaves = [bytes([number]) + leaf for number, leaf in enumerate(leaves)]  # all distinct
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = inclusion_proof(leaves, index)
    good = {"root": mth(leaves), "leaf": leaves[index], "index": index, "path": proof}
    field = data.draw(st.sampled_from(["root", "leaf", "index", "path"]))
    if field == "index":
        changed = data.draw(st.integers(-1, len(leaves)))
    elif field == "path":
        others = [*proof, mth(leaves), mth([leaves[index]])]
        changed = tuple(data.draw(st.lists(st.sampled_from(others), max_size=8)))
    else:
        changed = data.draw(mutated(good[field]))
    if changed == good[field]:
        return

    with pytest.raises(InvalidProof):
        verify_inclusion(**{**good, field: changed}, leaf_count=len(leaves))

"""The state tree against a plain dict."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidProof
from chain.state_tree import LeafHashes, StateTree
from chain.types import Digest
from tests.strategies import mutated

keys = st.integers(0, 40).map(lambda number: b"key %d" % number)
values = st.binary(max_size=3)
maps = st.dictionaries(keys, values, max_size=25)
changes = st.lists(st.dictionaries(keys, st.none() | values, max_size=8), max_size=6)


def tree_of(entries):
    return StateTree().updated(entries)


@given(maps, changes)
def test_the_root_depends_on_the_entries_alone(entries, steps):
    tree = tree_of(entries)
    expected = dict(entries)
    for step in steps:
        tree = tree.updated(step)
        for key, value in step.items():
            if value is None:
                expected.pop(key, None)
            else:
                expected[key] = value

    assert tree.root == tree_of(expected).root
    one_by_one = StateTree()
    for key, value in sorted(expected.items(), reverse=True):
        one_by_one = one_by_one.updated({key: value})
    assert one_by_one.root == tree.root


@given(maps, maps)
def test_different_maps_have_different_roots(a, b):
    assert (tree_of(a).root == tree_of(b).root) == (a == b)


@given(maps, keys)
def test_every_key_has_a_proof_of_what_it_is(entries, key):
    tree = tree_of(entries)

    tree.prove(key).verify(root=tree.root, key=key, value=entries.get(key))


@given(maps, keys, keys, st.none() | values)
def test_a_proof_shows_what_is_so_and_nothing_else(entries, proved, key, value):
    tree = tree_of(entries)
    proof = tree.prove(proved)
    try:
        proof.verify(root=tree.root, key=key, value=value)
    except InvalidProof:
        assert key != proved or entries.get(key) != value
    else:
        assert entries.get(key) == value


@settings(max_examples=200)
@given(maps.filter(len), keys, st.data())
def test_no_changed_proof_verifies(entries, key, data):
    tree = tree_of(entries)
    proof = tree.prove(key)
    siblings = list(proof.siblings)
    leaf = proof.leaf
    what = data.draw(st.sampled_from(["sibling", "cut", "more", "swap", "leaf", "path", "value"]))
    if what == "sibling" and siblings:
        index = data.draw(st.integers(0, len(siblings) - 1))
        siblings[index] = Digest(data.draw(mutated(siblings[index])))
    elif what == "cut" and siblings:
        siblings.pop(data.draw(st.integers(0, len(siblings) - 1)))
    elif what == "more":
        siblings.insert(data.draw(st.integers(0, len(siblings))), tree.root)
    elif what == "swap" and siblings:
        siblings.reverse()
    elif what == "leaf":
        leaf = None if leaf is not None else LeafHashes(path=tree.root, value_hash=tree.root)
    elif leaf is not None and what == "path":
        leaf = replace(leaf, path=Digest(data.draw(mutated(leaf.path))))
    elif leaf is not None and what == "value":
        leaf = replace(leaf, value_hash=Digest(data.draw(mutated(leaf.value_hash))))
    changed = replace(proof, siblings=tuple(siblings), leaf=leaf)
    if changed == proof:
        return

    with pytest.raises(InvalidProof):
        changed.verify(root=tree.root, key=key, value=entries.get(key))

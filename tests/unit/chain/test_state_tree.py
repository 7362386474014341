"""chain.state_tree: the map under the state root, and what its proofs show."""

from dataclasses import replace

import pytest

from chain.crypto import tagged_hash
from chain.errors import InvalidProof
from chain.state_tree import STATE_PROOF, LeafHashes, StateProof, StateTree
from chain.types import ZERO_DIGEST, Digest
from tests.builders import digest_of

ENTRIES: dict[bytes, bytes | None] = {b"key %d" % n: b"value %d" % n for n in range(50)}
TREE = StateTree().updated(ENTRIES)
KEY = b"key 7"
ABSENT = [key for n in range(200) if (key := b"absent %d" % n)]


def absent_behind(leaf: bool) -> bytes:
    """Return an absent key whose path ends at another key's leaf, or at nothing."""
    return next(key for key in ABSENT if (TREE.prove(key).leaf is not None) == leaf)


def test_the_empty_map_has_the_zero_root():
    assert StateTree().root == ZERO_DIGEST
    StateTree().prove(b"anything").verify(root=ZERO_DIGEST, key=b"anything", value=None)


def test_a_version_stays_as_it_was_when_the_next_is_made():
    root = TREE.root

    after = TREE.updated({KEY: b"new", b"key 3": None, b"more": b"x"})

    assert TREE.root == root != after.root
    TREE.prove(KEY).verify(root=root, key=KEY, value=b"value 7")


def test_nothing_changed_is_the_same_root():
    assert TREE.updated({}).root == TREE.root
    assert TREE.updated({KEY: b"value 7", b"not there": None}).root == TREE.root


def test_removing_everything_gives_the_empty_map():
    assert TREE.updated(dict.fromkeys(ENTRIES)).root == ZERO_DIGEST


def test_presence_is_proved():
    TREE.prove(KEY).verify(root=TREE.root, key=KEY, value=b"value 7")


@pytest.mark.parametrize("leaf", [True, False])
def test_absence_is_proved_by_another_leaf_or_by_nothing(leaf):
    key = absent_behind(leaf)

    TREE.prove(key).verify(root=TREE.root, key=key, value=None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (KEY, b"value 8"),
        (KEY, b""),
        (KEY, None),
        (b"key 8", b"value 8"),
        (b"key 8", b"value 7"),
        (b"key 8", None),
    ],
)
def test_a_proof_shows_nothing_else(key, value):
    with pytest.raises(InvalidProof):
        TREE.prove(KEY).verify(root=TREE.root, key=key, value=value)


def test_a_proof_of_absence_shows_no_value():
    for leaf in (True, False):
        key = absent_behind(leaf)
        with pytest.raises(InvalidProof):
            TREE.prove(key).verify(root=TREE.root, key=key, value=b"value")


def test_a_present_key_cannot_be_hidden_behind_a_shorter_path():
    proof = TREE.prove(KEY)
    for cut in range(len(proof.siblings)):
        for leaf in (None, proof.leaf):
            shorter = replace(proof, siblings=proof.siblings[:cut], leaf=leaf)
            with pytest.raises(InvalidProof):
                shorter.verify(root=TREE.root, key=KEY, value=None)


def test_another_leaf_proves_absence_only_where_it_stands():
    key = absent_behind(True)
    proof = TREE.prove(key)
    elsewhere = TREE.prove(KEY).leaf

    with pytest.raises(InvalidProof):
        replace(proof, leaf=elsewhere).verify(root=TREE.root, key=key, value=None)


def test_path_and_value_hash_cannot_share_their_bytes_differently():
    # A path of 33 and a value hash of 31 bytes hash to the same leaf, under a path that is
    # nobody's: the present key would seem absent.
    tree = StateTree().updated({KEY: b"value"})
    proof = tree.prove(KEY)
    assert proof.leaf is not None
    both = proof.leaf.path + proof.leaf.value_hash
    for cut in (31, 33):
        leaf = LeafHashes(path=Digest(both[:cut]), value_hash=Digest(both[cut:]))
        with pytest.raises(InvalidProof):
            replace(proof, leaf=leaf).verify(root=tree.root, key=KEY, value=None)


def test_a_leaf_off_the_path_of_the_key_proves_nothing_even_under_its_root():
    # No tree of ours holds a leaf in a wrong place; a verifier does not take that on trust.
    elsewhere = LeafHashes(path=Digest(b"\x00" * 32), value_hash=digest_of("value"))
    key = next(key for key in ABSENT if tagged_hash(b"securenet/state-key/v1", key)[0] & 0x80)
    leaf = tagged_hash(b"securenet/state-leaf/v1", elsewhere.path, elsewhere.value_hash)
    root = tagged_hash(b"securenet/state-branch/v1", ZERO_DIGEST, leaf)
    proof = StateProof(siblings=(ZERO_DIGEST,), leaf=elsewhere)

    with pytest.raises(InvalidProof):
        proof.verify(root=root, key=key, value=None)


def test_a_path_longer_than_a_key_has_bits_is_refused():
    proof = StateProof(siblings=(ZERO_DIGEST,) * 257, leaf=None)

    with pytest.raises(InvalidProof):
        proof.verify(root=TREE.root, key=KEY, value=None)


def test_proofs_travel_in_bytes_and_in_json():
    proof = TREE.prove(KEY)
    encoded = STATE_PROOF.encode(proof)

    assert STATE_PROOF.decode(encoded, what="proof", size_max=10_000) == proof
    assert STATE_PROOF.parse(STATE_PROOF.render(proof), "proof") == proof


def test_paths_stay_short():
    depth = max(len(TREE.prove(key).siblings) for key in ENTRIES)

    assert depth < 20

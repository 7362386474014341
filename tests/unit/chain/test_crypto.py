"""chain.crypto: one verifier, pinned to a table; digests and signatures bound to their domain."""

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import crypto
from chain.crypto import (
    P256_ORDER,
    address_of,
    algorithm_of,
    check_public_key,
    domain,
    normalise_p256,
    signing_key,
    tagged_hash,
    verify,
)
from chain.errors import InvalidKey
from chain.types import Address, PublicKey, Signature
from scripts.vectors.digests import TAGS
from tests.builders import key_of
from tests.strategies import signing_keys

ROOT = Path(__file__).parents[3]
TABLE = json.loads((ROOT / "tests/vectors/signatures.json").read_text(encoding="utf-8"))
TAG = b"securenet/test/v1"


@pytest.mark.attack("B11")
def test_the_verifier_agrees_with_the_table_of_edge_cases():
    # The 14 × 14 grid of keys and R of small order among them; see scripts/vectors/signatures.py.
    differing = [
        case["name"]
        for case in TABLE["signatures"]
        if verify(
            PublicKey(bytes.fromhex(case["public_key"])),
            case["tag"].encode(),
            bytes.fromhex(case["message"]),
            bytes.fromhex(case["signature"]),
        )
        != case["valid"]
    ]

    assert differing == []
    assert len(TABLE["signatures"]) > 14 * 14


def test_keys_are_registered_as_the_table_says():
    for case in TABLE["keys"]:
        key = bytes.fromhex(case["public_key"])
        if case["valid"]:
            assert check_public_key(key) == key
        else:
            with pytest.raises(InvalidKey):
                check_public_key(key)


@pytest.mark.attack("B16")
@pytest.mark.parametrize("algorithm", ["ed25519", "p256"])
def test_a_signature_holds_for_its_key_tag_and_message_alone(algorithm):
    key, other = key_of("one", algorithm), key_of("other", algorithm)
    signature = key.sign(TAG, b"message")

    assert key.algorithm == algorithm == algorithm_of(key.public)
    assert verify(key.public, TAG, b"message", signature)
    assert not verify(other.public, TAG, b"message", signature)
    assert not verify(key.public, b"securenet/other/v1", b"message", signature)
    assert not verify(key.public, TAG, b"messages", signature)


@pytest.mark.parametrize("algorithm", ["ed25519", "p256"])
def test_signing_is_deterministic(algorithm):
    assert key_of("one", algorithm).sign(TAG, b"m") == key_of("one", algorithm).sign(TAG, b"m")


@pytest.mark.attack("B11")
@given(
    st.binary(max_size=70), st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=70)
)
def test_verifying_never_raises(key, tag, message, signature):
    assert verify(key, tag, message, signature) is False


@given(st.binary(min_size=32, max_size=33))
def test_a_key_is_usable_or_refused(key):
    try:
        check_public_key(key)
    except InvalidKey:
        assert not verify(key, TAG, b"", bytes(64))


@pytest.mark.attack("B12")
@given(signing_keys(), st.binary(max_size=50), st.integers(0, 511))
def test_no_bit_of_a_signature_can_be_changed(key, message, bit):
    signature = key.sign(TAG, message)
    changed = int.from_bytes(signature, "big") ^ 1 << bit

    assert check_public_key(key.public)
    assert verify(key.public, TAG, message, signature)
    assert not verify(key.public, TAG, message, changed.to_bytes(64, "big"))


@pytest.mark.attack("B12")
def test_a_high_s_is_normalised_by_whoever_asks_and_by_no_verifier():
    key = key_of("secure element", "p256")
    low = key.sign(TAG, b"message")
    high = Signature(low[:32] + (P256_ORDER - int.from_bytes(low[32:], "big")).to_bytes(32, "big"))

    assert not verify(key.public, TAG, b"message", high)
    assert normalise_p256(high) == low
    assert normalise_p256(low) == low
    beyond = Signature(low[:32] + b"\xff" * 32)
    assert normalise_p256(beyond) == beyond


@pytest.mark.parametrize("size", [0, 31, 34, 64, 65])
def test_keys_of_other_lengths_are_of_no_algorithm(size):
    with pytest.raises(InvalidKey):
        algorithm_of(bytes(size))


@pytest.mark.parametrize(
    ("algorithm", "seed"),
    [
        ("ed25519", bytes(31)),
        ("p256", bytes(33)),
        ("p256", bytes(32)),
        ("p256", P256_ORDER.to_bytes(32, "big")),
    ],
)
def test_seeds_that_make_no_key_are_refused(algorithm, seed):
    with pytest.raises(InvalidKey):
        signing_key(algorithm, seed)


@given(st.binary(max_size=255), st.binary(max_size=255))
def test_no_domain_is_the_beginning_of_another(a, b):
    assert a == b or not domain(a).startswith(domain(b))


@pytest.mark.attack("B13")
@given(
    st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20)
)
def test_bytes_do_not_move_between_tag_and_content(tag, data, other_tag, other):
    if (tag, data) != (other_tag, other):
        assert tagged_hash(tag, data) != tagged_hash(other_tag, other)


def test_the_id_of_a_miner_is_the_tagged_hash_of_its_first_key():
    key = key_of("miner 0").public

    assert address_of(key) == Address(tagged_hash(b"securenet/address/v1", key))


def tags_in(folder: str) -> list[str]:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                text = node.value.decode("latin-1")
                if text.startswith("securenet/") and text.endswith("/v1"):
                    found.append(text)
    return found


@pytest.mark.attack("B16")
def test_every_tag_stands_for_one_thing():
    tags = [tag for folder in ("chain", "consensus", "ml_validator") for tag in tags_in(folder)]

    assert sorted(tags) == sorted(set(tags))
    assert set(tags_in("chain")) == set(TAGS)


def test_key_objects_keep_their_secrets_to_themselves():
    for algorithm in ("ed25519", "p256"):
        key = key_of("one", algorithm)
        assert key_of("one", algorithm).public.hex() not in repr(key)
        assert not hasattr(key, "__dict__")


def test_parsed_points_are_cached_within_a_bound():
    assert crypto._p256_point.cache_info().maxsize == crypto.KEY_CACHE_SIZE

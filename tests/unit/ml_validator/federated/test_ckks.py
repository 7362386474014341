"""Sums of encrypted updates; runs where TenSEAL is installed."""

from itertools import permutations

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="needs the extra ckks")

from chain import codec
from ml_validator.errors import InvalidUpdate
from ml_validator.federated import ckks

KEYS = ckks.make_keys()
PARAMETERS = 5_000
"""Two ciphertexts, the second of which is not full."""
CHANCE = np.random.default_rng(5)
UPDATES = [CHANCE.normal(size=PARAMETERS) for _ in range(3)]


def encrypted(values=UPDATES[0], keys=KEYS, updates=10):
    return ckks.encrypt(values, public=keys.public, updates=updates)


def added(blobs, parameters=PARAMETERS):
    return ckks.add(blobs, public=KEYS.public, parameters=parameters)


def opened(blob, keys=KEYS, parameters=PARAMETERS):
    return ckks.decrypt(blob, private=keys.private, parameters=parameters)


@pytest.fixture(scope="module")
def blobs():
    return [encrypted(values) for values in UPDATES]


def test_the_key_holder_opens_the_sum_within_the_bound(blobs):
    found = opened(added(blobs))

    assert np.abs(found - sum(UPDATES)).max() <= ckks.error_bound(3) < 8e-6


def test_an_opened_sum_shows_nothing_of_its_error(blobs):
    again = [encrypted(values) for values in UPDATES]

    assert again != blobs
    assert (opened(added(again)) == opened(added(blobs))).mean() > 0.99
    assert (opened(added(blobs)) * 2**ckks.ROUNDED_BITS % 1 == 0).all()


def test_the_error_before_rounding_is_a_small_part_of_its_bound(blobs, monkeypatch):
    monkeypatch.setattr(ckks, "ROUNDED_BITS", 50)

    assert np.abs(opened(added(blobs)) - sum(UPDATES)).max() <= 3 * ckks.ERROR_MAX / 2


def test_whatever_the_order_the_encrypted_sum_is_the_same_bytes(blobs):
    assert len({added(order) for order in permutations(blobs)}) == 1


def test_one_key_holder_can_open_every_single_update(blobs):
    assert np.abs(opened(blobs[1]) - UPDATES[1]).max() <= ckks.error_bound(1)


def test_as_many_updates_as_were_said_reach_no_wrong_sum():
    largest = np.array([ckks.VALUE_MAX / 4, -ckks.VALUE_MAX / 4])
    four = [encrypted(largest, updates=4)] * 4

    assert opened(added(four, 2), parameters=2).tolist() == [ckks.VALUE_MAX, -ckks.VALUE_MAX]


def test_the_public_key_opens_nothing(blobs):
    with pytest.raises(InvalidUpdate, match="the public one"):
        ckks.decrypt(blobs[0], private=KEYS.public, parameters=PARAMETERS)


def test_another_key_opens_nothing(blobs):
    with pytest.raises(InvalidUpdate, match="another key"):
        opened(blobs[0], keys=ckks.make_keys())


@pytest.mark.parametrize("value", [np.nan, np.inf, ckks.VALUE_MAX / 10 * 1.01])
def test_values_of_which_no_sum_can_be_made_are_refused(value):
    with pytest.raises(InvalidUpdate, match="value"):
        encrypted(np.array([0.0, value]))


def test_counts_and_sizes_are_bounded(blobs):
    for call in (
        lambda: encrypted(updates=0),
        lambda: encrypted(updates=ckks.UPDATES_MAX + 1),
        lambda: encrypted(np.zeros(0)),
        lambda: added([]),
        lambda: added(blobs[:1] * (ckks.UPDATES_MAX + 1)),
        lambda: added(blobs, 2**20 + 1),
    ):
        with pytest.raises(InvalidUpdate):
            call()


def test_what_is_no_encrypted_update_is_refused(blobs):
    first, second = codec.decode(blobs[0], what="update")
    assert isinstance(second, bytes)
    for bad in (
        b"",
        b"junk",
        blobs[0][:-1],
        codec.encode([first]),
        codec.encode([first, second, second]),
        codec.encode([second, first]),
        codec.encode([first, b""]),
        codec.encode([first, 7]),
        codec.encode([first, second[:1_000]]),
        codec.encode([first, b"\xff" * 1_000]),
        codec.encode([first, bytes(200_000)]),
        encrypted(UPDATES[0][:-1]),
    ):
        with pytest.raises(InvalidUpdate):
            added([blobs[1], bad])


def test_an_update_of_another_scale_is_refused_by_itself(monkeypatch):
    monkeypatch.setattr(ckks, "_SCALE", 2.0**30)
    other = ckks.make_keys()
    monkeypatch.undo()
    blob = ckks.encrypt(np.ones(3), public=other.public, updates=1)

    with pytest.raises(InvalidUpdate, match="another way"):
        added([blob], 3)


def test_what_is_no_key_is_refused(blobs):
    for bad in (b"", b"junk", KEYS.public[:-100], bytes(2**20 + 1)):
        with pytest.raises(InvalidUpdate, match="key"):
            ckks.add(blobs, public=bad, parameters=PARAMETERS)

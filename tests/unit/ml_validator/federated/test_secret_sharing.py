"""Any threshold of shares gives the secret, fewer give nothing, false ones are found."""

from hashlib import shake_256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.federated.records import SHARE_SIZE, threshold
from ml_validator.errors import InvalidShare
from ml_validator.federated.secret_sharing import (
    PRIME,
    combine,
    entropy_size,
    split,
)

OWNER = b"o" * 32


def shares_of(secret: bytes, members: int) -> tuple[bytes, ...]:
    entropy = shake_256(secret).digest(entropy_size(members))
    return split(secret, members=members, entropy=entropy)


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (10, 7), (63, 43)])
def test_the_threshold_is_above_two_thirds(members, needed):
    assert threshold(members) == needed


@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.randoms())
def test_any_shares_from_the_threshold_on_give_the_secret(secret, members, random):
    shares = shares_of(secret, members)
    count = random.randint(threshold(members), members)
    chosen = random.sample(range(members), count)

    assert combine({i + 1: shares[i] for i in chosen}, members=members, owner=OWNER) == secret


def test_too_few_shares_are_refused():
    shares = shares_of(b"s" * 32, 10)

    with pytest.raises(InvalidShare, match="7 are needed"):
        combine(dict(enumerate(shares[:6], 1)), members=10, owner=OWNER)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_shares_below_the_threshold_fit_every_secret(secret, other):
    # Six shares of seven: one more completes them to whatever secret one likes.
    shares = shares_of(secret, 10)
    values = {i + 1: int.from_bytes(shares[i], "big") for i in range(6)}
    points = values | {0: int.from_bytes(other, "big")}
    last = sum(y * basis(list(points), x, at=7) for x, y in points.items()) % PRIME

    forged = dict(enumerate(shares[:6], 1)) | {7: last.to_bytes(SHARE_SIZE, "big")}

    assert combine(forged, members=10, owner=OWNER) == other


def basis(places: list[int], place: int, *, at: int) -> int:
    value = 1
    for other in places:
        if other != place:
            value = value * (at - other) * pow(place - other, PRIME - 2, PRIME) % PRIME
    return value


def test_only_the_first_shares_up_to_the_threshold_count():
    shares = dict(enumerate(shares_of(b"s" * 32, 10), 1))
    shares[9] = b"false"

    assert combine(shares, members=10, owner=OWNER) == b"s" * 32


@pytest.mark.parametrize(
    ("place", "share"),
    [
        (1, b""),
        (1, bytes(65)),
        (1, bytes(67)),
        (1, PRIME.to_bytes(66, "big")),
        (1, b"\xff" * 66),
        (0, bytes(66)),
    ],
)
def test_what_is_no_share_is_refused(place, share):
    shares = dict(enumerate(shares_of(b"s" * 32, 2), 1))

    with pytest.raises(InvalidShare, match="is no share"):
        combine(shares | {place: share}, members=2, owner=OWNER)


def test_shares_of_something_longer_than_a_secret_are_refused():
    # A constant polynomial of 2^256.
    shares = dict.fromkeys(range(1, 4), (2**256).to_bytes(66, "big"))

    with pytest.raises(InvalidShare, match="no secret of 32 bytes"):
        combine(shares, members=3, owner=OWNER)

"""Any threshold of shares gives the secret, fewer give nothing, false ones are found."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.federated.boxes import PRIME, element, padded_count
from chain.federated.records import threshold
from ml_validator.errors import InvalidShare
from ml_validator.federated.secret_sharing import combine, split

OWNER = b"o" * 32
secrets = st.integers(0, PRIME - 1).map(element)


def agreed_of(secret: bytes, members: int, *, first: int = 1) -> dict[int, bytes]:
    places = range(first, first + padded_count(members))
    return {place: sha256(secret + bytes((place,))).digest() for place in places}


def shares_of(secret: bytes, members: int) -> tuple[bytes, ...]:
    return split(secret, agreed=agreed_of(secret, members), members=members)


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (10, 7), (63, 43)])
def test_the_threshold_is_above_two_thirds(members, needed):
    assert threshold(members) == needed


@given(secrets, st.integers(1, 12), st.randoms())
def test_any_shares_from_the_threshold_on_give_the_secret(secret, members, random):
    shares = shares_of(secret, members)
    count = random.randint(threshold(members), members)
    chosen = random.sample(range(members), count)

    assert combine({i + 1: shares[i] for i in chosen}, members=members, owner=OWNER) == secret


@given(secrets, st.integers(2, 12))
def test_what_was_agreed_upon_are_the_shares_of_those_places(secret, members):
    agreed = agreed_of(secret, members, first=2)

    shares = split(secret, agreed=agreed, members=members)

    assert {place: shares[place - 1] for place in agreed} == agreed


def test_too_few_shares_are_refused():
    shares = shares_of(b"s" * 32, 10)

    with pytest.raises(InvalidShare, match="7 are needed"):
        combine(dict(enumerate(shares[:6], 1)), members=10, owner=OWNER)


@given(secrets, secrets, st.sets(st.integers(1, 10), min_size=6, max_size=6))
def test_shares_below_the_threshold_fit_every_secret(secret, other, known):
    # Six shares of seven, whether agreed upon or computed: one more completes them to whatever
    # secret one likes.
    shares = shares_of(secret, 10)
    values = {place: int.from_bytes(shares[place - 1], "big") for place in known}
    points = values | {0: int.from_bytes(other, "big")}
    missing = min(set(range(1, 11)) - known)
    last = sum(y * basis(list(points), x, at=missing) for x, y in points.items())

    forged = {place: shares[place - 1] for place in known} | {missing: element(last)}

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
        (1, bytes(31)),
        (1, bytes(33)),
        (1, PRIME.to_bytes(32, "big")),
        (1, b"\xff" * 32),
        (0, bytes(32)),
    ],
)
def test_what_is_no_share_is_refused(place, share):
    shares = dict(enumerate(shares_of(b"s" * 32, 2), 1))

    with pytest.raises(InvalidShare, match="is no share"):
        combine(shares | {place: share}, members=2, owner=OWNER)

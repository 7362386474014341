"""Shamir's secret sharing of 32 bytes over the field of the prime 2^256 − 189.

A polynomial of t coefficients is fixed by the secret and t − 1 of its shares. So an owner does not
draw coefficients: it takes as shares what it has agreed upon with as many receivers, and need not
send it. Putting a secret together costs a few multiplications: the coefficients of Lagrange depend
on the places alone, which the secrets of a group have in common, and are kept.

References
----------
A. Shamir, "How to share a secret", Communications of the ACM 22(11), 1979.
"""

from collections.abc import Mapping
from functools import lru_cache
from operator import mul
from typing import Final

from chain.federated.boxes import PRIME, element, padded_count
from chain.federated.records import GROUP_MEMBERS_MAX, SHARE_SIZE, threshold
from ml_validator.errors import InvalidShare

COEFFICIENTS_CACHED: Final = 256
"""Sets of places whose coefficients are kept; the least recent is dropped."""


def split(secret: bytes, *, agreed: Mapping[int, bytes], members: int) -> tuple[bytes, ...]:
    """Share a secret; the share at index i belongs to the member at place i + 1.

    Parameters
    ----------
    secret : bytes
        32 bytes of a number below the prime.
    agreed : mapping of int to bytes
        What the shares at `padded_count` places are to be: random, and used for nothing else.
    members : int
        1 to `GROUP_MEMBERS_MAX`.
    """
    assert 1 <= members <= GROUP_MEMBERS_MAX, "the group has a size that a round can have"
    assert len(agreed) == padded_count(members), "with the secret they fix the polynomial"
    points = {0: secret, **agreed}
    assert all(map(_is_share, points.values())), "secret and shares are numbers below the prime"
    return tuple(
        points[place] if place in points else _value(points, at=place)
        for place in range(1, members + 1)
    )


def combine(shares: Mapping[int, bytes], *, members: int, owner: bytes) -> bytes:
    """Put a secret together from at least `threshold` shares by their places, from 1.

    The first of them in the order of places count, so that everyone restores the same whatever is
    shown beyond them.

    Raises
    ------
    InvalidShare
        Too few, or one of the wrong form; as each was hashed by `owner`, that was the owner's
        doing.
    """
    needed = threshold(members)
    if len(shares) < needed:
        raise InvalidShare(owner, f"{len(shares)}, and {needed} are needed")
    chosen = {place: shares[place] for place in sorted(shares)[:needed]}
    for place, share in chosen.items():
        if not _is_share(share) or not 1 <= place <= members:
            raise InvalidShare(owner, f"the one at place {place} is no share")
    return _value(chosen, at=0)


def _is_share(data: bytes) -> bool:
    return len(data) == SHARE_SIZE and int.from_bytes(data, "big") < PRIME


def _value(points: Mapping[int, bytes], *, at: int) -> bytes:
    """Return the value of the polynomial through `points`."""
    coefficients = _coefficients(tuple(points), at)
    values = [int.from_bytes(value, "big") for value in points.values()]
    return element(sum(map(mul, coefficients, values)))


@lru_cache(maxsize=COEFFICIENTS_CACHED)
def _coefficients(places: tuple[int, ...], at: int) -> tuple[int, ...]:
    """Return the values at one place of Lagrange's basis over others."""
    found = []
    for place in places:
        above, below = 1, 1
        for other in places:
            if other != place:
                above = above * (at - other) % PRIME
                below = below * (place - other) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(found)

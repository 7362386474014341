"""Shamir's secret sharing of 32 bytes over the field of 2^521 − 1.

Shares are made from entropy that the caller passes in, so that a participant which restarts makes
the same ones. Putting a secret together costs a few multiplications: the coefficients of Lagrange
depend on the places alone, which the secrets of a group have in common, and are kept.

References
----------
A. Shamir, "How to share a secret", Communications of the ACM 22(11), 1979.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import mul
from typing import Final

from chain.federated.records import GROUP_MEMBERS_MAX, SHARE_SIZE, threshold
from ml_validator.errors import InvalidShare

PRIME: Final = 2**521 - 1
SECRET_SIZE: Final = 32
COEFFICIENTS_CACHED: Final = 256
"""Sets of places whose coefficients are kept; the least recent is dropped."""


def entropy_size(members: int) -> int:
    """Return how many random bytes `split` wants."""
    return (threshold(members) - 1) * SHARE_SIZE


def split(secret: bytes, *, members: int, entropy: bytes) -> tuple[bytes, ...]:
    """Share a secret; the share at index i belongs to the member at place i + 1.

    Parameters
    ----------
    secret : bytes
        32 bytes.
    members : int
        1 to `GROUP_MEMBERS_MAX`.
    entropy : bytes
        `entropy_size` random bytes, used for nothing else.
    """
    assert len(secret) == SECRET_SIZE, "the field holds secrets of 32 bytes"
    assert 1 <= members <= GROUP_MEMBERS_MAX, "the group has a size that a round can have"
    assert len(entropy) == entropy_size(members), "each coefficient has bits of its own"
    polynomial = [int.from_bytes(secret, "big")] + [
        # 521 bits are an element, but for the one string that stands for 2^521 − 1.
        (int.from_bytes(entropy[start : start + SHARE_SIZE], "big") & PRIME) % PRIME
        for start in range(0, len(entropy), SHARE_SIZE)
    ]
    return tuple(
        _evaluate(polynomial, place).to_bytes(SHARE_SIZE, "big") for place in range(1, members + 1)
    )


def combine(shares: Mapping[int, bytes], *, members: int, owner: bytes) -> bytes:
    """Put a secret together from at least `threshold` shares by their places, from 1.

    The first of them in the order of places count, so that everyone restores the same whatever is
    shown beyond them.

    Raises
    ------
    InvalidShare
        Too few, one of the wrong form, or what they share is no secret of 32 bytes; as each was
        hashed by `owner`, that was the owner's doing.
    """
    needed = threshold(members)
    if len(shares) < needed:
        raise InvalidShare(owner, f"{len(shares)}, and {needed} are needed")
    places = tuple(sorted(shares)[:needed])
    values = []
    for place in places:
        value = int.from_bytes(shares[place], "big")
        if len(shares[place]) != SHARE_SIZE or value >= PRIME or not 1 <= place <= members:
            raise InvalidShare(owner, f"the one at place {place} is no share")
        values.append(value)
    secret: int = sum(map(mul, _coefficients(places), values)) % PRIME
    if secret >> (8 * SECRET_SIZE):
        raise InvalidShare(owner, "what they share is no secret of 32 bytes")
    return secret.to_bytes(SECRET_SIZE, "big")


def _evaluate(polynomial: Sequence[int], at: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * at + coefficient) % PRIME
    return value


@lru_cache(maxsize=COEFFICIENTS_CACHED)
def _coefficients(places: tuple[int, ...]) -> tuple[int, ...]:
    """Return the values at 0 of Lagrange's basis over `places`."""
    found = []
    for place in places:
        above, below = 1, 1
        for other in places:
            if other != place:
                above = -above * other % PRIME
                below = below * (place - other) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(found)

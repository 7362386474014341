"""From many updates to one, in integers, so that miners can compare digests of the result.

A contribution is an update in the audit mode, or the mean of a masked group. Rules read the
contributions in the order of their digests, so that ties fall the same way everywhere. What each
withstands is said with it. Masked groups hide single updates from the rules too: b attackers spoil
up to b groups, and of N participants in groups of g there are N / g groups; so a rule which
withstands less than half holds while g ≤ N / (2b + 1). docs/spec/aggregation.md, section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from chain.blobs import blob_digest
from chain.federated.records import groups_needed
from chain.types import Digest
from ml_validator.errors import TooFewContributions
from ml_validator.federated.fixed_point import (
    SUM_MAX,
    Integers,
    divided,
    encode_update,
)
from ml_validator.federated.inner_products import inner_products

CONTRIBUTIONS_MAX: Final = 1024
COPY_COSINE_SQUARED: Final = (9_999, 10_000)
"""Updates whose directions agree more than this are copies: the angle is below 0.6 degrees."""


class Rule(StrEnum):
    """How contributions become an aggregate."""

    MEAN = "mean"
    MEDIAN = "median"
    TRIMMED_MEAN = "trimmed_mean"
    MULTI_KRUM = "multi_krum"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contribution:
    """What a rule reads.

    Parameters
    ----------
    digest : Digest
        Orders the contributions: that of the blob, or of a group's mean as a blob.
    values : ndarray of shape (n_parameters,), int64
        Of weight 1; absolute values of at most `SUM_MAX` / number of contributions.
    """

    digest: Digest
    values: Integers


def contribution(values: Integers) -> Contribution:
    """Return `values` under the digest that they have as a blob."""
    return Contribution(digest=blob_digest(encode_update(values)), values=values)


def aggregate(contributions: Sequence[Contribution], *, rule: Rule, attackers: int) -> Integers:
    """Apply a rule.

    Parameters
    ----------
    attackers : int
        How many contributions may be spoiled: b.

    Raises
    ------
    TooFewContributions
        The rule does not withstand that many, or there are none.
    """
    needed = groups_needed(rule, attackers)
    if len(contributions) < needed:
        raise TooFewContributions(rule, len(contributions), needed)
    assert len(contributions) <= CONTRIBUTIONS_MAX, "a federated round bounds its participants"
    ordered = sorted(contributions, key=lambda contribution: contribution.digest)
    rows = np.stack([contribution.values for contribution in ordered])
    assert (np.abs(rows) <= SUM_MAX // len(rows)).all(), "no sum overflows"
    match rule:
        case Rule.MEAN:
            return mean(rows)
        case Rule.MEDIAN:
            return median(rows)
        case Rule.TRIMMED_MEAN:
            return trimmed_mean(rows, attackers=attackers)
        case Rule.MULTI_KRUM:
            return multi_krum(rows, attackers=attackers)


def group_size_max(participants: int, *, attackers: int) -> int:
    """Return the largest size of masked groups in which b attackers leave most groups whole."""
    return participants // (2 * attackers + 1)


def mean(rows: Integers) -> Integers:
    """Return the mean, rounded half to even.

    Withstands nothing: one attacker moves it as far as the bound on norms lets it.

    References
    ----------
    B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017.
    """
    return divided(rows.sum(axis=0, dtype=np.int64), len(rows))


def median(rows: Integers) -> Integers:
    """Return the median of each coordinate; of the two in the middle the mean, half to even.

    Withstands b spoiled rows of 2b + 1: each coordinate stays between values of honest rows. Pays
    for it with the variety of honest rows, which it loses where their data differ.

    References
    ----------
    D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards
    Optimal Statistical Rates", ICML 2018.
    """
    count = len(rows)
    ordered = np.sort(rows, axis=0)
    return mean(ordered[(count - 1) // 2 : count // 2 + 1])


def trimmed_mean(rows: Integers, *, attackers: int) -> Integers:
    """Return the mean of each coordinate without its b smallest and b largest values.

    Withstands b spoiled rows of 2b + 1, as the median does; with more rows it loses less of what
    honest ones say.

    References
    ----------
    D. Yin et al., as for `median`.
    """
    ordered = np.sort(rows, axis=0)
    return mean(ordered[attackers : len(rows) - attackers])


def multi_krum(rows: Integers, *, attackers: int) -> Integers:
    """Return the mean of the n − b rows which lie closest to their neighbours.

    Withstands b spoiled rows of 2b + 3, whole updates at a time: an attack that is far from what
    most send is left out altogether. One that hides among honest rows, coordinate by coordinate,
    is not ("A Little Is Enough"); nor can it be used on groups that hide their members.

    A row's score is the sum of its squared distances to the n − b − 2 rows nearest to it, exact;
    of equal scores the lower digest comes first.

    References
    ----------
    P. Blanchard, E. M. El Mhamdi, R. Guerraoui, J. Stainer, "Machine Learning with Adversaries:
    Byzantine Tolerant Gradient Descent", NeurIPS 2017.
    """
    return mean(rows[krum_selection(rows, attackers=attackers)])


def krum_selection(rows: Integers, *, attackers: int) -> list[int]:
    """Return the indices of the rows that Multi-Krum keeps, ascending."""
    count = len(rows)
    products = inner_products(list(rows))
    scores = []
    for i in range(count):
        # |a − b|² = |a|² + |b|² − 2 a·b
        distances = [
            products[i][i] + products[j][j] - 2 * products[i][j] for j in range(count) if j != i
        ]
        scores.append(sum(sorted(distances)[: count - attackers - 2]))
    closest = sorted(range(count), key=lambda i: (scores[i], i))
    return sorted(closest[: count - attackers])


def without_copies(contributions: Sequence[Contribution]) -> list[Contribution]:
    """Leave out what repeats another contribution, whole or nearly, whatever its length.

    Whoever copies an update votes twice for what another has learned. Of a set of copies the one
    with the lowest digest stays: which is the original does not matter to the aggregate. Needs to
    see updates, so it belongs to the audit mode.
    """
    if not contributions:
        return []
    ordered = sorted(contributions, key=lambda contribution: contribution.digest)
    products = inner_products([contribution.values for contribution in ordered])
    part, whole = COPY_COSINE_SQUARED

    def is_copy(i: int, j: int) -> bool:
        inner = products[i][j]
        is_along = inner > 0 and whole * inner**2 >= part * products[i][i] * products[j][j]
        return ordered[i].digest == ordered[j].digest or is_along

    kept: list[int] = []
    for i in range(len(ordered)):
        if not any(is_copy(i, j) for j in kept):
            kept.append(i)
    return [ordered[i] for i in kept]

"""The rules do what their papers say, in integers, whatever the order of the contributions."""

from fractions import Fraction
from itertools import permutations
from statistics import median as median_of

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.federated.records import groups_needed
from chain.types import Digest
from ml_validator.errors import MalformedArtifact, TooFewContributions
from ml_validator.federated.aggregation import (
    Contribution,
    Rule,
    aggregate,
    contribution,
    group_size_max,
    krum_selection,
    without_copies,
)
from ml_validator.federated.forest_union import honest_forests, union
from ml_validator.forest import LEAF, TREES_MAX
from tests.unit.ml_validator.helpers import make_forest

WIDTH = 3


def contributions(*rows: list[int]) -> list[Contribution]:
    return [contribution(np.array(row, np.int64)) for row in rows]


values = st.integers(-(2**50), 2**50)
rows_of = st.lists(st.lists(values, min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=9)


@given(rows_of)
def test_mean_and_median_are_exact_and_round_half_to_even(rows):
    mean = aggregate(contributions(*rows), rule=Rule.MEAN, attackers=0)
    median = aggregate(contributions(*rows), rule=Rule.MEDIAN, attackers=0)

    columns = list(zip(*rows, strict=True))
    assert mean.tolist() == [round(Fraction(sum(column), len(rows))) for column in columns]
    assert median.tolist() == [
        round(median_of([Fraction(value) for value in column])) for column in columns
    ]


@given(rows_of, st.integers(0, 4))
def test_trimmed_mean_leaves_out_the_extremes(rows, attackers):
    if len(rows) < 2 * attackers + 1:
        with pytest.raises(TooFewContributions):
            aggregate(contributions(*rows), rule=Rule.TRIMMED_MEAN, attackers=attackers)
        return

    trimmed = aggregate(contributions(*rows), rule=Rule.TRIMMED_MEAN, attackers=attackers)

    kept = [sorted(c)[attackers : len(rows) - attackers] for c in zip(*rows, strict=True)]
    assert trimmed.tolist() == [round(Fraction(sum(c), len(c))) for c in kept]


@given(rows_of, st.sampled_from(Rule), st.randoms())
def test_no_rule_depends_on_the_order_of_arrival(rows, rule, random):
    given_rows = contributions(*rows)
    attackers = 0 if rule is Rule.MEAN else 1
    if len(rows) < groups_needed(rule, attackers):
        return
    shuffled = random.sample(given_rows, len(given_rows))

    assert (
        aggregate(given_rows, rule=rule, attackers=attackers).tolist()
        == aggregate(shuffled, rule=rule, attackers=attackers).tolist()
    )


@pytest.mark.attack("F1")
@given(
    st.lists(st.integers(-100, 100), min_size=3, max_size=3),
    st.integers(-(2**50), 2**50),
    st.integers(1, 3),
)
def test_median_and_trimmed_mean_stay_between_honest_values(honest, poison, attackers):
    rows = [[value] for value in (honest * attackers)[: attackers + 1]] + [[poison]] * attackers

    for rule in (Rule.MEDIAN, Rule.TRIMMED_MEAN):
        (value,) = aggregate(contributions(*rows), rule=rule, attackers=attackers).tolist()
        kept = [row[0] for row in rows[: attackers + 1]]
        assert min(kept) <= value <= max(kept)


@pytest.mark.parametrize("rule", Rule)
def test_no_rule_minds_in_which_order_contributions_come(rule):
    # The two at the ends are as far from the rest: which of them stays, their digests decide.
    rows = contributions([0, 0, 0], [1, 0, 0], [-1, 0, 0], [9, 0, 0], [-9, 0, 0])

    found = {
        tuple(aggregate(order, rule=rule, attackers=int(rule is not Rule.MEAN)).tolist())
        for order in permutations(rows)
    }

    assert len(found) == 1


@pytest.mark.attack("F1")
def test_multi_krum_leaves_out_what_is_far_from_most():
    honest = [[10, 10, 10], [11, 10, 9], [9, 10, 11], [10, 11, 10], [10, 9, 10]]
    poison = [[-50, -50, -50], [-51, -50, -50]]

    chosen = krum_selection(np.array(honest + poison, np.int64), attackers=2)

    assert chosen == [0, 1, 2, 3, 4]
    result = aggregate(contributions(*honest, *poison), rule=Rule.MULTI_KRUM, attackers=2)
    assert result.tolist() == [10, 10, 10]


def test_krum_scores_are_exact_where_floats_are_not():
    # 2^60 and 2^60 + 1 are one double; the odd one out differs by that 1.
    rows = np.array([[2**60], [2**60], [2**60 + 1], [2**60], [2**60]], np.int64)

    assert krum_selection(rows, attackers=1) == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("rule", "attackers", "needed"),
    [
        (Rule.MEAN, 0, 1),
        (Rule.MEDIAN, 1, 3),
        (Rule.TRIMMED_MEAN, 2, 5),
        (Rule.MULTI_KRUM, 1, 5),
        (Rule.MULTI_KRUM, 0, 3),
    ],
)
def test_a_rule_refuses_fewer_contributions_than_it_can_stand_on(rule, attackers, needed):
    rows = contributions(*[[i, 0, 0] for i in range(needed)])

    aggregate(rows, rule=rule, attackers=attackers)
    with pytest.raises(TooFewContributions) as refused:
        aggregate(rows[:-1], rule=rule, attackers=attackers)

    assert (refused.value.count, refused.value.needed) == (needed - 1, needed)


def test_a_mean_is_not_taken_for_a_rule_that_withstands_somebody():
    with pytest.raises(TooFewContributions):
        aggregate(contributions(*[[i] for i in range(256)]), rule=Rule.MEAN, attackers=1)


def test_groups_are_small_enough_that_most_stay_whole():
    assert group_size_max(100, attackers=10) == 4
    assert group_size_max(100, attackers=0) == 100
    for participants in range(3, 60):
        for attackers in range(1, participants // 3):
            groups = participants // group_size_max(participants, attackers=attackers)
            assert groups >= 2 * attackers + 1


@pytest.mark.attack("F2")
def test_a_copied_update_counts_once():
    first, other, copied, near, longer, opposite = contributions(
        [100_000, -50_000, 7],
        [3, 100_000, 50_000],
        [100_000, -50_000, 7],
        [100_001, -50_003, 9],
        [200_000, -100_000, 14],
        [-100_000, 50_000, -7],
    )

    kept = without_copies([first, other, copied, near, longer, opposite])

    digests = {row.digest for row in kept}
    lowest = min(first.digest, near.digest, longer.digest)
    assert len(kept) == 3
    assert digests == {lowest, other.digest, opposite.digest}


@pytest.mark.attack("F2")
def test_updates_that_only_point_the_same_way_are_no_copies():
    rows = contributions([100, 100, 0], [100, 95, 3], [0, 0, 0], [0, 1, 0])

    assert without_copies(rows) == sorted(rows, key=lambda row: row.digest)


SPLIT = [(0, 5), (LEAF, 0), (LEAF, 10_000)]
FLIPPED = [(0, 5), (LEAF, 10_000), (LEAF, 0)]


@pytest.mark.attack("F1")
def test_forests_with_false_labels_are_left_out():
    rows = np.array([[i, 0, 0, 0] for i in range(10)], np.int64)
    attacks = rows[:, 0] > 5
    good, other, bad = make_forest(SPLIT), make_forest([(0, 6), *SPLIT[1:]]), make_forest(FLIPPED)
    one, two, three = (Digest(bytes((i,)) * 32) for i in (1, 2, 3))

    kept = honest_forests({three: good, one: bad, two: other}, rows=rows, attacks=attacks)

    assert list(kept) == [two, three]


def test_a_union_judges_by_the_votes_of_all_trees():
    rows = np.array([[0, 0, 0, 0], [6, 0, 0, 0], [9, 0, 0, 0]], np.int64)
    forests = [make_forest(SPLIT), make_forest(SPLIT, [(0, 7), *SPLIT[1:]])]

    together = union(forests)

    assert together.tree_count == 3
    assert (
        together.votes(rows).tolist() == np.sum([f.votes(rows) for f in forests], axis=0).tolist()
    )


def test_a_union_of_too_many_trees_is_refused():
    with pytest.raises(MalformedArtifact, match="trees"):
        union([make_forest(SPLIT)] * (TREES_MAX + 1))


def test_no_forest_is_no_union():
    with pytest.raises(TooFewContributions):
        honest_forests({}, rows=np.zeros((1, 4), np.int64), attacks=np.zeros(1, np.bool_))

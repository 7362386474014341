"""Attackers change what they can and no more, and what is left of recall is counted rightly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_validator.bundled import BUNDLED_NAMES, DETECT_NAME, LINEAR_NAME, bundled_model
from ml_validator.errors import UntrainableData
from ml_validator.evasion import (
    BUDGETS,
    MIXING,
    PADDING,
    Target,
    any_of,
    detector_of,
    measure,
    sample,
)
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.hop_skip_jump import make_repeatable, search
from ml_validator.nsl_kdd import TEST_FILE, read_records
from ml_validator.synthetic import generate_mixture

COLUMN = {column.name: place for place, column in enumerate(NSL_KDD_SCHEMA.integers)}
RECORDS = generate_mixture(120, seed=41)
ATTACKS = sample(RECORDS, attacks=True, count=40, seed=1)
HONEST = sample(RECORDS, attacks=False, count=80, seed=1)
ATTACKERS = {"padding": PADDING, "mixing": MIXING}


def small_in(name, most):
    """Return a detector that finds what has no more than `most` in a column."""
    return lambda rows: rows[:, COLUMN[name]] <= most


def hide(detects, changes, attacks=ATTACKS, seed=1):
    make_repeatable(seed)
    return measure(detects, attacks, HONEST, changes=changes, seed=seed, search=search)


@pytest.mark.parametrize("changes", ATTACKERS.values(), ids=ATTACKERS)
@given(data=st.data())
def test_only_what_an_attacker_can_change_changes_and_stays_in_its_range(changes, data):
    row = ATTACKS[data.draw(st.integers(0, len(ATTACKS) - 1))]
    target = Target(row=row, changes=changes, detects=small_in("duration", 0))
    wild = st.integers(-(2**40), 2**40)
    added = np.array([data.draw(st.tuples(*[wild] * len(changes)))], np.int64)

    (changed,) = target.changed(added)

    touched = {change.column for change in changes}
    kept = [column for column in range(len(row)) if column not in touched]
    assert (changed[kept] == row[kept]).all()
    for change in changes:
        before, after = row[change.column], changed[change.column]
        assert (0 if change.both_ways else before) <= after <= max(before, change.value_max)


def test_an_attack_is_found_below_the_budget_that_it_needs_to_hide():
    attacks = ATTACKS.copy()
    attacks[:, COLUMN["src_bytes"]] = 0

    found = hide(small_in("src_bytes", 500), PADDING, attacks)

    # 501 bytes more are six steps of a hundred.
    assert found.recall == 1
    assert found.by_chance == found.by_search == {1: 1.0, 10: 0.0, 100: 0.0}


def test_an_honest_flow_is_imitated_though_chance_has_found_a_way_that_costs_more():
    attacks = ATTACKS.copy()
    attacks[:, COLUMN["src_bytes"]] = 0
    honest = HONEST.copy()
    honest[:, COLUMN["src_bytes"]] = 777

    def detects(rows):
        sent = rows[:, COLUMN["src_bytes"]]
        return (sent != 777) & (sent < 9_000)

    found = measure(detects, attacks, honest, changes=PADDING, seed=1)

    # 777 bytes are eight steps, which chance does not hit; 9,000 are ninety.
    assert found.by_chance == {1: 1.0, 10: 0.0, 100: 0.0}


def test_a_change_beyond_the_range_of_a_column_costs_what_is_left_of_it():
    row = ATTACKS[0].copy()
    row[COLUMN["count"]] = 510
    target = Target(row=row, changes=PADDING, detects=small_in("count", 510))

    (left,) = target.effective(np.array([[0, 0, 500, 0]]))

    assert left.tolist() == [0, 0, 1, 0]
    assert target.budget_of(left) == 0.2


def test_the_search_gets_by_with_less_than_chance_has_found():
    row = ATTACKS[0].copy()
    row[COLUMN["src_bytes"]] = 0
    target = Target(row=row, changes=PADDING, detects=small_in("src_bytes", 3_000))
    start = np.array([0, 9_000, 0, 0])
    make_repeatable(1)

    reached = search(target, start)

    assert not target.is_found(reached[np.newaxis])[0]
    assert target.budget_of(start) == 90
    assert 30 < target.budget_of(reached) < 60


def test_what_nobody_can_change_cannot_be_hidden_and_what_is_missed_stays_missed():
    always = hide(lambda rows: rows[:, COLUMN["land"]] >= 0, MIXING)
    never = hide(lambda rows: rows[:, COLUMN["land"]] < 0, MIXING)

    assert set(always.by_search.values()) == {always.recall} == {1.0}
    assert set(never.by_search.values()) == {never.recall} == {0.0}
    assert (always.false_alarms, never.false_alarms) == (1.0, 0.0)


def test_a_flow_is_found_by_several_detectors_if_one_of_them_finds_it():
    both = any_of([small_in("duration", 0), small_in("src_bytes", 500)])

    labels = both(ATTACKS)

    expected = (ATTACKS[:, COLUMN["duration"]] <= 0) | (ATTACKS[:, COLUMN["src_bytes"]] <= 500)
    assert labels.tolist() == expected.tolist()


@pytest.mark.attack("F11")
@pytest.mark.parametrize("changes", ATTACKERS.values(), ids=ATTACKERS)
@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_robust_recall_falls_with_the_budget_and_is_the_same_each_time(name, changes):
    detects = detector_of(bundled_model(name)[0])

    found = hide(detects, changes, ATTACKS[::2])

    for robust in (found.by_chance, found.by_search):
        assert tuple(robust) == BUDGETS
        assert found.recall >= robust[1] >= robust[10] >= robust[100]
    assert all(found.by_search[budget] <= found.by_chance[budget] for budget in BUDGETS)
    assert hide(detects, changes, ATTACKS[::2]) == found


@pytest.mark.attack("F11")
def test_a_forest_finds_most_attacks_that_pad_and_fewer_that_mix(nsl_kdd_folder):
    records = list(read_records(nsl_kdd_folder / TEST_FILE))
    attacks = sample(records, attacks=True, count=80, seed=1)
    forest = detector_of(bundled_model(DETECT_NAME)[0])
    linear = detector_of(bundled_model(LINEAR_NAME)[0])

    padded, mixed = hide(forest, PADDING, attacks), hide(forest, MIXING, attacks)

    assert padded.by_search[100] > 0.8 * padded.recall
    assert mixed.by_search[100] < padded.by_search[100]
    assert hide(linear, MIXING, attacks).by_search[100] < mixed.by_search[100]


def test_a_sample_needs_rows_of_its_kind():
    normal = [record for record in RECORDS if not record.is_attack]

    with pytest.raises(UntrainableData, match="attacks"):
        sample(normal, attacks=True, count=3, seed=1)

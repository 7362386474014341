from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_validator import packing, training
from ml_validator.artifact import load_artifact
from ml_validator.calibration import choose_threshold
from ml_validator.errors import AlteredDataset, MissingDataset, UntrainableData
from ml_validator.features import NSL_KDD_SCHEMA, CategoricalColumn, FeatureSchema
from ml_validator.forest import LEAF, SATURATION, Forest, saturated
from ml_validator.forest_training import (
    ROW_WEIGHT,
    background,
    fit_classifier,
    grow,
    make_lesson,
    row_weights,
)
from ml_validator.labelled import Dataset
from ml_validator.nsl_kdd import TEST_FILE, TRAIN_FILE, write_records
from ml_validator.packing import integer_thresholds, pack
from ml_validator.synthetic import ATTACK_PROFILES, Profile, generate, generate_mixture
from ml_validator.training import judge
from ml_validator.verdicts import SCORE_PPM_MAX, TREE_VOTES, scores_ppm
from tests.unit.ml_validator.conftest import FALSE_ALARMS_PPM, SMALL, SMALL_LEAVES_MAX

SHOWN = replace(SMALL, background_ppm=300_000)
"""Settings of a forest that is shown a background."""


@pytest.fixture(scope="module")
def small_classifier(small_records):
    return fit_classifier(make_lesson(small_records, SMALL), SMALL)


@pytest.fixture(scope="module")
def unseen_rows():
    """Flows that the small model has not seen, and values far outside of what it has."""
    rows = NSL_KDD_SCHEMA.rows([record.flow for record in generate_mixture(100, seed=9)])
    wild = np.random.default_rng(4).integers(0, 2**40, (200, rows.shape[1]))
    return np.concatenate((rows, wild))


def test_every_row_reaches_the_leaf_that_scikit_learn_sends_it_to(small_classifier, unseen_rows):
    forest = pack(small_classifier, column_count=NSL_KDD_SCHEMA.column_count)
    reached = forest.leaves(unseen_rows)
    theirs = small_classifier.apply(saturated(unseen_rows))
    for tree in range(forest.tree_count):
        pairs = set(zip(theirs[:, tree].tolist(), reached[:, tree].tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_packed_scores_are_those_of_scikit_learn_up_to_the_rounding_of_votes(
    small_classifier, unseen_rows
):
    forest = pack(small_classifier, column_count=NSL_KDD_SCHEMA.column_count)
    packed = scores_ppm(forest.votes(unseen_rows), forest.tree_count)
    assert small_classifier.classes_.tolist() == [False, True]
    theirs = small_classifier.predict_proba(saturated(unseen_rows))[:, 1]
    assert np.abs(packed / SCORE_PPM_MAX - theirs).max() <= 1 / TREE_VOTES + 1 / SCORE_PPM_MAX
    for threshold in (0.05, 0.5):
        clear = np.abs(theirs - threshold) > 2 / TREE_VOTES
        assert clear.any()
        agreed = (packed >= threshold * SCORE_PPM_MAX) == (theirs >= threshold)
        assert agreed[clear].all()


def test_a_row_at_a_threshold_and_one_above_part(small_classifier):
    forest = pack(small_classifier, column_count=NSL_KDD_SCHEMA.column_count)
    splits = np.flatnonzero(forest.feature != LEAF)[:200]
    for offset in (0, 1):
        rows = np.zeros((len(splits), forest.column_count), np.int64)
        rows[np.arange(len(splits)), forest.feature[splits]] = forest.value[splits] + offset
        theirs = small_classifier.apply(saturated(rows))
        ours = forest.leaves(rows)
        for tree in range(forest.tree_count):
            pairs = set(zip(theirs[:, tree].tolist(), ours[:, tree].tolist(), strict=True))
            assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@given(st.floats(0, 2**31 - 130) | st.floats(0, 100))
def test_an_integer_threshold_parts_where_float32_does(threshold):
    (whole,) = integer_thresholds(np.array([threshold])).tolist()
    assert 0 <= whole < SATURATION
    # As doubles: numpy would round the threshold to float32 to compare it with one.
    assert float(np.float32(whole)) <= threshold
    assert whole == SATURATION - 1 or float(np.float32(whole + 1)) > threshold


def test_votes_of_a_leaf_add_up_for_every_share():
    weights = np.array([[1, 1, 1], [0, 7, 0], [1, 0, 2], [99_999, 1, 0], [3, 3, 1]])
    votes = packing._share_votes(weights)
    assert votes.sum(axis=1).tolist() == [TREE_VOTES] * 5
    assert votes.tolist()[:3] == [[3334, 3333, 3333], [0, 10_000, 0], [3333, 0, 6667]]


def test_the_threshold_lets_two_percent_of_normals_through():
    scores = np.arange(0, 1000) * 100
    threshold = choose_threshold(scores, avoid=scores, false_alarms_ppm=20_000)
    assert (scores >= threshold).sum() == 20
    assert threshold == (97_900 + 98_000) // 2


def test_many_equal_scores_make_fewer_false_alarms_not_more():
    scores = np.array([0] * 900 + [5000] * 90 + [9000] * 10)
    threshold = choose_threshold(scores, avoid=scores, false_alarms_ppm=20_000)
    assert (scores >= threshold).sum() == 10
    assert 5000 < threshold < 9000


def test_the_threshold_keeps_off_every_training_score():
    scores = np.array([0] * 98 + [100] * 2)
    avoid = np.concatenate((scores, np.arange(40, 61)))
    threshold = choose_threshold(scores, avoid=avoid, false_alarms_ppm=20_000)
    assert threshold == 39


def test_normals_that_all_score_the_worst_have_no_threshold():
    scores = np.full(100, SCORE_PPM_MAX)
    with pytest.raises(UntrainableData):
        choose_threshold(scores, avoid=scores, false_alarms_ppm=20_000)


@given(st.lists(st.integers(0, SCORE_PPM_MAX - 1), min_size=1, max_size=200), st.integers(0, 10**6))
def test_false_alarms_never_pass_the_share_allowed(scores, share):
    normals = np.array(scores)
    threshold = choose_threshold(normals, avoid=normals, false_alarms_ppm=min(share, 999_999))
    assert 1 <= threshold <= SCORE_PPM_MAX
    assert (normals >= threshold).sum() * SCORE_PPM_MAX <= len(normals) * share


def test_equal_seeds_make_equal_models_and_others_do_not(small_records, small_model):
    def made_with(settings):
        return grow(small_records, settings).calibrate(FALSE_ALARMS_PPM).artifact.digest

    assert made_with(SMALL) == small_model.digest
    assert made_with(replace(SMALL, seed=SMALL.seed + 1)) != small_model.digest


def test_a_model_made_here_is_one_that_loads(small_model):
    assert load_artifact(small_model.data).digest == small_model.digest
    assert isinstance(small_model.model, Forest)
    assert small_model.model.tree_count == SMALL.trees
    assert small_model.model.node_count <= SMALL.trees * (2 * SMALL_LEAVES_MAX - 1)


def test_a_small_model_tells_synthetic_attacks_from_normal_flows(small_trained):
    evaluation = judge(small_trained.artifact, generate_mixture(100, seed=77))
    assert evaluation.recall_ppm > 990_000
    assert evaluation.false_positive_rate_ppm < 50_000
    assert small_trained.out_of_bag.false_positive_rate_ppm <= FALSE_ALARMS_PPM


@pytest.mark.parametrize("profile", [Profile.DNS, Profile.FLOOD])
def test_rows_of_one_kind_train_nothing(profile):
    with pytest.raises(UntrainableData):
        grow(generate(profile, 20, seed=1), SMALL)


def test_the_model_is_no_other_for_trees_that_only_calibrate(small_records, small_model):
    lone = fit_classifier(make_lesson(small_records, SMALL), SMALL)
    lone.estimators_ = lone.estimators_[: SMALL.trees]
    packed = pack(lone, column_count=NSL_KDD_SCHEMA.column_count)
    assert packed.value.tolist() == small_model.model.value.tolist()
    assert SMALL.trees_grown == 25


def test_trees_that_would_not_fit_into_one_forest_are_held_to_what_does(monkeypatch):
    rows = generate(Profile.BROWSING, 150, seed=1)
    mixed = [
        replace(row, label="smurf" if place % 2 else "normal") for place, row in enumerate(rows)
    ]
    settings = replace(SMALL, leaves_max=None)
    free = grow(mixed, settings)
    assert free.leaves_max is None
    for module in ("forest", "forest_training"):
        monkeypatch.setattr(f"ml_validator.{module}.NODES_MAX", 1_000)

    held = grow(mixed, settings)

    assert max(free.forest.sizes) > 39 == max(held.forest.sizes)
    assert held.calibrate(500_000).leaves_max == 20, "25 trees of 39 nodes"


def test_a_background_row_takes_every_part_from_some_row():
    rows = NSL_KDD_SCHEMA.rows([record.flow for record in generate_mixture(30, seed=5)])
    invented = background(rows, NSL_KDD_SCHEMA, count=500, seed=1)
    assert invented.shape == (500, rows.shape[1])
    integers = len(NSL_KDD_SCHEMA.integers)
    for column in range(integers):
        assert set(invented[:, column].tolist()) <= set(rows[:, column].tolist())
    start = integers
    for category in NSL_KDD_SCHEMA.categories:
        assert (invented[:, start : start + len(category.values)].sum(axis=1) == 1).all()
        start += len(category.values)
    genuine = {tuple(row) for row in rows.tolist()}
    assert sum(tuple(row) in genuine for row in invented.tolist()) < 50


def test_the_background_is_an_attack_and_is_no_record(small_records):
    lesson = make_lesson(small_records, SHOWN)
    assert lesson.genuine == len(small_records)
    normal = sum(not record.is_attack for record in small_records)
    assert len(lesson.rows) == len(small_records) + normal * SHOWN.background_ppm // 1_000_000
    assert lesson.attacks[lesson.genuine :].all()
    assert len(lesson.rows) == len(lesson.attacks) == len(lesson.weights)


def test_a_forest_shown_a_background_finds_what_never_occurred_together(small_records):
    normal = [record.flow for record in small_records if not record.is_attack]
    strange = background(NSL_KDD_SCHEMA.rows(normal), NSL_KDD_SCHEMA, count=400, seed=99)
    found = []
    for settings in (SMALL, SHOWN):
        artifact = grow(small_records, settings).calibrate(FALSE_ALARMS_PPM).artifact
        scores = artifact.model.scores_ppm(strange)
        found.append(int((scores >= artifact.threshold_ppm).sum()))
    assert found[1] > 300 > 2 * found[0], found


def test_a_type_weighs_as_the_root_of_its_rows():
    few, many = generate(ATTACK_PROFILES[0], 4, seed=1), generate(ATTACK_PROFILES[1], 100, seed=1)
    normal = generate(Profile.DNS, 3, seed=1)
    weights = row_weights([*normal, *few, *many])
    assert weights[:3].tolist() == [ROW_WEIGHT] * 3
    assert weights[3:7].sum() / weights[7:].sum() == pytest.approx(2 / 10, rel=0.01)
    assert weights[3:].sum() == pytest.approx(104 * ROW_WEIGHT, rel=0.01)
    records = [*normal, *few, *many]
    assert make_lesson(records, SMALL).weights.tolist() == [ROW_WEIGHT] * len(records)
    weighed = make_lesson(records, replace(SMALL, weighs_types=True))
    assert weighed.weights.tolist() == weights.tolist()


def test_columns_that_no_manifest_can_name_are_refused_before_anything_is_trained(monkeypatch):
    values = tuple(f"{number:032}" for number in range(64))
    categories = [CategoricalColumn(name=f"{n:064}", values=values) for n in range(16)]
    schema = FeatureSchema(name="wide", integers=(), categories=tuple(categories))
    dataset = Dataset(
        name="wide", schema=schema, training=(), tests={}, digests={}, training_name="wide.csv"
    )
    monkeypatch.setattr(training, "grow", None)

    with pytest.raises(UntrainableData, match="too many columns, or values"):
        training.train_on(dataset, seed=1, command="train")


def test_what_is_not_the_genuine_data_is_refused(tmp_path):
    with pytest.raises(MissingDataset, match=r"KDDTrain\+.txt"):
        training.train(tmp_path, seed=1)
    write_records(tmp_path / TRAIN_FILE, generate_mixture(2, seed=1))
    write_records(tmp_path / TEST_FILE, generate_mixture(2, seed=2))
    with pytest.raises(AlteredDataset, match="SHA-256"):
        training.train(tmp_path, seed=1)

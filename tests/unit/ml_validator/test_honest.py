"""The honest protocol on a data set small enough to follow."""

from dataclasses import replace

import numpy as np
import pytest

from ml_validator import honest
from ml_validator.families import fit_families, say_families
from ml_validator.forest_training import DETECT, LOW_FALSE_ALARM, MODES, Mode
from ml_validator.forest_training import SMALL as SMALL_MODE
from ml_validator.honest import Figures, Run, run_seed, summary
from ml_validator.nsl_kdd import HARD_TEST_FILE, TEST_FILE
from ml_validator.synthetic import Profile, generate, generate_mixture
from tests.unit.ml_validator.conftest import SMALL

RECORDS = generate_mixture(80, seed=21)
SMALL_MODES = {
    DETECT: Mode(shape=lambda seed: replace(SMALL, seed=seed), false_alarms_ppm=30_000),
    LOW_FALSE_ALARM: Mode(shape=lambda seed: replace(SMALL, seed=seed), false_alarms_ppm=5_000),
    SMALL_MODE: Mode(
        shape=lambda seed: replace(SMALL, seed=seed, trees=3), false_alarms_ppm=30_000
    ),
}


def make_run(*, seed: int, file: str, accuracy: float) -> Run:
    figures: Figures = {"accuracy": accuracy, "f1": 0.5}
    return Run(
        seed=seed,
        file=file,
        modes=dict.fromkeys(MODES, figures),
        families={"accuracy": accuracy, "macro_f1": 0.25},
    )


@pytest.fixture(scope="module")
def runs(small_records):
    tests = {TEST_FILE: RECORDS, HARD_TEST_FILE: RECORDS[::3]}
    return run_seed(small_records, tests, seed=3, modes=SMALL_MODES)


def test_each_test_file_is_measured_in_every_mode(runs):
    assert [(run.file, run.seed) for run in runs] == [(TEST_FILE, 3), (HARD_TEST_FILE, 3)]
    for run in runs:
        assert run.modes.keys() == MODES.keys()
        for figures in run.modes.values():
            assert figures["unseen_recall"] is None, "training has seen every type"
            assert all(0 <= figures[name] <= 1 for name in figures if name != "unseen_recall")
        assert run.modes[DETECT]["recall"] > 0.95
        assert run.families["accuracy"] > 0.9


def test_the_cautious_mode_has_no_more_false_alarms_and_no_more_finds(runs):
    detect, cautious = runs[0].modes[DETECT], runs[0].modes[LOW_FALSE_ALARM]
    assert cautious["fpr"] <= detect["fpr"]
    assert cautious["recall"] <= detect["recall"]
    assert cautious["auc"] == detect["auc"]


def test_the_test_rows_change_no_model(small_records, runs):
    flood = [*generate(Profile.FLOOD, 30, seed=5), *generate(Profile.DNS, 30, seed=5)]
    tests = {HARD_TEST_FILE: flood, TEST_FILE: RECORDS}
    other = run_seed(small_records, tests, seed=3, modes=SMALL_MODES)
    assert other[1].modes == runs[0].modes
    assert other[1].families == runs[0].families


def test_only_an_anomalous_flow_has_a_family(small_records):
    classifier = fit_families(small_records, seed=1)
    anomalous = np.array([record.is_attack for record in RECORDS])
    said = say_families(classifier, RECORDS, anomalous)
    assert (said[~anomalous] == "normal").all()
    expected = np.array([record.family for record in RECORDS])
    assert (said[anomalous] == expected[anomalous]).mean() > 0.95
    nobody = np.zeros(len(RECORDS), np.bool_)
    assert set(say_families(classifier, RECORDS, nobody)) == {"normal"}


def test_types_that_training_has_not_seen_are_counted_apart(small_records):
    training = [record for record in small_records if record.label != "neptune"]
    (run,) = run_seed(training, {TEST_FILE: RECORDS}, seed=3, modes=SMALL_MODES)
    floods = [*generate(Profile.FLOOD, 80, seed=21), *generate(Profile.DNS, 5, seed=21)]
    (alone,) = run_seed(training, {TEST_FILE: floods}, seed=3, modes=SMALL_MODES)
    assert run.modes[DETECT]["unseen_recall"] == alone.modes[DETECT]["recall"]


@pytest.mark.parametrize(
    ("profile", "measured", "reason"),
    [
        (Profile.DNS, {"accuracy", "fpr"}, "there are no attacks"),
        (Profile.FLOOD, {"accuracy", "recall"}, "there are no normal rows"),
    ],
)
def test_of_rows_of_one_kind_most_figures_are_not_measured(
    small_records, profile, measured, reason
):
    rows = generate(profile, 20, seed=4)
    (run,) = run_seed(small_records, {TEST_FILE: rows}, seed=3, modes=SMALL_MODES)

    found = summary([run], digests={})

    names = set(run.modes[DETECT])
    for figures in (run.modes[DETECT], found["modes"][DETECT]):
        assert {name for name in names if figures[name] is not None} == measured
    assert set(found["unmeasured"]) == names - measured
    assert {found["unmeasured"][name] for name in ("f1", "auc", "precision_at_1pct")} == {reason}


def test_means_and_spreads_are_over_the_seeds():
    found = summary(
        [
            make_run(seed=seed, file=file, accuracy=accuracy)
            for seed, accuracy in ((1, 0.9), (2, 0.8))
            for file in (TEST_FILE, HARD_TEST_FILE)
        ],
        digests={TEST_FILE: "aa"},
    )
    detect = found["modes"][DETECT]
    assert (detect["accuracy"], detect["f1"], detect["seeds"]) == (0.85, 0.5, [1, 2])
    assert detect["spread"] == {"accuracy": pytest.approx(0.070711), "f1": 0.0}
    assert found["families"]["macro_f1"] == 0.25
    assert found["KDDTest-21"]["modes"].keys() == MODES.keys()
    assert found["data"] == {TEST_FILE: "aa"}


def test_a_figure_that_no_seed_has_is_none():
    lone = Run(seed=1, file=TEST_FILE, modes={m: {"auc": None} for m in MODES}, families={})
    detect = summary([lone], digests={})["modes"][DETECT]
    assert detect == {"auc": None, "spread": {"auc": None}, "seeds": [1]}


def test_one_seed_has_no_spread():
    lone = [make_run(seed=7, file=file, accuracy=0.9) for file in honest.TESTS]
    assert summary(lone, digests={})["families"]["spread"] == {"accuracy": None, "macro_f1": None}

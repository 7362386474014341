import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score

from ml_validator.errors import UntrainableData
from ml_validator.nsl_kdd import Record
from ml_validator.report import protocol
from ml_validator.report.protocol import run_all
from tests.unit.ml_validator.helpers import make_flow

RANDOM = np.random.default_rng(5)


def blurred(label: str, centre: int, difficulty: int, count: int) -> list[Record]:
    """Rows that overlap with those of other labels, so that no model is right about all."""
    return [
        Record(
            flow=make_flow(src_bytes=int(value), duration=int(value) % 7),
            label=label,
            difficulty=difficulty,
        )
        for value in RANDOM.integers(centre, centre + 120, count)
    ]


RECORDS = [
    *blurred("normal", 0, 21, 300),
    *blurred("neptune", 60, 11, 200),
    *blurred("back", 100, 1, 40),
]


@pytest.fixture(scope="module")
def runs():
    return run_all(RECORDS, seeds=(1, 2))


def test_every_model_is_fitted_with_and_without_the_leak_for_each_seed(runs):
    assert {(run.model, run.difficulty, run.seed) for run in runs} == {
        (model, leaks, seed)
        for model in protocol.MODELS
        for leaks in (True, False)
        for seed in (1, 2)
    }


def test_a_column_made_from_the_labels_tells_the_labels(runs):
    for run in runs:
        if run.difficulty:
            assert run.scores.accuracy == 1
        else:
            assert run.scores.accuracy < 0.95


def test_scores_follow_from_the_confusion_matrix(runs):
    run = next(run for run in runs if not run.difficulty)
    true, said = [], []
    for row, counts in enumerate(run.confusion):
        for column, count in enumerate(counts):
            true += [run.classes[row]] * count
            said += [run.classes[column]] * count

    assert len(true) == len(RECORDS) // 5
    assert run.scores.accuracy == pytest.approx(np.mean(np.array(true) == said))
    assert run.scores.macro_f1 == pytest.approx(f1_score(true, said, average="macro"))
    assert run.scores.weighted_precision == pytest.approx(
        precision_score(true, said, average="weighted", zero_division=0)
    )
    for label, counts, recall in zip(run.classes, run.confusion, run.recall, strict=True):
        of_label = counts[run.classes.index(label)] / sum(counts) if sum(counts) else 0
        assert recall == pytest.approx(of_label)


def test_curves_run_from_corner_to_corner_and_stay_short(runs):
    for run in runs:
        curves = run.curves
        assert (curves.false_positive_rate[0], curves.true_positive_rate[0]) == (0, 0)
        assert (curves.false_positive_rate[-1], curves.true_positive_rate[-1]) == (1, 1)
        assert len(curves.recall) == len(curves.precision) <= protocol.CURVE_POINTS_MAX
        assert 0.5 < curves.roc_auc <= 1


def test_the_same_seed_gives_the_same_run(runs):
    again = run_all(RECORDS, seeds=(2,))

    assert again == [run for run in runs if run.seed == 2]


def test_each_run_is_told_as_it_ends():
    told: list[protocol.Run] = []
    runs = run_all(RECORDS, seeds=(1,), on_run=told.append)

    assert told == runs


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (blurred("normal", 0, 1, 20), "normal rows and attacks"),
        (blurred("neptune", 0, 1, 9) + blurred("back", 0, 1, 9), "normal rows and attacks"),
        (RECORDS + blurred("satan", 0, 1, 1), "satan has one row"),
    ],
)
def test_rows_that_cannot_be_parted_are_refused(records, reason):
    with pytest.raises(UntrainableData, match=reason):
        run_all(records, seeds=(1,))

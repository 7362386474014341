import pytest

from ml_validator.evaluation import evaluate
from ml_validator.synthetic import Profile, generate


def judged(*, normal: list[int], attack: list[int], threshold_ppm: int = 50):
    records = generate(Profile.DNS, len(normal), seed=1)
    records += generate(Profile.FLOOD, len(attack), seed=1)
    return evaluate(records, normal + attack, threshold_ppm=threshold_ppm)


def test_rates_follow_from_the_four_counts():
    evaluation = judged(normal=[0, 49, 49, 50], attack=[50, 99, 10])
    counts = {
        "rows": 7,
        "true_positives": 2,
        "false_negatives": 1,
        "false_positives": 1,
        "true_negatives": 3,
    }
    rates = {
        "accuracy_ppm": 714_285,
        "precision_ppm": 666_666,
        "recall_ppm": 666_666,
        "f1_ppm": 666_666,
        "false_positive_rate_ppm": 250_000,
        "precision_at_one_percent_ppm": 26_229,
    }
    assert evaluation.figures() == counts | rates


@pytest.mark.parametrize(
    ("normal", "attack", "measured"),
    [
        ([], [], {"accuracy_ppm": 0}),
        ([0, 99], [], {"accuracy_ppm": 500_000, "false_positive_rate_ppm": 500_000}),
        ([], [0, 99], {"accuracy_ppm": 500_000, "recall_ppm": 500_000}),
        (
            [0],
            [0],
            {"accuracy_ppm": 500_000, "recall_ppm": 0, "f1_ppm": 0, "false_positive_rate_ppm": 0},
        ),
    ],
)
def test_a_rate_of_which_the_rows_tell_nothing_is_left_out_and_has_a_reason(
    normal, attack, measured
):
    evaluation = judged(normal=normal, attack=attack)

    rates = {name: rate for name, rate in evaluation.figures().items() if name.endswith("_ppm")}

    assert rates == measured
    left_out = {
        "precision_ppm", "recall_ppm", "f1_ppm", "false_positive_rate_ppm",
        "precision_at_one_percent_ppm",
    } - set(measured)  # fmt: skip
    assert set(evaluation.unmeasured()) - {"auc"} == left_out


def test_recall_is_given_by_label():
    evaluation = judged(normal=[99], attack=[50, 99, 10, 70])
    assert evaluation.recall_of(["neptune"]) == 750_000
    assert evaluation.recall_of(["smurf"]) == 0


def test_scores_and_rows_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        evaluate(generate(Profile.DNS, 2, seed=1), [1], threshold_ppm=5)

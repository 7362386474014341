"""What ``make numpy-versions`` calls a difference."""

from ml_validator.bundled import BUNDLED_NAMES
from ml_validator.federated import Rule
from scripts.numpy_versions import differences
from scripts.score_digests import AGGREGATES, aggregate_digests


def answer(numpy="2.0.0", **changed):
    """Answer of a version under which all is as ever but what is named, as ``nsl_kdd_linear``."""
    return {
        "numpy": numpy,
        "digests": {
            name: {"1": "ab", "7": changed.get(name.replace("-", "_"), "ab")}
            for name in BUNDLED_NAMES
        }
        | {AGGREGATES: {"median": changed.get("median", "ab")}},
    }


def test_equal_digests_are_no_difference():
    assert differences([answer("2.0.0"), answer("1.26.4")]) == []


def test_a_digest_that_differs_in_one_batch_size_or_version_is_told_with_its_model():
    (line,) = differences([answer("2.0.0"), answer("1.26.4", nsl_kdd_linear="cd")])

    assert "nsl-kdd-linear" in line
    assert "1.26.4, batches of 7" in line


def test_an_aggregate_that_differs_is_told_with_its_rule():
    (line,) = differences([answer("2.0.0"), answer("1.26.4", median="cd")])

    assert "median: 1.26.4; 2.0.0 differ" in line


def test_every_rule_and_the_vectors_are_compared():
    digests = aggregate_digests()

    assert digests.keys() == {*Rule, "vectors"}
    assert len(set(digests.values())) == len(digests)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_validator.errors import MalformedArtifact
from ml_validator.linear import EVEN_PPM, FRACTION_BITS, MARGIN_MAX, Linear
from ml_validator.verdicts import SCORE_PPM_MAX

UNIT = 1 << FRACTION_BITS


def make_linear(weight=(1000, -2000), cap=(10, 5), bias=0) -> Linear:
    return Linear(
        weight=np.array(weight, np.int64) * UNIT,
        cap=np.array(cap, np.int32),
        bias=np.array([bias], np.int64) * UNIT,
        column_count=len(weight),
    )


def scores(model: Linear, *rows: tuple[int, ...]) -> list[int]:
    found: list[int] = model.scores_ppm(np.array(rows, np.int64)).tolist()
    return found


def test_a_score_is_the_weighted_sum_around_even_odds():
    assert scores(make_linear(), (0, 0), (3, 0), (3, 1)) == [500_000, 503_000, 501_000]
    assert scores(make_linear(bias=-250_000), (0, 0)) == [250_000]


def test_a_value_above_its_cap_counts_as_the_cap():
    assert scores(make_linear(), (2**63 - 1, 6)) == scores(make_linear(), (10, 5)) == [500_000]


def test_scores_end_at_both_ends_of_the_scale():
    model = make_linear(weight=(100_000, -100_000), cap=(10, 10))
    assert scores(model, (10, 0), (0, 10)) == [SCORE_PPM_MAX, 0]


def test_a_part_below_one_ppm_is_rounded_down():
    model = Linear(
        weight=np.array([UNIT // 2, -1], np.int64),
        cap=np.array([9, 9], np.int32),
        bias=np.zeros(1, np.int64),
        column_count=2,
    )
    found = scores(model, (1, 0), (2, 0), (3, 0), (0, 1))
    assert found == [EVEN_PPM, EVEN_PPM + 1, EVEN_PPM + 1, EVEN_PPM - 1]


rows = st.lists(st.tuples(*[st.integers(0, 20) | st.integers(0, 2**63 - 1)] * 3), min_size=1)
weights = st.tuples(*[st.integers(-(2**56), 2**56)] * 3)
caps = st.tuples(*[st.integers(0, 20)] * 3)


@given(weights, caps, st.integers(-(2**60), 2**60), rows)
def test_scores_are_those_of_exact_arithmetic_for_every_batch(weight, cap, bias, batch):
    model = Linear(
        weight=np.array(weight, np.int64),
        cap=np.array(cap, np.int32),
        bias=np.array([bias], np.int64),
        column_count=3,
    )
    expected = []
    for row in batch:
        margin = bias + sum(w * min(x, c) for w, x, c in zip(weight, row, cap, strict=True))
        expected.append(min(max(EVEN_PPM + (margin >> FRACTION_BITS), 0), SCORE_PPM_MAX))
    assert scores(model, *batch) == expected
    assert [scores(model, row)[0] for row in batch] == expected


def test_a_model_that_could_overflow_is_refused():
    for weight, bias in (((MARGIN_MAX // 10 + 1, 0), 0), ((0, 0), MARGIN_MAX), ((-(2**63), 0), 0)):
        with pytest.raises(MalformedArtifact, match="margin"):
            Linear(
                weight=np.array(weight, np.int64),
                cap=np.array([10, 10], np.int32),
                bias=np.array([bias], np.int64),
                column_count=2,
            )


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="shape"):
        scores(make_linear(), (1, 2, 3))

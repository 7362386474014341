"""Numbers become integers in one defined way, or are refused."""

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.federated.records import PARAMETERS_MAX
from ml_validator.errors import InvalidUpdate
from ml_validator.federated.fixed_point import (
    SUM_MAX,
    UpdateRules,
    clipped,
    decode_update,
    decode_words,
    divided,
    encode_update,
    prepared,
    squared_norm,
    to_fixed,
    to_floats,
)
from tests.unit.ml_validator.federated.helpers import make_rules

int64s = st.integers(-(2**63), 2**63 - 1)


def array(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def test_rounding_is_half_to_even():
    rules = make_rules(parameters=6, fraction_bits=0)

    fixed = to_fixed(np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2.500001]), rules=rules)

    assert fixed.tolist() == [0, 2, 2, 0, -2, 3]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(0, 40))
def test_a_value_is_rounded_once_to_the_nearest(values, bits):
    rules = make_rules(parameters=len(values), fraction_bits=bits)

    fixed = to_fixed(np.array(values), rules=rules)

    assert fixed.tolist() == [round(Fraction(value) * 2**bits) for value in values]


@pytest.mark.attack("F9")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 2.0**46])
def test_what_is_no_number_or_too_large_is_refused(value):
    with pytest.raises(InvalidUpdate, match="value"):
        to_fixed(np.array([0.0, value]), rules=make_rules(parameters=2))


@pytest.mark.attack("F9")
def test_an_update_of_another_shape_is_refused():
    rules = make_rules(parameters=3)

    with pytest.raises(InvalidUpdate, match="size"):
        to_fixed(np.zeros(4), rules=rules)
    with pytest.raises(InvalidUpdate, match="size"):
        to_fixed(np.zeros((3, 1)), rules=rules)
    for size in (0, 8, 23, 25, 32):
        with pytest.raises(InvalidUpdate, match="size"):
            decode_update(bytes(size), rules=rules)


@pytest.mark.attack("F9")
def test_an_update_with_a_norm_above_the_bound_is_refused():
    rules = make_rules(parameters=2, norm_max=5)

    assert decode_update(encode_update(array([3, 4])), rules=rules).tolist() == [3, 4]
    assert decode_update(encode_update(array([6, -8])), rules=rules, weight=2).tolist() == [6, -8]
    for values in ([3, 5], [6, 0], [-(2**63), 0], [2**63 - 1, 2**63 - 1]):
        with pytest.raises(InvalidUpdate, match="norm"):
            decode_update(encode_update(array(values)), rules=rules)


@pytest.mark.parametrize(
    "wrong",
    [
        {"parameters": 0},
        {"parameters": PARAMETERS_MAX + 1},
        {"fraction_bits": -1},
        {"fraction_bits": 49},
        {"norm_max": 0},
        {"norm_max": SUM_MAX // 100 + 1},
        {"weight_total": 0},
    ],
)
def test_rules_under_which_a_sum_could_overflow_are_refused(wrong):
    with pytest.raises(InvalidUpdate):
        make_rules(**wrong)


def test_the_largest_permitted_updates_sum_without_overflow():
    rules = UpdateRules(parameters=1, fraction_bits=0, norm_max=SUM_MAX // 3, weight_total=3)
    update = prepared(np.array([4e18]), rules=rules)

    assert update.tolist() == [SUM_MAX // 3]
    assert 3 * int(update[0]) <= SUM_MAX


@given(st.lists(int64s, min_size=1, max_size=8))
def test_blobs_are_little_endian_and_read_back(values):
    data = encode_update(array(values))

    assert data == b"".join((value % 2**64).to_bytes(8, "little") for value in values)
    assert decode_words(data, parameters=len(values)).view(np.int64).tolist() == values


@given(st.lists(int64s, max_size=50))
def test_squared_norms_are_exact(values):
    assert squared_norm(array(values)) == sum(value * value for value in values)


def test_the_squared_norm_of_the_largest_array_is_exact():
    values = np.full(PARAMETERS_MAX, -(2**63), np.int64)

    assert squared_norm(values) == PARAMETERS_MAX * 2**126


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20),
    st.integers(1, 2**62),
)
def test_clipping_shortens_to_the_bound_and_keeps_the_direction(values, bound):
    short = clipped(array(values), bound).tolist()

    square = sum(value * value for value in values)
    assert sum(value * value for value in short) <= bound * bound
    if square <= bound * bound:
        assert short == values
    else:
        norm = isqrt(square - 1) + 1
        for value, shortened in zip(values, short, strict=True):
            assert value * shortened >= 0 or shortened == 0
            assert abs(Fraction(abs(value) * bound, norm) - abs(shortened)) < 1


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20),
    st.integers(1, 2**20),
)
def test_division_rounds_half_to_even(values, divisor):
    assert divided(array(values), divisor).tolist() == [
        round(Fraction(value, divisor)) for value in values
    ]


def test_a_weight_multiplies_what_was_rounded_and_clipped():
    rules = make_rules(parameters=2, fraction_bits=0, norm_max=5)

    assert prepared(np.array([30.0, 40.0]), rules=rules, weight=7).tolist() == [21, 28]


def test_floats_come_back_exactly():
    values = np.array([0.5, -1.25, 3.0])
    fixed = to_fixed(values, rules=make_rules(parameters=3))

    assert to_floats(fixed, fraction_bits=16).tolist() == values.tolist()

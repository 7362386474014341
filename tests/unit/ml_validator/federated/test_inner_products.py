"""Inner products are those of Python's integers, whatever the values and however many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_validator.federated.fixed_point import SUM_MAX, squared_norm
from ml_validator.federated.inner_products import BLOCK, inner_products

bounds = st.sampled_from([0, 1, 2**18 - 1, 2**18, 2**36, 2**54, SUM_MAX])


@settings(deadline=None)
@given(bounds, st.integers(1, 6), st.integers(1, 20), st.randoms())
def test_they_are_those_of_integers(bound, count, parameters, random):
    rows = [[random.randint(-bound, bound) for _ in range(parameters)] for _ in range(count)]

    found = inner_products([np.array(row, np.int64) for row in rows])

    assert found == [
        [sum(a * b for a, b in zip(first, second, strict=True)) for second in rows]
        for first in rows
    ]


@pytest.mark.parametrize("value", [1, 2**18 - 1, 2**54 - 1, SUM_MAX, -SUM_MAX])
@pytest.mark.parametrize("parameters", [BLOCK, 3 * BLOCK + 1])
def test_the_largest_sums_are_exact(value, parameters):
    # An odd one in the middle of many that are equal: what a rounded sum would lose.
    row = np.full(parameters, value, np.int64)
    other = row.copy()
    other[parameters // 2] = 1

    found = inner_products([row, other])

    assert found[0][0] == parameters * value * value == squared_norm(row)
    assert found[0][1] == found[1][0] == (parameters - 1) * value * value + value
    assert found[1][1] == (parameters - 1) * value * value + 1


def test_sums_over_a_block_stay_where_floats_are_exact():
    limb = np.float64(2**18 - 1)

    assert int(limb * limb) * BLOCK < 2**49
    assert float(2**53) + 1 == float(2**53), "and from here on they are not"

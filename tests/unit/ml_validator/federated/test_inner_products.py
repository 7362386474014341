"""Inner products are those of Python's integers, whatever the values and however many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.federated.records import PARAMETERS_MAX
from ml_validator.federated.fixed_point import SUM_MAX, squared_norm
from ml_validator.federated.inner_products import BLOCK, LIMB_BITS, inner_products

LIMB = 2**LIMB_BITS - 1

bounds = st.sampled_from([0, 1, LIMB, LIMB + 1, (LIMB + 1) ** 2, (LIMB + 1) ** 3, SUM_MAX])


@settings(deadline=None)
@given(bounds, st.integers(1, 6), st.integers(1, 20), st.randoms())
def test_they_are_those_of_integers(bound, count, parameters, random):
    rows = [[random.randint(-bound, bound) for _ in range(parameters)] for _ in range(count)]

    found = inner_products([np.array(row, np.int64) for row in rows])

    assert found == [
        [sum(a * b for a, b in zip(first, second, strict=True)) for second in rows]
        for first in rows
    ]


@pytest.mark.parametrize("value", [1, LIMB, (LIMB + 1) ** 3 - 1, SUM_MAX, -SUM_MAX])
@pytest.mark.parametrize("parameters", [BLOCK - 1, BLOCK, 3 * BLOCK + 1])
def test_the_largest_sums_are_exact(value, parameters):
    # An odd one in the middle of many that are equal: what a rounded sum would lose.
    row = np.full(parameters, value, np.int64)
    other = row.copy()
    other[parameters // 2] = 1

    found = inner_products([row, other])

    assert found[0][0] == parameters * value * value == squared_norm(row)
    assert found[0][1] == found[1][0] == (parameters - 1) * value * value + value
    assert found[1][1] == (parameters - 1) * value * value + 1


def test_the_largest_sums_that_the_bounds_allow_are_exact():
    of_block = BLOCK * LIMB**2
    blocks = -(-PARAMETERS_MAX // BLOCK)

    assert of_block < 2**53, "as a float64, in whatever order it is added up"
    # Pairs of limbs in either order are added before they become integers of Python.
    assert 2 * blocks * of_block < 2**63, "as an int64"

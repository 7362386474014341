"""Exact inner products of many updates with each other, as fast as floats are multiplied.

Comparing n updates takes n² / 2 inner products, each over up to a million parameters: one by one,
in integers of 64 bits, 256 updates keep a miner busy for minutes. Here they are cut into limbs so
small that every product and every sum of products is an integer below 2^53: a float64 holds each of
them exactly, so the order in which a library adds, or whether it fuses, makes no difference.
docs/spec/aggregation.md.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ml_validator.federated.fixed_point import SUM_MAX, Floats, Integers

LIMB_BITS: Final = 18
BLOCK: Final = 2**13
"""Parameters that are multiplied at a time: their products sum to less than 2^49."""

_MASK: Final = np.uint64(2**LIMB_BITS - 1)


def inner_products(rows: Sequence[Integers]) -> list[list[int]]:
    """Return the inner product of each row with each.

    Parameters
    ----------
    rows : sequence of ndarray of shape (n_parameters,), int64
        At least one, with absolute values of at most `SUM_MAX`.
    """
    largest = max(int(np.abs(row).max()) for row in rows)
    assert largest <= SUM_MAX, "four limbs hold every value"
    limbs = max(-(-largest.bit_length() // LIMB_BITS), 1)
    sums = np.zeros((limbs, limbs, len(rows), len(rows)), np.int64)
    for start in range(0, len(rows[0]), BLOCK):
        parts = _limbs(np.stack([row[start : start + BLOCK] for row in rows]), limbs)
        for i in range(limbs):
            for j in range(i + 1):
                # Below 2^49, and at most 2^7 blocks: their sum is below 2^56.
                sums[i, j] += (parts[i] @ parts[j].T).astype(np.int64)
    total = np.zeros((len(rows), len(rows)), object)
    for i in range(limbs):
        for j in range(i + 1):
            both = sums[i, j] if i == j else sums[i, j] + sums[i, j].T
            total += both.astype(object) << LIMB_BITS * (i + j)
    products: list[list[int]] = total.tolist()
    return products


def _limbs(block: Integers, count: int) -> list[Floats]:
    """Cut values into limbs of their sign, the lowest first."""
    magnitude, sign = np.abs(block).view(np.uint64), np.sign(block).astype(np.float64)
    return [
        sign * ((magnitude >> np.uint64(LIMB_BITS * index)) & _MASK).astype(np.float64)
        for index in range(count)
    ]

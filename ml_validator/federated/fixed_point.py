"""Updates as integers, and the few operations on them that round.

A parameter is an int64 with `fraction_bits` bits behind the point. Sums are exact; where something
has to be rounded, the rule is said and is the same on every machine, for nothing here is a matrix
product, a float sum or a transcendental function. docs/spec/aggregation.md, section 1.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from chain.federated.records import PARAMETER_BYTES, PARAMETERS_MAX
from ml_validator.errors import InvalidUpdate

SUM_MAX: Final = 2**63 - 1
"""What no sum of a federated round exceeds in absolute value."""

INPUT_MAX: Final = 2**62
"""Numbers that are not smaller in fixed point are refused."""

FRACTION_BITS_MAX: Final = 48

_LIMB_BITS: Final = 21

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRules:
    """What a federated round asks of an update.

    Parameters
    ----------
    parameters : int
        How many it has, 1 to `PARAMETERS_MAX`.
    fraction_bits : int
        Bits behind the point, 0 to `FRACTION_BITS_MAX`.
    norm_max : int
        Bound on the L2 norm of an update of weight 1, in fixed point.
    weight_total : int
        The weights of all participants together; their number where all weigh 1.

    Raises
    ------
    InvalidUpdate
        The rules contradict each other: updates that keep them could sum to more than `SUM_MAX`.
    """

    parameters: int
    fraction_bits: int
    norm_max: int
    weight_total: int

    def __post_init__(self) -> None:
        if not 1 <= self.parameters <= PARAMETERS_MAX:
            raise InvalidUpdate("size", f"{self.parameters} parameters, not 1 to {PARAMETERS_MAX}")
        if not 0 <= self.fraction_bits <= FRACTION_BITS_MAX:
            raise InvalidUpdate(
                "fraction bits", f"{self.fraction_bits}, not 0 to {FRACTION_BITS_MAX}"
            )
        largest = SUM_MAX // self.weight_total if self.weight_total > 0 else 0
        if not 1 <= self.norm_max <= largest:
            raise InvalidUpdate("norm", f"a bound of {self.norm_max}, not 1 to {largest}")


def to_fixed(values: Floats, *, rules: UpdateRules) -> Integers:
    """Round to fixed point, half to even.

    Raises
    ------
    InvalidUpdate
        Another shape; a value that is no number, or not below 2^62 in fixed point.
    """
    if values.shape != (rules.parameters,):
        raise InvalidUpdate("size", f"shape {values.shape}, not ({rules.parameters},)")
    if not np.isfinite(values).all():
        raise InvalidUpdate("value", "not a finite number")
    # Scaling by a power of two is exact, so this rounds once.
    with np.errstate(over="ignore"):
        scaled = np.rint(np.ldexp(values, rules.fraction_bits))
    if (np.abs(scaled) >= float(INPUT_MAX)).any():
        raise InvalidUpdate("value", f"not below 2^62 with {rules.fraction_bits} fraction bits")
    return scaled.astype(np.int64)


def prepared(values: Floats, *, rules: UpdateRules, weight: int = 1) -> Integers:
    """Return what a participant sends, masked or not: rounded, clipped, times its weight.

    Raises
    ------
    InvalidUpdate
        As in `to_fixed`.
    """
    return clipped(to_fixed(values, rules=rules), rules.norm_max) * np.int64(weight)


def to_floats(fixed: Integers, *, fraction_bits: int) -> Floats:
    """Return what an aggregate stands for; never hashed."""
    return np.ldexp(fixed.astype(np.float64), -fraction_bits)


def encode_update(fixed: npt.NDArray[np.int64 | np.uint64]) -> bytes:
    """Return the content of an update's blob: 8 bytes a parameter, little-endian, modulo 2^64."""
    return fixed.astype("<i8" if fixed.dtype.kind == "i" else "<u8").tobytes()


def decode_words(data: bytes, *, parameters: int) -> Words:
    """Read a masked update.

    Raises
    ------
    InvalidUpdate
        It has not `parameters` parameters.
    """
    if len(data) != PARAMETER_BYTES * parameters:
        raise InvalidUpdate("size", f"{len(data)} bytes, not {PARAMETER_BYTES * parameters}")
    return np.frombuffer(data, "<u8").astype(np.uint64)


def decode_update(data: bytes, *, rules: UpdateRules, weight: int = 1) -> Integers:
    """Read an update that is not masked.

    Raises
    ------
    InvalidUpdate
        It has another shape, or a norm above the bound: an honest participant clips, so that no
        rule has to guess how to go on from there. No value is then above the bound either.
    """
    values = decode_words(data, parameters=rules.parameters).view(np.int64)
    check_norm(values, norm_max=rules.norm_max * weight)
    return values


def check_norm(values: Integers, *, norm_max: int) -> None:
    """Raise InvalidUpdate unless the L2 norm, and with it each value, is at most `norm_max`."""
    if squared_norm(values) > norm_max * norm_max:
        raise InvalidUpdate("norm", f"above {norm_max}")


def divided(values: Integers, divisor: int) -> Integers:
    """Divide each value by a positive integer, rounding half to even."""
    quotient = values // np.int64(divisor)
    twice = 2 * (values - quotient * np.int64(divisor))
    odd = (quotient & 1).astype(np.bool_)
    rounded: Integers = quotient + ((twice > divisor) | ((twice == divisor) & odd))
    return rounded


def squared_norm(values: Integers) -> int:
    """Return the exact sum of squares, for up to `PARAMETERS_MAX` values of any size.

    Three limbs of at most 22 bits keep every partial sum below 2^64.
    """
    assert len(values) <= PARAMETERS_MAX, "partial sums fit into 64 bits"
    magnitude = np.abs(values).view(np.uint64)
    mask = np.uint64(2**_LIMB_BITS - 1)
    low = magnitude & mask
    middle = (magnitude >> np.uint64(_LIMB_BITS)) & mask
    high = magnitude >> np.uint64(2 * _LIMB_BITS)
    total = 0
    for first, second, shift, times in (
        (low, low, 0, 1),
        (low, middle, 1, 2),
        (middle, middle, 2, 1),
        (low, high, 2, 2),
        (middle, high, 3, 2),
        (high, high, 4, 1),
    ):
        # numpy multiplies integers in loops of its own, never in BLAS.
        total += times * (int(np.dot(first, second)) << (shift * _LIMB_BITS))
    return total


def clipped(values: Integers, norm_max: int) -> Integers:
    """Shorten to an L2 norm of at most `norm_max`; each value is rounded towards zero.

    ``|value| · norm_max // ⌈norm⌉``, so that the norm of the result never exceeds the bound.
    """
    square = squared_norm(values)
    if square <= norm_max * norm_max:
        return values
    norm = isqrt(square - 1) + 1
    shortened = [
        value * norm_max // norm if value >= 0 else -(-value * norm_max // norm)
        for value in values.tolist()
    ]
    return np.array(shortened, np.int64)

"""A linear model in fixed point, as logistic regression trains one.

The score is linear in the log odds, not the probability: a logistic curve keeps the order of the
scores, and the threshold asks for no more; so no function is needed that machines round in ways of
their own. docs/spec/ml.md, section "Scores of linear models".
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_validator.errors import MalformedArtifact
from ml_validator.verdicts import SCORE_PPM_MAX

FRACTION_BITS: Final = 32
"""Bits of a margin below one part per million."""

PPM_PER_LOGIT: Final = 25_000
"""The scale of the scores: log odds from -20 to 20 fill it."""

COLUMNS_MAX: Final = 2**15
MARGIN_MAX: Final = 2**62
"""What no row's margin reaches: a cap on every column makes that a property of the model."""

EVEN_PPM: Final = 500_000
"""Score of a row whose margin is 0."""


class Linear:
    """A weighted sum of the columns of a row, none counted above its cap.

    Parameters
    ----------
    weight : ndarray of shape (column_count,), int64
        Parts per million that one unit of the column adds, times 2^FRACTION_BITS.
    cap : ndarray of shape (column_count,), int32, 0 or more
        Larger values count as this one, so that no single column outweighs all others without end.
    bias : ndarray of shape (1,), int64
        What every row starts with, in the unit of `weight`.
    column_count : int
        Length of the rows.

    Raises
    ------
    MalformedArtifact
        The arrays are not such a model, or a row could reach `MARGIN_MAX`.
    """

    def __init__(
        self,
        *,
        weight: npt.NDArray[np.int64],
        cap: npt.NDArray[np.int32],
        bias: npt.NDArray[np.int64],
        column_count: int,
    ) -> None:
        for name, array, dtype, count in (
            ("weight", weight, np.int64, column_count),
            ("cap", cap, np.int32, column_count),
            ("bias", bias, np.int64, 1),
        ):
            if array.dtype != dtype or array.shape != (count,):
                raise MalformedArtifact(name, f"{array.dtype} {array.shape}, not {count} values")
        if (cap < 0).any():
            raise MalformedArtifact("cap", "below 0")
        # In Python's integers, which do not wrap around.
        largest = sum(
            abs(weight) * cap for weight, cap in zip(weight.tolist(), cap.tolist(), strict=True)
        )
        if largest + abs(int(bias[0])) >= MARGIN_MAX:
            raise MalformedArtifact("weight", f"a row could reach a margin of {MARGIN_MAX}")
        self.weight = weight
        self.cap = cap
        self.bias = bias
        self.column_count = column_count
        for array in (weight, cap, bias):
            array.setflags(write=False)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what an artefact holds of the model."""
        return {"weight": self.weight, "cap": self.cap, "bias": self.bias}

    def figures(self) -> dict[str, int]:
        """Return the model's size for a manifest."""
        return {"weights": int(np.count_nonzero(self.weight))}

    def scores_ppm(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how suspicious each row is.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, column_count), int64, 0 or more

        Returns
        -------
        ndarray of shape (n_rows,), int64, in [0, SCORE_PPM_MAX], higher is more suspicious
        """
        if rows.ndim != 2 or rows.shape[1] != self.column_count:
            raise ValueError(f"rows of shape {rows.shape}, not (n, {self.column_count})")
        margins = np.minimum(rows, self.cap) @ self.weight + self.bias
        scores: npt.NDArray[np.int64] = np.clip(
            EVEN_PPM + (margins >> FRACTION_BITS), 0, SCORE_PPM_MAX
        )
        return scores

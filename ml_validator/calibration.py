"""Choosing a model's threshold from scores of normal rows that it was not made from.

docs/adr/0004-threshold-from-out-of-bag-scores.md.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ml_validator.errors import NoThreshold
from ml_validator.verdicts import SCORE_PPM_MAX

Matrix = npt.NDArray[np.int64]

RULE: Final = (
    "smallest threshold at which at most false_alarms_max_ppm of the normal training rows score"
    " anomalous by learners that have not seen them; then the middle of the gap to the next smaller"
    " such score, or the nearest value that no training row scores"
)


def choose_threshold(normal_scores: Matrix, *, avoid: Matrix, false_alarms_ppm: int) -> int:
    """Return the lowest threshold with few enough false alarms.

    Parameters
    ----------
    normal_scores : ndarray of shape (n_normal,), int64, in parts per million
        Out-of-bag scores of normal training rows; at least one.
    avoid : ndarray of shape (n,), int64
        Scores that the threshold must not equal, so that none sits on the fence.
    false_alarms_ppm : int
        Share of `normal_scores` that may reach the threshold; below 1_000_000.

    Raises
    ------
    NoThreshold
        More normal rows than that have the highest score there is.
    """
    ordered = np.sort(normal_scores)
    allowed = len(ordered) * false_alarms_ppm // SCORE_PPM_MAX
    # `lower` is the largest score that must stay below the threshold, `upper` the next above it.
    lower = int(ordered[len(ordered) - allowed - 1])
    above = ordered[ordered > lower]
    upper = int(above[0]) if len(above) else SCORE_PPM_MAX
    if lower == SCORE_PPM_MAX:
        raise NoThreshold("too many normal rows score as the worst attacks do")
    taken = set(np.unique(avoid).tolist())
    middle = (lower + upper) // 2
    for distance in range(upper - lower):
        for candidate in (middle - distance, middle + distance):
            if lower < candidate <= upper and candidate not in taken:
                return candidate
    return lower + 1

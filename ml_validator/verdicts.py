"""From votes to a score in parts per million, and from a score to a label.

The only place that rounds. A verdict on the chain carries the score; whether it means anomalous is
decided against the threshold that the chain has for the model.
"""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

SCORE_PPM_MAX: Final = 1_000_000
TREE_VOTES: Final = 10_000
"""Votes that one tree shares out between normal and not normal."""

Label = Literal["anomalous", "normal"]


def scores_ppm(
    votes: npt.NDArray[np.int64], trees: int | npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Round votes down to parts per million.

    Parameters
    ----------
    votes : ndarray of shape (n_flows,), int64, in [0, trees × TREE_VOTES]
        Votes against normal, summed over the trees.
    trees : int, or ndarray of shape (n_flows,), int64
        How many trees voted, on all flows or on each; at least 1.

    Returns
    -------
    ndarray of shape (n_flows,), int64, in [0, SCORE_PPM_MAX], higher is more suspicious
    """
    return votes * SCORE_PPM_MAX // (trees * TREE_VOTES)


def is_anomalous(score_ppm: int, threshold_ppm: int) -> bool:
    """Say whether a flow with this score is an anomaly under a model with this threshold."""
    return score_ppm >= threshold_ppm


def label_of(score_ppm: int, threshold_ppm: int) -> Label:
    """Return the word for `is_anomalous`."""
    return "anomalous" if is_anomalous(score_ppm, threshold_ppm) else "normal"

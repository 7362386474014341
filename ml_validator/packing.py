"""Turning a random forest of scikit-learn into integers.

docs/adr/0005-integer-forest.md.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ml_validator.forest import LEAF, SATURATION, Forest
from ml_validator.verdicts import TREE_VOTES

Matrix = npt.NDArray[np.int64]


def pack(classifier: Any, *, column_count: int) -> Forest:
    """Turn a fitted random forest into integers.

    Each row reaches the same leaf in both. A leaf shares out `TREE_VOTES` votes between normal and
    attack in proportion to its training weights, which are integers, by largest remainder.

    Parameters
    ----------
    classifier : sklearn.ensemble.RandomForestClassifier
        Fitted to rows saturated at `SATURATION`, with the classes False (normal) and True.
    column_count : int
        Length of the rows.
    """
    attack = list(classifier.classes_).index(True)
    sizes, features, values = [], [], []
    for estimator in classifier.estimators_:
        tree = estimator.tree_
        order = _breadth_first(tree.children_left, tree.children_right)
        leaf = tree.children_left[order] < 0
        weights = tree.value[order, 0, :] * tree.weighted_n_node_samples[order, np.newaxis]
        against = _share_votes(np.rint(weights).astype(np.int64))[:, attack]
        sizes.append(len(order))
        features.append(np.where(leaf, LEAF, tree.feature[order]))
        values.append(np.where(leaf, against, integer_thresholds(tree.threshold[order])))
    return Forest(
        sizes=np.array(sizes, np.int32),
        feature=np.concatenate(features).astype(np.int16),
        value=np.concatenate(values).astype(np.int32),
        column_count=column_count,
    )


def integer_thresholds(thresholds: npt.NDArray[np.float64]) -> Matrix:
    """Return for each threshold the largest integer that scikit-learn would send to the left.

    It compares the input rounded to float32; that rounding keeps the order, so that one integer
    divides left from right, found here by bisection. Where it is not below 0, the result lies in
    [0, SATURATION).
    """
    low = np.full(len(thresholds), -1, np.int64)
    high = np.full(len(thresholds), SATURATION - 1, np.int64)
    while (low < high).any():
        middle = (low + high + 1) // 2
        left = middle.astype(np.float32) <= thresholds
        low, high = np.where(left, middle, low), np.where(left, high, middle - 1)
    return low


def _breadth_first(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> list[int]:
    order = [0]
    for node in order:
        if left[node] >= 0:
            order += (int(left[node]), int(right[node]))
    return order


def _share_votes(weights: Matrix) -> Matrix:
    """Share out `TREE_VOTES` votes in each row by largest remainder; ties to the first class."""
    totals = weights.sum(axis=1, keepdims=True)
    votes, remainders = np.divmod(weights * TREE_VOTES, totals)
    missing = TREE_VOTES - votes.sum(axis=1)
    by_remainder = np.argsort(-remainders, axis=1, kind="stable")
    rank = np.argsort(by_remainder, axis=1, kind="stable")
    shared: Matrix = votes + (rank < missing[:, np.newaxis])
    return shared

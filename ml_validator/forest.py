"""A forest of decision trees in integers.

The nodes of a tree stand in breadth-first order, both children of a split side by side. The order
alone says where the children are: those of the k-th split of a tree (k from 0) are its nodes
2k + 1 and 2k + 2. So no index is stored that could point outside or back, and one tree has exactly
one encoding. docs/adr/0005-integer-forest.md.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_validator.errors import MalformedArtifact
from ml_validator.verdicts import TREE_VOTES, scores_ppm

LEAF: Final = -1
"""What stands in `feature` for a leaf."""

TREES_MAX: Final = 1024
NODES_MAX: Final = 2**19
"""Of all trees together; more are refused, before anything is allocated for them."""

DEPTH_MAX: Final = 256
"""Splits on the way to a leaf. Trees that are trained stay far below; one that is a chain of all
nodes would keep a miner's detector busy for seconds with every block, and for one to load it."""

SATURATION: Final = 2**31 - 1
"""Inputs above are read as this value. Thresholds stay below it, so that no comparison changes."""

_BLOCK_ROWS: Final = 128
"""Rows that go down the trees together: their working arrays stay in the processor's cache."""

_LEVELS_AT_ONCE: Final = 6
"""Levels between two looks at which rows have arrived: a mean leaf is 10 deep, the last 36."""


class Forest:
    """Trees that share out `TREE_VOTES` votes each.

    Parameters
    ----------
    sizes : ndarray of shape (n_trees,), int32
        Nodes of each tree: odd, at least 1.
    feature : ndarray of shape (n_nodes,), int16
        Column that a split compares; `LEAF` in a leaf.
    value : ndarray of shape (n_nodes,), int32
        In a split the threshold, in [0, SATURATION): a row goes left where its column is not
        above it. In a leaf the votes against normal, in [0, TREE_VOTES].
    column_count : int
        Length of the rows.

    Raises
    ------
    MalformedArtifact
        The arrays are not a forest.
    """

    def __init__(
        self,
        *,
        sizes: npt.NDArray[np.int32],
        feature: npt.NDArray[np.int16],
        value: npt.NDArray[np.int32],
        column_count: int,
    ) -> None:
        _check_values(sizes, feature, value, column_count)
        self.sizes = sizes
        self.feature = feature
        self.value = value
        self.column_count = column_count
        leaf = feature == LEAF
        self._leaf = leaf
        self._roots = (np.cumsum(sizes, dtype=np.int64) - sizes).astype(np.intp)
        left = _left_children(sizes, self._roots, leaf)
        # A leaf is its own left child and no input is above its threshold, so that rows which
        # have arrived stay where they are while others go on.
        self._left = np.where(leaf, np.arange(len(leaf)), left).astype(np.intp)
        self._column = np.where(leaf, 0, feature).astype(np.intp)
        self._threshold = np.where(leaf, SATURATION, value).astype(np.int32)
        self._votes = np.where(leaf, value, 0).astype(np.int64)
        self.depth_max = self._measure_depth()
        for array in (sizes, feature, value):
            array.setflags(write=False)

    @property
    def tree_count(self) -> int:
        """How many trees vote."""
        return len(self.sizes)

    @property
    def node_count(self) -> int:
        """Splits and leaves of all trees."""
        return len(self.feature)

    def first(self, count: int) -> "Forest":
        """Return the forest of the first `count` trees."""
        stop = int(self.sizes[:count].sum())
        return Forest(
            sizes=self.sizes[:count].copy(),
            feature=self.feature[:stop].copy(),
            value=self.value[:stop].copy(),
            column_count=self.column_count,
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what an artefact holds of the forest."""
        return {"sizes": self.sizes, "feature": self.feature, "value": self.value}

    def figures(self) -> dict[str, int]:
        """Return the forest's size for a manifest."""
        return {"trees": self.tree_count, "nodes": self.node_count, "depth_max": self.depth_max}

    def scores_ppm(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how suspicious each row is: its votes, rounded to parts per million."""
        return scores_ppm(self.votes(rows), self.tree_count)

    def leaves(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return the leaf that each row reaches in each tree.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, column_count), int64, 0 or more

        Returns
        -------
        ndarray of shape (n_rows, tree_count), intp
            Indices into `feature` and `value`.
        """
        if rows.ndim != 2 or rows.shape[1] != self.column_count:
            raise ValueError(f"rows of shape {rows.shape}, not (n, {self.column_count})")
        reached = np.empty((len(rows), self.tree_count), np.intp)
        for start in range(0, len(rows), _BLOCK_ROWS):
            stop = start + _BLOCK_ROWS
            reached[start:stop] = self._descend(saturated(rows[start:stop]))
        return reached

    def votes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the votes against normal of all trees together.

        A row's votes depend on nothing but the row: not on the batch it comes in.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, column_count), int64, 0 or more

        Returns
        -------
        ndarray of shape (n_rows,), int64, in [0, tree_count × TREE_VOTES]
        """
        total: npt.NDArray[np.int64] = self._votes[self.leaves(rows)].sum(axis=1, dtype=np.int64)
        return total

    def _descend(self, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
        flat = rows.reshape(-1)
        node = np.tile(self._roots, len(rows))
        start = np.repeat(np.arange(len(rows)) * self.column_count, self.tree_count)
        reached = np.empty(len(node), np.intp)
        under_way = np.arange(len(node))
        while len(under_way):
            for _ in range(_LEVELS_AT_ONCE):
                # `take` does what an index in brackets does, in four fifths of the time.
                value = flat.take(start + self._column.take(node))
                node = self._left.take(node) + (value > self._threshold.take(node))
            reached[under_way] = node
            going_on = np.flatnonzero(~self._leaf.take(node))
            under_way = under_way.take(going_on)
            node, start = node.take(going_on), start.take(going_on)
        return reached.reshape(len(rows), self.tree_count)

    def _measure_depth(self) -> int:
        level = self._roots[~self._leaf[self._roots]]
        depth = 0
        while len(level):
            depth += 1
            if depth > DEPTH_MAX:
                raise MalformedArtifact("feature", f"a tree more than {DEPTH_MAX} deep")
            children = np.concatenate((self._left[level], self._left[level] + 1))
            level = children[~self._leaf[children]]
        return depth


def saturated(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return `rows` with everything above `SATURATION` lowered to it."""
    lowered: npt.NDArray[np.int32] = np.minimum(rows, SATURATION).astype(np.int32)
    return lowered


def _check_values(
    sizes: npt.NDArray[np.int32],
    feature: npt.NDArray[np.int16],
    value: npt.NDArray[np.int32],
    column_count: int,
) -> None:
    for name, array, dtype in (
        ("sizes", sizes, np.int32),
        ("feature", feature, np.int16),
        ("value", value, np.int32),
    ):
        if array.dtype != dtype or array.ndim != 1:
            raise MalformedArtifact(name, f"{array.ndim} dimensions of {array.dtype}")
    if not 1 <= len(sizes) <= TREES_MAX:
        raise MalformedArtifact("sizes", f"{len(sizes)} trees, not 1 to {TREES_MAX}")
    if not 1 <= len(feature) <= NODES_MAX:
        raise MalformedArtifact("feature", f"{len(feature)} nodes, not 1 to {NODES_MAX}")
    if len(value) != len(feature):
        raise MalformedArtifact("value", f"{len(value)} values of {len(feature)} nodes")
    if (sizes < 1).any() or int(sizes.sum(dtype=np.int64)) != len(feature):
        raise MalformedArtifact("sizes", f"do not add up to {len(feature)} nodes")
    if (feature < LEAF).any() or (feature >= column_count).any():
        raise MalformedArtifact("feature", f"a column outside 0 to {column_count - 1}")
    leaf = feature == LEAF
    if (value < 0).any() or (value[leaf] > TREE_VOTES).any():
        raise MalformedArtifact("value", f"votes outside 0 to {TREE_VOTES}, or a value below 0")
    if (value[~leaf] >= SATURATION).any():
        raise MalformedArtifact("value", f"a threshold not below {SATURATION}")


def _left_children(
    sizes: npt.NDArray[np.int32], roots: npt.NDArray[np.intp], leaf: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return the left child of each split, and of each leaf a value without meaning."""
    splits = (~leaf).astype(np.int64)
    before = np.cumsum(splits) - splits
    first = np.repeat(roots, sizes)
    rank = before - before[first]
    place = np.arange(len(leaf)) - first
    counts = np.add.reduceat(splits, roots)
    if (sizes != 2 * counts + 1).any():
        raise MalformedArtifact("feature", "a tree without one leaf more than splits")
    # Every node but the root is the child of an earlier one, else a part hangs in the air.
    if (2 * rank < place).any():
        raise MalformedArtifact("feature", "a node that no split leads to")
    children: npt.NDArray[np.int64] = first + 2 * rank + 1
    return children

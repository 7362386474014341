"""Valid values that a test changes in the one place it is about."""

import numpy as np
from hypothesis import strategies as st

from chain.payloads import Flow
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.forest import LEAF, SATURATION, Forest
from ml_validator.verdicts import TREE_VOTES

WIDTH = len(NSL_KDD_SCHEMA.integers)


def make_flow(
    *, schema=NSL_KDD_SCHEMA.digest, categories=("tcp", "http", "SF"), **columns: int
) -> Flow:
    return Flow(
        schema=schema,
        integers=tuple(columns.get(column.name, 0) for column in NSL_KDD_SCHEMA.integers),
        categories=categories,
    )


def make_forest(*trees: list[tuple[int, int]], column_count: int = 4) -> Forest:
    """Build a forest from the (feature, value) pairs of each tree's nodes."""
    nodes = [node for tree in trees for node in tree]
    return Forest(
        sizes=np.array([len(tree) for tree in trees], np.int32),
        feature=np.array([feature for feature, _ in nodes], np.int16),
        value=np.array([value for _, value in nodes], np.int32),
        column_count=column_count,
    )


def walk(tree: list[tuple[int, int]], row: list[int]) -> int:
    """Return the votes of one tree, step by step as docs/spec/ml.md has it."""
    place = 0
    while tree[place][0] != LEAF:
        feature, threshold = tree[place]
        rank = sum(1 for other, _ in tree[:place] if other != LEAF)
        place = 2 * rank + (1 if row[feature] <= threshold else 2)
    return tree[place][1]


@st.composite
def trees(draw, column_count: int = 4) -> list[tuple[int, int]]:
    """Trees in breadth-first order, of up to 15 splits."""
    nodes: list[tuple[int, int]] = []
    waiting, splits = 1, 0
    while waiting:
        waiting -= 1
        if splits < 15 and draw(st.booleans()):
            splits += 1
            waiting += 2
            threshold = st.integers(0, 8) | st.integers(0, SATURATION - 1)
            nodes.append((draw(st.integers(0, column_count - 1)), draw(threshold)))
        else:
            nodes.append((LEAF, draw(st.integers(0, TREE_VOTES))))
    return nodes


flows = st.builds(
    Flow,
    schema=st.just(NSL_KDD_SCHEMA.digest),
    integers=st.tuples(*[st.integers(0, 600) | st.integers(0, 2**63 - 1)] * WIDTH),
    categories=st.tuples(
        st.sampled_from(["tcp", "udp", "sctp"]),
        st.sampled_from(["http", "private", "mqtt", ""]),
        st.sampled_from(["SF", "S0", "??"]),
    ),
)

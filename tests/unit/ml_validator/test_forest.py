import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_validator.errors import MalformedArtifact
from ml_validator.forest import DEPTH_MAX, LEAF, NODES_MAX, SATURATION, TREES_MAX, Forest
from ml_validator.verdicts import TREE_VOTES
from tests.unit.ml_validator.helpers import make_forest, trees, walk

STUMP = [(0, 10), (LEAF, 100), (LEAF, 9000)]


def test_a_row_goes_left_up_to_the_threshold_and_right_above():
    forest = make_forest(STUMP)
    rows = np.array([[10, 0, 0, 0], [11, 0, 0, 0], [0, 99, 99, 99]])
    assert forest.votes(rows).tolist() == [100, 9000, 100]
    assert (forest.tree_count, forest.node_count, forest.depth_max) == (1, 3, 1)


def test_a_lone_leaf_votes_the_same_for_all():
    forest = make_forest([(LEAF, 7)], STUMP)
    assert forest.votes(np.array([[10, 0, 0, 0], [11, 0, 0, 0]])).tolist() == [107, 9007]


def test_no_rows_have_no_votes():
    assert make_forest(STUMP).votes(np.empty((0, 4), np.int64)).tolist() == []


def test_inputs_above_the_saturation_compare_as_they_should():
    forest = make_forest([(0, SATURATION - 1), (LEAF, 0), (LEAF, 1)])
    values = [SATURATION - 1, SATURATION, SATURATION + 1, 2**32, 2**63 - 1]
    rows = np.zeros((len(values), 4), np.int64)
    rows[:, 0] = values
    assert forest.votes(rows).tolist() == [0, 1, 1, 1, 1]


def test_a_leaf_is_not_left_by_the_largest_input():
    rows = np.full((1, 4), 2**63 - 1)
    deep = [(0, 1), (LEAF, 1), (1, 1), (LEAF, 2), (LEAF, 3)]
    assert make_forest(deep, STUMP).votes(rows).tolist() == [9003]


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="shape"):
        make_forest(STUMP).votes(np.zeros((1, 5), np.int64))


@given(
    st.lists(trees(), min_size=1, max_size=4),
    st.lists(
        st.lists(st.integers(0, 9) | st.integers(0, 2**63 - 1), min_size=4, max_size=4), max_size=5
    ),
)
def test_votes_are_those_of_walking_each_tree(forest, rows):
    votes = make_forest(*forest).votes(np.array(rows, np.int64).reshape(-1, 4))
    assert votes.tolist() == [sum(walk(tree, row) for tree in forest) for row in rows]


def test_votes_do_not_depend_on_the_batch():
    rng = np.random.default_rng(5)
    forest = make_forest(
        [(0, 50), (1, 30), (2, 70), (LEAF, 1), (3, 10), (LEAF, 2), (LEAF, 3), (LEAF, 4), (LEAF, 5)],
        STUMP,
    )
    rows = rng.integers(0, 100, (300, 4))
    whole = forest.votes(rows).tolist()
    for size in (1, 2, 7, 127, 128, 129, 256, 299):
        parts = [forest.votes(rows[start : start + size]) for start in range(0, 300, size)]
        assert np.concatenate(parts).tolist() == whole


@pytest.mark.parametrize(
    ("nodes", "where"),
    [
        ([(LEAF, TREE_VOTES + 1)], "value"),
        ([(LEAF, -1)], "value"),
        ([(0, -1), (LEAF, 0), (LEAF, 0)], "value"),
        ([(0, SATURATION), (LEAF, 0), (LEAF, 0)], "value"),
        ([(4, 0), (LEAF, 0), (LEAF, 0)], "feature"),
        ([(-2, 0), (LEAF, 0), (LEAF, 0)], "feature"),
        ([(0, 0), (LEAF, 0)], "feature"),
        ([(0, 0), (0, 0), (LEAF, 0)], "feature"),
        ([(LEAF, 0), (LEAF, 0)], "feature"),
        ([(LEAF, 0), (0, 0), (LEAF, 0)], "feature"),
        ([(0, 0), (LEAF, 0), (LEAF, 0), (0, 0), (LEAF, 0)], "feature"),
    ],
)
def test_nodes_that_are_no_tree_are_refused(nodes, where):
    with pytest.raises(MalformedArtifact) as caught:
        make_forest(nodes)
    assert caught.value.where == where


def arrays(**changes):
    parts = {
        "sizes": np.array([3], np.int32),
        "feature": np.array([0, LEAF, LEAF], np.int16),
        "value": np.array([5, 1, 2], np.int32),
    }
    return parts | changes


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"sizes": np.array([2], np.int32)}, "sizes"),
        ({"sizes": np.array([4, -1], np.int32)}, "sizes"),
        ({"sizes": np.array([3, 0], np.int32)}, "sizes"),
        ({"sizes": np.array([], np.int32)}, "sizes"),
        ({"sizes": np.ones(TREES_MAX + 1, np.int32)}, "sizes"),
        ({"sizes": np.array([3], np.int64)}, "sizes"),
        ({"value": np.array([5, 1], np.int32)}, "value"),
        ({"value": np.array([5, 1, 2], np.float32)}, "value"),
        ({"feature": np.array([[0, LEAF, LEAF]], np.int16)}, "feature"),
        ({"feature": np.zeros(NODES_MAX + 1, np.int16)}, "feature"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, where):
    with pytest.raises(MalformedArtifact) as caught:
        Forest(**arrays(**changes), column_count=4)
    assert caught.value.where == where


def chain(splits: int) -> list[tuple[int, int]]:
    """Return a tree that is as deep as it has splits: each has a leaf and the next split."""
    return [(0, splits), *[(LEAF, 1), (0, 5)] * (splits - 1), (LEAF, 1), (LEAF, 2)]


def test_a_tree_has_a_bounded_depth():
    assert make_forest(chain(DEPTH_MAX)).depth_max == DEPTH_MAX
    with pytest.raises(MalformedArtifact, match="deep"):
        make_forest(STUMP, chain(DEPTH_MAX + 1))


def test_a_tree_may_not_borrow_nodes_of_the_next():
    with pytest.raises(MalformedArtifact):
        make_forest([(LEAF, 0)], [(0, 0), (LEAF, 0)], [(LEAF, 0), (LEAF, 0), (LEAF, 0)])


@given(trees(), st.data())
def test_no_change_of_a_node_kind_is_accepted(tree, data):
    # One leaf more or less leaves a child too many or one without a parent.
    index = data.draw(st.integers(0, len(tree) - 1))
    changed = list(tree)
    changed[index] = (0, 1) if tree[index][0] == LEAF else (LEAF, 1)
    with pytest.raises(MalformedArtifact):
        make_forest(changed)


def test_the_arrays_of_a_forest_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        make_forest(STUMP).value[0] = 1

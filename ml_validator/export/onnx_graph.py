"""A model as an ONNX graph of integers.

The graph reads encoded rows and gives score and label. Sums, products and roundings are those of
the model, in 64-bit integers. Trees are the one operator that ONNX has only in floating point; its
inputs, thresholds and votes are integers that doubles hold exactly, and their sums stay below
`EXACT_IN_FLOAT`, so that a runtime that computes as the operator says gives equal scores. ONNX
Runtime on a CPU does; of others that is not known, and nothing on a chain rests on it.
docs/spec/ml.md, section "Exports".
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ml_validator.artifact import Artifact
from ml_validator.forest import LEAF, SATURATION, TREES_MAX, Forest
from ml_validator.linear import EVEN_PPM, FRACTION_BITS, Linear
from ml_validator.verdicts import SCORE_PPM_MAX, TREE_VOTES

OPSET: Final = 17
OPSET_ML: Final = 3
IR_VERSION: Final = 8
"""Old enough for runtimes of the last years."""

EXACT_IN_FLOAT: Final = 2**24
"""The operator gives its sums as 32-bit floats, which are exact up to here."""
assert TREES_MAX * TREE_VOTES < EXACT_IN_FLOAT, "the votes of every forest are exact"

ROWS: Final = "rows"
SCORE: Final = "score_ppm"
LABEL: Final = "anomalous"


def to_onnx(artifact: Artifact, *, name: str) -> bytes:
    """Write a model as ONNX.

    The input ``rows`` is int64 of shape (n, columns), as a feature schema encodes flows; outputs
    are ``score_ppm``, int64, and ``anomalous``, bool, both of shape (n,).

    Parameters
    ----------
    name : str
        For people.
    """
    graph = _Graph()
    if isinstance(artifact.model, Forest):
        score = _forest(graph, artifact.model)
    else:
        score = _linear(graph, artifact.model)
    zero = graph.constant("zero", [0])
    lowest = graph.node("ReduceMin", [ROWS], axes=[1], keepdims=0)
    refused = graph.node("Less", [lowest, zero])
    highest = graph.constant("highest", [SCORE_PPM_MAX])
    graph.node("Where", [refused, highest, score], output=SCORE)
    threshold = graph.constant("threshold", [artifact.threshold_ppm])
    graph.node("GreaterOrEqual", [SCORE, threshold], output=LABEL)
    columns = artifact.model.column_count
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            name,
            [helper.make_tensor_value_info(ROWS, TensorProto.INT64, ["n", columns])],
            [
                helper.make_tensor_value_info(SCORE, TensorProto.INT64, ["n"]),
                helper.make_tensor_value_info(LABEL, TensorProto.BOOL, ["n"]),
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)],
        ir_version=IR_VERSION,
        producer_name="securenet",
    )
    helper.set_model_props(
        model, {"model": artifact.digest.hex(), "schema": artifact.schema.digest.hex()}
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Graph:
    """Nodes and constants as they are added; each node has one output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: Sequence[int]) -> str:
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], *, output: str = "", **attributes: Any
    ) -> str:
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def _forest(graph: _Graph, forest: Forest) -> str:
    """Add the trees; return the score."""
    tree = np.repeat(np.arange(forest.tree_count), forest.sizes)
    first = np.repeat(np.cumsum(forest.sizes) - forest.sizes, forest.sizes)
    leaf = forest.feature == LEAF
    splits = np.cumsum(~leaf) - ~leaf
    node = np.arange(forest.node_count) - first
    left = np.where(leaf, 0, 2 * (splits - splits[first]) + 1)
    saturation = graph.constant("saturation", [SATURATION])
    rows = graph.node("Cast", [graph.node("Min", [ROWS, saturation])], to=TensorProto.DOUBLE)
    votes = graph.node(
        "TreeEnsembleRegressor",
        [rows],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        nodes_treeids=tree.tolist(),
        nodes_nodeids=node.tolist(),
        nodes_featureids=np.where(leaf, 0, forest.feature).tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values_as_tensor=_doubles("nodes_values", np.where(leaf, 0, forest.value)),
        nodes_truenodeids=left.tolist(),
        nodes_falsenodeids=np.where(leaf, 0, left + 1).tolist(),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=node[leaf].tolist(),
        target_ids=np.zeros(int(leaf.sum()), np.int64).tolist(),
        target_weights_as_tensor=_doubles("target_weights", forest.value[leaf]),
    )
    whole = graph.node("Cast", [votes], to=TensorProto.INT64)
    flat = graph.node("Reshape", [whole, graph.constant("flat", [-1])])
    million = graph.constant("million", [SCORE_PPM_MAX])
    parts = graph.constant("parts", [forest.tree_count * TREE_VOTES])
    return graph.node("Div", [graph.node("Mul", [flat, million]), parts])


def _linear(graph: _Graph, model: Linear) -> str:
    """Add the weighted sum; return the score."""
    cap = graph.constant("cap", model.cap.tolist())
    weight = graph.constant("weight", model.weight.tolist())
    # Not a ReduceSum: ONNX Runtime adds 64-bit integers as doubles there.
    weighed = graph.node("MatMul", [graph.node("Min", [ROWS, cap]), weight])
    margin = graph.node("Add", [weighed, graph.constant("bias", model.bias.tolist())])
    # Integer division of ONNX rounds towards 0; without the rest there is nothing to round.
    unit = graph.constant("unit", [2**FRACTION_BITS])
    whole = graph.node("Sub", [margin, graph.node("Mod", [margin, unit])])
    score = graph.node(
        "Add", [graph.node("Div", [whole, unit]), graph.constant("even", [EVEN_PPM])]
    )
    raised = graph.node("Max", [score, graph.constant("lowest", [0])])
    return graph.node("Min", [raised, graph.constant("top", [SCORE_PPM_MAX])])


def _doubles(name: str, values: np.ndarray[Any, Any]) -> Any:
    return numpy_helper.from_array(values.astype(np.float64), name)

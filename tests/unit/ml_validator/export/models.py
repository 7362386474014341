"""Models at the edges of what an artefact can be, over a schema of a few columns."""

import numpy as np

from ml_validator.artifact import Artifact
from ml_validator.bundled import BUNDLED_NAMES, bundled_model
from ml_validator.features import CategoricalColumn, FeatureSchema, IntegerColumn
from ml_validator.forest import LEAF, SATURATION
from ml_validator.linear import FRACTION_BITS, Linear
from ml_validator.verdicts import TREE_VOTES
from tests.unit.ml_validator.helpers import make_forest


def make_schema(integers: int = 2, categories: tuple[tuple[str, ...], ...] = (("a", "b"),)):
    return FeatureSchema(
        name="toy",
        integers=tuple(IntegerColumn(name=f"i{n}", unit="count", scale=1) for n in range(integers)),
        categories=tuple(
            CategoricalColumn(name=f"c{n}", values=values) for n, values in enumerate(categories)
        ),
    )


def make_artifact(*trees: list[tuple[int, int]], schema: FeatureSchema | None = None) -> Artifact:
    schema = schema or make_schema()
    return Artifact(
        model=make_forest(*trees, column_count=schema.column_count),
        schema=schema,
        threshold_ppm=500_000,
    )


def make_linear(
    weight: tuple[int, ...], cap: tuple[int, ...], bias: int, schema: FeatureSchema | None = None
) -> Artifact:
    return Artifact(
        model=Linear(
            weight=np.array(weight, np.int64),
            cap=np.array(cap, np.int32),
            bias=np.array([bias], np.int64),
            column_count=len(weight),
        ),
        schema=schema or make_schema(),
        threshold_ppm=500_001,
    )


UNIT = 2**FRACTION_BITS
STUMP = [(0, 10), (LEAF, 1), (LEAF, TREE_VOTES)]
DEEP = [(0, 7), (2, 0), (1, 32_768), (LEAF, 3), (LEAF, 4), (3, 0), (LEAF, 5), (LEAF, 6), (LEAF, 7)]
HIGH = [(1, SATURATION - 1), (0, 32_767), (LEAF, 9_999), (LEAF, 0), (LEAF, 2_500)]

MODELS = {
    **{name: bundled_model(name)[0] for name in BUNDLED_NAMES},
    "a lone leaf": make_artifact([(LEAF, 7)]),
    "trees of all sizes": make_artifact([(LEAF, 7)], DEEP, STUMP, HIGH, [(LEAF, 10_000)]),
    "many trees": make_artifact(*[DEEP, HIGH, STUMP] * 60),
    "no categories": make_artifact(STUMP, HIGH, schema=make_schema(2, ())),
    "no integers": make_artifact(
        [(1, 0), (LEAF, 1), (LEAF, 9_000)], schema=make_schema(0, (("a",), ("a", "b")))
    ),
    "categories without values": make_artifact(
        [(0, 0), (LEAF, 1), (LEAF, 9_000)], schema=make_schema(0, ((), ("a",), ()))
    ),
    "a margin near both ends": make_linear(
        (2**52, -(2**52), 3, -5), (2**8, 2**8, 1, 1), -(2**60) - 1
    ),
    "a margin that rounds": make_linear((1, -1, UNIT // 2, -UNIT), (9, 9, 1, 1), 0),
    "weights that never count": make_linear((-(2**63), UNIT, -(2**63), 2**62), (0, 5, 0, 0), 7),
    "a linear model of numbers": make_linear((UNIT, -UNIT), (9, 9), 0, make_schema(2, ())),
    "a linear model of categories without values": make_linear(
        (UNIT,), (1,), 0, make_schema(0, ((), ("a",), ()))
    ),
    "a linear model of names": make_linear(
        (UNIT, -3 * UNIT, 1), (1, 1, 0), 5, make_schema(0, (("a",), ("a", "b")))
    ),
}

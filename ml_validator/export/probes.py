"""Flows that show whether an export judges as the model does.

Every value that a model compares with is met, and the one above it, and the ends of the range of
integers, beyond it too.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from chain.payloads import Flow
from ml_validator.artifact import Artifact
from ml_validator.detector import Detector
from ml_validator.features import INTEGER_MAX
from ml_validator.forest import LEAF, SATURATION, Forest
from ml_validator.verdicts import SCORE_PPM_MAX

UNREADABLE_PPM: Final = SCORE_PPM_MAX
"""Score of a flow with an integer below 0: what a miner's verdict says of one."""

UNKNOWN: Final = ""
"""A category that no schema lists."""

_ENDS: Final = (0, 1, SATURATION - 1, SATURATION, SATURATION + 1, INTEGER_MAX)
_BELOW: Final = (-1, -(2**31), -(2**63))
_WILD_PPM: Final = 20_000
"""Share of values drawn from `_ENDS`, of flows with one from `_BELOW`."""


def probing_flows(artifact: Artifact, *, count: int, seed: int) -> list[Flow]:
    """Return `count` flows at and around the values that the model compares with."""
    random = np.random.default_rng(seed)
    schema = artifact.schema
    columns = []
    for place in range(len(schema.integers)):
        around = np.array(_values_of(artifact, place), np.int64)
        drawn = random.choice(around, count)
        wild = random.random(count) < _WILD_PPM / 1e6
        columns.append(np.where(wild, random.choice(np.array(_ENDS, np.int64), count), drawn))
    integers = np.array(columns, np.int64).reshape(len(columns), count).T
    if columns:
        spoilt = np.flatnonzero(random.random(count) < _WILD_PPM / 1e6)
        where = random.integers(len(columns), size=len(spoilt))
        integers[spoilt, where] = random.choice(np.array(_BELOW, np.int64), len(spoilt))
    categories = [
        random.choice(np.array([*category.values, UNKNOWN]), count).tolist()
        for category in schema.categories
    ]
    return [
        Flow(
            schema=schema.digest,
            integers=tuple(integers[index].tolist()),
            categories=tuple(values[index] for values in categories),
        )
        for index in range(count)
    ]


def expected_scores(artifact: Artifact, flows: Sequence[Flow]) -> list[int]:
    """Return what the model says of `flows`, unreadable ones among them."""
    readable = [artifact.schema.fits(flow) for flow in flows]
    judged = iter(
        Detector(artifact).judge([flow for flow, fits in zip(flows, readable, strict=True) if fits])
    )
    return [next(judged) if fits else UNREADABLE_PPM for fits in readable]


def _values_of(artifact: Artifact, column: int) -> list[int]:
    model = artifact.model
    if isinstance(model, Forest):
        compared = model.value[(model.feature != LEAF) & (model.feature == column)]
    else:
        compared = model.cap[column : column + 1]
    near = {int(value) + step for value in compared for step in (0, 1)}
    return sorted(near | {0})

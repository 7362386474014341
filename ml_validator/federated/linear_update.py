"""Federated rounds of linear models: which numbers an update holds, and how they are trained.

A linear model is a list of real numbers: for each column, in the order of its feature schema, the
log odds that the column adds at its cap, and at the end the log odds that every row starts with. An
update is what a step of training has added to the base model, on average. Caps and schema are the
base's, so nobody has to tell anything of its data for all to mean the same by a number.
docs/spec/aggregation.md, section 8.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from ml_validator.errors import UntrainableData
from ml_validator.features import FeatureSchema
from ml_validator.federated.fixed_point import Floats
from ml_validator.labelled import Labelled
from ml_validator.linear import FRACTION_BITS, PPM_PER_LOGIT, Linear

BATCH: Final = 64
VALUES_MAX: Final = 2**24
"""Rows times columns that a participant trains on: 64 MiB, twice while they are read."""

_SCALE: Final = PPM_PER_LOGIT * 2**FRACTION_BITS
_PART: Final = 2_000
"""Rows that are read at a time."""

Rows = npt.NDArray[np.float32]
Answers = npt.NDArray[np.float32]


def parameter_count(model: Linear) -> int:
    """Return how many parameters an update of this model has."""
    return model.column_count + 1


def to_parameters(model: Linear) -> Floats:
    """Return a model as a list of real numbers."""
    numbers = np.append(model.weight * _width(model), model.bias.astype(np.float64)) / _SCALE
    return np.asarray(numbers, np.float64)


def to_model(parameters: Floats, *, base: Linear) -> Linear:
    """Return the model of a list of numbers, with the caps of `base`.

    Raises
    ------
    MalformedArtifact
        The numbers are too large for fixed point.
    """
    weight = np.rint(parameters[:-1] * _SCALE / _width(base))
    bias = np.rint(parameters[-1:] * _SCALE)
    # A sum that leaves 64 bits is refused by the model; what does not even fit is cut to that.
    limit = 2.0**62
    return Linear(
        weight=np.clip(weight, -limit, limit).astype(np.int64),
        cap=base.cap.copy(),
        bias=np.clip(bias, -limit, limit).astype(np.int64),
        column_count=base.column_count,
    )


def read_rows(
    records: Iterable[Labelled], *, base: Linear, schema: FeatureSchema
) -> tuple[Rows, Answers]:
    """Turn labelled flows into rows, a part of them at a time.

    Returns
    -------
    rows : ndarray of shape (n, column_count), float32, in [0, 1]: shares of the caps
    answers : ndarray of shape (n,), float32, 1 for attacks and 0 for others

    Raises
    ------
    UntrainableData
        There are none, or more than `VALUES_MAX` values.
    UnknownSchema, InvalidFlow
        A flow is not one that the model reads.
    """
    rows: list[Rows] = []
    answers: list[bool] = []
    for part, flows in _parts(records, schema):
        answers += [record.is_attack for record in part]
        if len(answers) * base.column_count > VALUES_MAX:
            raise UntrainableData(
                f"more than {VALUES_MAX // base.column_count} rows: give a participant fewer"
            )
        rows.append((np.minimum(flows, base.cap) / _width(base)).astype(np.float32))
    if not answers:
        raise UntrainableData("there are no rows to train on")
    return np.concatenate(rows), np.array(answers, np.float32)


def train(
    base: Linear,
    rows: Rows,
    answers: Answers,
    *,
    steps: int,
    rate: float,
    random: np.random.Generator,
) -> Floats:
    """Return an update: what each of `steps` steps of gradient descent from `base` has added to it.

    Logistic regression; each step is on `BATCH` rows. It is nobody's business but the participant's
    and need not come out alike on two machines.

    Parameters
    ----------
    rate : float
        The step size.
    """
    start = to_parameters(base)
    found = start.copy()
    for _ in range(steps):
        chosen = random.integers(0, len(rows), BATCH)
        batch = rows[chosen].astype(np.float64)
        margins = np.clip(batch @ found[:-1] + found[-1], -60.0, 60.0)
        error = 1.0 / (1.0 + np.exp(-margins)) - answers[chosen]
        found[:-1] -= rate * (error @ batch) / BATCH
        found[-1] -= rate * error.mean()
    return (found - start) / steps


def _parts(
    records: Iterable[Labelled], schema: FeatureSchema
) -> Iterator[tuple[Sequence[Labelled], npt.NDArray[np.int64]]]:
    remaining = iter(records)
    first = 0
    while part := list(islice(remaining, _PART)):
        yield part, schema.rows([record.flow for record in part], first_index=first)
        first += len(part)


def _width(model: Linear) -> Floats:
    """Return what a column counts at most; 1 for one that counts nothing."""
    return np.maximum(model.cap, 1).astype(np.float64)

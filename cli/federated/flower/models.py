"""A model's named arrays as one list of numbers, and back; the same on every machine.

Arrays are taken in the order of their names, each row by row.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from chain.blobs import blob_digest
from chain.federated.records import PARAMETERS_MAX
from chain.types import Digest
from cli.errors import BadInput
from ml_validator.federated.fixed_point import Floats

Arrays = Mapping[str, npt.NDArray[Any]]


def flattened(arrays: Arrays) -> Floats:
    """Return all numbers of a model.

    Raises
    ------
    BadInput
        There are none, more than `PARAMETERS_MAX`, or some that are no real numbers.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise BadInput(
                f"array {name[:80]!r} holds {array.dtype}, not numbers",
                "keep it out of the arrays that Flower sends",
            )
    count = sum([array.size for array in arrays.values()])
    if not 1 <= count <= PARAMETERS_MAX:
        raise BadInput(
            f"a model of {count} parameters, not 1 to {PARAMETERS_MAX}",
            "let Flower send the layers alone that are trained",
        )
    return np.concatenate([arrays[name].astype(np.float64).ravel() for name in sorted(arrays)])


def base_digest(values: Floats) -> Digest:
    """Return by what a round names the model from which all train."""
    return blob_digest(values.astype("<f8").tobytes())


def difference(before: Arrays, after: Arrays) -> Floats:
    """Return what training has added to a model; raises `BadInput` where the shapes differ."""
    shapes = [{name: array.shape for name, array in arrays.items()} for arrays in (before, after)]
    if shapes[0] != shapes[1]:
        raise BadInput(
            "the trained model has other arrays than the one that was sent",
            "let the ClientApp return all arrays, under their names",
        )
    return flattened(after) - flattened(before)


def moved(base: Arrays, change: Floats) -> dict[str, npt.NDArray[Any]]:
    """Return a model moved by a change, with the names, shapes and types of `base`."""
    values = flattened(base) + change
    found = {}
    start = 0
    for name in sorted(base):
        array = base[name]
        part = values[start : start + array.size].reshape(array.shape)
        found[name] = (part if array.dtype.kind == "f" else np.rint(part)).astype(array.dtype)
        start += array.size
    # In the order in which the framework knows them.
    return {name: found[name] for name in base}

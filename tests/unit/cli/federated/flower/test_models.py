from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from chain.blobs import blob_digest
from chain.federated.records import PARAMETERS_MAX
from cli.errors import BadInput
from cli.federated.flower.models import base_digest, difference, flattened, moved

MODEL: dict[str, npt.NDArray[Any]] = {
    "weight": np.array([[1.5, -2.0], [0.25, 4.0]], np.float32),
    "bias": np.array([7.0], np.float64),
    "batches": np.array(3, np.int64),
}


def test_a_model_is_one_list_in_the_order_of_names():
    assert flattened(MODEL).tolist() == [3.0, 7.0, 1.5, -2.0, 0.25, 4.0]
    assert flattened(dict(reversed(MODEL.items()))).tolist() == flattened(MODEL).tolist()


def test_the_base_is_named_by_its_doubles_in_little_endian():
    assert base_digest(np.array([1.0])) == blob_digest(bytes.fromhex("000000000000f03f"))


def test_a_moved_model_keeps_names_shapes_and_types():
    found = moved(MODEL, np.array([1.4, 0.5, 1.0, 1.0, 1.0, -1.0]))

    assert list(found) == list(MODEL)
    assert {n: (a.shape, a.dtype) for n, a in found.items()} == {
        n: (a.shape, a.dtype) for n, a in MODEL.items()
    }
    assert found["weight"].tolist() == [[2.5, -1.0], [1.25, 3.0]]
    assert found["bias"].tolist() == [7.5]
    assert found["batches"] == 4


def test_a_model_moved_by_a_difference_is_the_other_model():
    other = {name: array + array.dtype.type(1) for name, array in MODEL.items()}

    found = moved(MODEL, difference(MODEL, other))

    assert all((found[name] == other[name]).all() for name in MODEL)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "0 parameters"),
        ({"w": np.zeros(PARAMETERS_MAX + 1, np.float16)}, "1048577 parameters"),
        ({"w": np.array(["x"])}, "not numbers"),
        ({"w": np.array([True])}, "not numbers"),
        ({"w": np.array([1j])}, "not numbers"),
    ],
)
def test_what_is_no_model_is_refused(arrays, said):
    with pytest.raises(BadInput, match=said):
        flattened(arrays)


@pytest.mark.parametrize(
    "after",
    [
        {"weight": MODEL["weight"], "bias": MODEL["bias"]},
        MODEL | {"bias": np.zeros(2)},
        MODEL | {"more": np.zeros(1)},
    ],
)
def test_a_trained_model_of_other_shapes_is_refused(after):
    with pytest.raises(BadInput, match="other arrays"):
        difference(MODEL, after)

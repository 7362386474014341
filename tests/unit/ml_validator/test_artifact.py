import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.blobs import blob_digest
from chain.types import Digest
from ml_validator.artifact import ARTIFACT_SIZE_MAX, Artifact, load_artifact, model_digest
from ml_validator.errors import MalformedArtifact, ModelError, UnknownSchema
from ml_validator.features import (
    NSL_KDD_SCHEMA,
    CategoricalColumn,
    FeatureSchema,
    IntegerColumn,
)
from ml_validator.forest import LEAF, NODES_MAX, TREES_MAX, Forest
from ml_validator.linear import COLUMNS_MAX, MARGIN_MAX, Linear
from tests.unit.ml_validator.helpers import make_forest

STUMP = [(0, 10), (LEAF, 100), (LEAF, 9000)]


def make_artifact(*, threshold_ppm: int = 30_000, tree=STUMP) -> Artifact:
    return Artifact(
        model=make_forest(tree, [(LEAF, 5)], column_count=NSL_KDD_SCHEMA.column_count),
        schema=NSL_KDD_SCHEMA,
        threshold_ppm=threshold_ppm,
    )


def make_linear(*, weight: int = 5, cap: int = 100, bias: int = -7) -> Artifact:
    columns = NSL_KDD_SCHEMA.column_count
    return Artifact(
        model=Linear(
            weight=np.full(columns, weight, np.int64),
            cap=np.full(columns, cap, np.int32),
            bias=np.array([bias], np.int64),
            column_count=columns,
        ),
        schema=NSL_KDD_SCHEMA,
        threshold_ppm=400_000,
    )


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    return safetensors.numpy.load(data)


def test_an_artefact_is_read_back_equal():
    artifact = make_artifact()
    again = load_artifact(artifact.data)
    assert again.data == artifact.data
    assert again.digest == artifact.digest == model_digest(artifact.data)
    assert (again.threshold_ppm, again.schema) == (30_000, NSL_KDD_SCHEMA)
    assert isinstance(again.model, Forest)
    assert again.model.value.tolist() == [10, 100, 9000, 5]
    assert again.model.feature.tolist() == [0, LEAF, LEAF, LEAF]
    assert again.model.sizes.tolist() == [3, 1]


def test_a_linear_artefact_is_read_back_equal():
    artifact = make_linear()
    again = load_artifact(artifact.data)
    assert isinstance(again.model, Linear)
    assert (again.data, again.digest) == (artifact.data, artifact.digest)
    assert again.model.weight.tolist() == [5] * NSL_KDD_SCHEMA.column_count
    assert again.model.cap.tolist() == [100] * NSL_KDD_SCHEMA.column_count
    assert again.model.bias.tolist() == [-7]


def test_the_bytes_of_a_linear_model_are_what_the_safetensors_library_writes():
    artifact = make_linear()
    arrays = {
        **artifact.model.arrays(),
        "threshold_ppm": np.array([artifact.threshold_ppm], np.int32),
        "schema": np.frombuffer(NSL_KDD_SCHEMA.digest, np.uint8),
    }
    assert safetensors.numpy.save(arrays) == artifact.data


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": np.zeros(121, np.int64)},
        {"weight": np.zeros(COLUMNS_MAX + 1, np.int64)},
        {"weight": np.zeros(122, np.int32)},
        {"weight": np.full(122, MARGIN_MAX // 100, np.int64)},
        {"weight": np.full(122, -(2**63), np.int64)},
        {"cap": np.full(122, -1, np.int32)},
        {"cap": np.zeros(123, np.int32)},
        {"bias": np.array([MARGIN_MAX], np.int64)},
        {"bias": np.array([1, 2], np.int64)},
        {"sizes": np.array([1], np.int32)},
    ],
)
def test_other_linear_models_are_refused(changes):
    data = safetensors.numpy.save(arrays_of(make_linear().data) | changes)
    with pytest.raises(MalformedArtifact):
        load_artifact(data)


def test_the_digest_is_that_of_the_blob_by_which_the_model_is_fetched():
    artifact = make_artifact()
    assert artifact.digest == blob_digest(artifact.data)


def test_the_bytes_are_what_the_safetensors_library_writes(small_model):
    arrays = {
        "sizes": small_model.model.sizes,
        "feature": small_model.model.feature,
        "value": small_model.model.value,
        "threshold_ppm": np.array([small_model.threshold_ppm], np.int32),
        "schema": np.frombuffer(NSL_KDD_SCHEMA.digest, np.uint8),
    }
    assert safetensors.numpy.save(arrays) == small_model.data
    read = arrays_of(small_model.data)
    assert read.keys() == arrays.keys()
    assert all((read[name] == arrays[name]).all() for name in arrays)


def test_threshold_and_schema_are_bound_by_the_digest():
    artifact = make_artifact()
    assert make_artifact(threshold_ppm=30_001).digest != artifact.digest
    changed = arrays_of(artifact.data) | {"schema": np.zeros(32, np.uint8)}
    assert model_digest(safetensors.numpy.save(changed)) != artifact.digest


def test_a_model_of_an_unknown_schema_is_refused():
    changed = arrays_of(make_artifact().data) | {"schema": np.zeros(32, np.uint8)}
    with pytest.raises(UnknownSchema) as caught:
        load_artifact(safetensors.numpy.save(changed))
    assert caught.value.digest == Digest(bytes(32))


OWN_SCHEMA = FeatureSchema(
    name="office",
    integers=(IntegerColumn(name="bytes", unit="bytes", scale=1),),
    categories=(CategoricalColumn(name="proto", values=("tcp", "udp")),),
)


def make_foreign() -> Artifact:
    return Artifact(
        model=make_forest(STUMP, column_count=OWN_SCHEMA.column_count),
        schema=OWN_SCHEMA,
        threshold_ppm=30_000,
    )


def test_a_model_of_another_schema_brings_it_along():
    artifact = make_foreign()
    again = load_artifact(artifact.data)
    assert again.schema == OWN_SCHEMA
    assert again.digest == artifact.digest
    schema = arrays_of(artifact.data)["schema"].tobytes()
    assert schema == OWN_SCHEMA.digest + OWN_SCHEMA.encode()


@pytest.mark.parametrize(
    "schema",
    [
        OWN_SCHEMA.digest + OWN_SCHEMA.encode()[:-1],
        OWN_SCHEMA.digest + OWN_SCHEMA.encode() + b"\0",
        bytes(32) + OWN_SCHEMA.encode(),
        # What every build knows is named by its digest alone: one model, one encoding.
        NSL_KDD_SCHEMA.digest + NSL_KDD_SCHEMA.encode(),
        NSL_KDD_SCHEMA.digest + OWN_SCHEMA.encode(),
    ],
)
def test_a_schema_that_is_not_the_one_named_is_refused(schema):
    changed = arrays_of(make_foreign().data) | {"schema": np.frombuffer(schema, np.uint8)}
    with pytest.raises(MalformedArtifact) as caught:
        load_artifact(safetensors.numpy.save(changed))
    assert caught.value.where == "schema"


@pytest.mark.parametrize("threshold", [0, -1, 1_000_001])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(MalformedArtifact):
        make_artifact(threshold_ppm=threshold)
    changed = arrays_of(make_artifact().data) | {"threshold_ppm": np.array([threshold], np.int32)}
    with pytest.raises(MalformedArtifact) as caught:
        load_artifact(safetensors.numpy.save(changed))
    assert caught.value.where == "threshold_ppm"


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": np.array([3, 1], np.int64)},
        {"sizes": np.array([[3, 1]], np.int32)},
        {"sizes": np.zeros(0, np.int32)},
        {"sizes": np.ones(TREES_MAX + 1, np.int32)},
        {"feature": np.array([0, -1, -1, -1], np.int32)},
        {"feature": np.array([0, -1, -1], np.int16)},
        {"feature": np.full(NODES_MAX + 1, -1, np.int16)},
        {"feature": np.array([122, -1, -1, -1], np.int16)},
        {"value": np.array([10.0, 100.0, 9000.0, 5.0], np.float32)},
        {"value": np.array([[10], [100], [9000], [5]], np.int32)},
        {"value": np.array([10, 100, 10_001, 5], np.int32)},
        {"threshold_ppm": np.array([1, 2], np.int32)},
        {"threshold_ppm": np.array([30_000], np.int64)},
        {"schema": np.zeros(31, np.uint8)},
        {"extra": np.zeros(1, np.uint8)},
    ],
)
def test_other_arrays_types_and_shapes_are_refused(changes):
    data = safetensors.numpy.save(arrays_of(make_artifact().data) | changes)
    with pytest.raises(MalformedArtifact):
        load_artifact(data)


@pytest.mark.parametrize("name", ["sizes", "feature", "value", "threshold_ppm", "schema"])
def test_a_missing_array_is_refused(name):
    arrays = arrays_of(make_artifact().data)
    del arrays[name]
    with pytest.raises(MalformedArtifact):
        load_artifact(safetensors.numpy.save(arrays))


def test_metadata_is_refused():
    arrays = arrays_of(make_artifact().data)
    with pytest.raises(MalformedArtifact):
        load_artifact(safetensors.numpy.save(arrays, metadata={"author": "x"}))


def with_header(header: bytes) -> bytes:
    data = make_artifact().data
    size = int.from_bytes(data[:8], "little")
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def test_the_same_header_in_another_spelling_is_refused():
    data = make_artifact().data
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size]
    assert load_artifact(with_header(header)).data == data
    for other in (header + b" " * 8, json.dumps(json.loads(header)).encode()):
        with pytest.raises(MalformedArtifact):
            load_artifact(with_header(other))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"[" * 1000,
        b'{"sizes":1,"feature":2}',
        b'{"bias":1,"weight":2}',
        b'{"sizes":{"shape":[]},"feature":{"shape":[]}}',
        b'{"sizes":{"shape":[true]},"feature":{"shape":[4]}}',
        b'{"sizes":{"shape":[2.0]},"feature":{"shape":[4]}}',
        b'{"sizes":{"shape":[99999999999999]},"feature":{"shape":[4]}}',
        b"\xff" * 16,
    ],
)
def test_headers_that_are_none_are_refused(header):
    with pytest.raises(MalformedArtifact):
        load_artifact(with_header(header))


def test_a_file_above_the_bound_is_refused_unread():
    with pytest.raises(MalformedArtifact, match="at most"):
        load_artifact(bytes(ARTIFACT_SIZE_MAX + 1))


def test_the_largest_forest_fits_the_bound():
    feature = [LEAF] * (NODES_MAX - TREES_MAX)
    assert len(make_artifact().data) + 6 * len(feature) + 10 * TREES_MAX < ARTIFACT_SIZE_MAX


@pytest.mark.parametrize("size", range(0, 700, 13))
def test_a_truncated_artefact_is_refused(size):
    data = make_artifact().data
    with pytest.raises(MalformedArtifact):
        load_artifact(data[: min(size, len(data) - 1)])


def test_trailing_bytes_are_refused():
    with pytest.raises(MalformedArtifact, match="too many"):
        load_artifact(make_artifact().data + b"\0")


def test_a_pickle_is_refused():
    with pytest.raises(MalformedArtifact):
        load_artifact(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.")


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_is_refused_or_makes_another_model(data):
    artifact = data.draw(st.sampled_from([make_artifact(), make_linear()]))
    position = data.draw(st.integers(0, len(artifact.data) * 8 - 1))
    changed = bytearray(artifact.data)
    changed[position // 8] ^= 1 << position % 8
    assert model_digest(bytes(changed)) != artifact.digest
    try:
        loaded = load_artifact(bytes(changed))
    except ModelError:
        return
    assert loaded.data == bytes(changed)
    assert loaded.digest != artifact.digest


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_our_own_words(data):
    with pytest.raises(ModelError):
        load_artifact(data)

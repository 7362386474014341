"""A model as canonical bytes, and back.

The bytes are a safetensors file of a few plain arrays without metadata, so that tools of the field
can read it. Which arrays they are says of which family the model is. Threshold and feature schema
are two of them: the digest binds them. The header follows from the family and the lengths of the
arrays, and `load_artifact` accepts that header only; so one model has one encoding, whatever
version of a library is installed. Nothing in it can name code.
docs/spec/ml.md, section "Model artefacts".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from chain.blobs import blob_digest
from chain.types import DIGEST_SIZE, Digest
from ml_validator.errors import InvalidSchema, MalformedArtifact, UnknownSchema
from ml_validator.features import SCHEMA_SIZE_MAX, SCHEMAS, FeatureSchema, decode_schema
from ml_validator.forest import NODES_MAX, TREES_MAX, Forest
from ml_validator.linear import COLUMNS_MAX, Linear
from ml_validator.verdicts import SCORE_PPM_MAX

ARTIFACT_SIZE_MAX: Final = 4 * 1024 * 1024
"""Larger files are refused unread. `NODES_MAX` nodes and `TREES_MAX` trees fit."""

HEADER_SIZE_MAX: Final = 1024
_LENGTH_SIZE: Final = 8
_ALIGNMENT: Final = 8

Model = Forest | Linear
Arrays = Mapping[str, npt.NDArray[Any]]


class _Array(NamedTuple):
    name: str
    dtype: np.dtype[Any]
    count_min: int
    count_max: int


_THRESHOLD: Final = _Array("threshold_ppm", np.dtype("<i4"), 1, 1)
# The digest, and the bytes of a schema that not every build knows.
_SCHEMA: Final = _Array("schema", np.dtype("u1"), DIGEST_SIZE, DIGEST_SIZE + SCHEMA_SIZE_MAX)

# In the order of safetensors: by size of an element, the largest first, then by name.
_LAYOUTS: Final[Mapping[type[Model], tuple[_Array, ...]]] = {
    Forest: (
        _Array("sizes", np.dtype("<i4"), 1, TREES_MAX),
        _THRESHOLD,
        _Array("value", np.dtype("<i4"), 1, NODES_MAX),
        _Array("feature", np.dtype("<i2"), 1, NODES_MAX),
        _SCHEMA,
    ),
    Linear: (
        _Array("bias", np.dtype("<i8"), 1, 1),
        _Array("weight", np.dtype("<i8"), 1, COLUMNS_MAX),
        _Array("cap", np.dtype("<i4"), 1, COLUMNS_MAX),
        _THRESHOLD,
        _SCHEMA,
    ),
}
_TYPE_NAMES: Final = {"<i8": "I64", "<i4": "I32", "<i2": "I16", "|u1": "U8"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Artifact:
    """A model that can judge.

    Parameters
    ----------
    model : Forest or Linear
        What gives the scores.
    schema : FeatureSchema
        What the model reads.
    threshold_ppm : int
        Score from which on a flow is anomalous, in [1, 1_000_000].
    data : bytes
        The canonical bytes.
    digest : Digest
        Their digest: the model's name on the chain.
    """

    model: Model
    schema: FeatureSchema
    threshold_ppm: int
    data: bytes = field(init=False, repr=False)
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.threshold_ppm <= SCORE_PPM_MAX:
            raise MalformedArtifact(
                "threshold_ppm", f"{self.threshold_ppm} is outside 1 to {SCORE_PPM_MAX}"
            )
        data = _encode(self.model, self.schema, self.threshold_ppm)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "digest", model_digest(data))


def model_digest(data: bytes) -> Digest:
    """Return the digest of an artefact's bytes: that of the blob by which it is fetched."""
    return blob_digest(data)


def load_artifact(data: bytes) -> Artifact:
    """Read a model from bytes of any origin.

    Raises
    ------
    MalformedArtifact
        Too large, truncated, with other arrays, types or shapes, or no model.
    UnknownSchema
        The model reads features that this build does not know, and does not say what they are.
    """
    if len(data) > ARTIFACT_SIZE_MAX:
        raise MalformedArtifact("size", f"{len(data)} bytes, at most {ARTIFACT_SIZE_MAX}")
    family, counts = _read_shape(data)
    header = _header(family, counts)
    if data[: len(header)] != header:
        raise MalformedArtifact("header", "not the canonical one of its arrays")
    arrays: dict[str, npt.NDArray[Any]] = {}
    start = len(header)
    for array in _LAYOUTS[family]:
        count = counts[array.name]
        size = count * array.dtype.itemsize
        if len(data) < start + size:
            raise MalformedArtifact(array.name, "truncated")
        arrays[array.name] = np.frombuffer(data, array.dtype, count, start).astype(
            array.dtype.newbyteorder("=")
        )
        start += size
    if len(data) != start:
        raise MalformedArtifact("size", f"{len(data) - start} bytes too many")
    schema = _read_schema(arrays.pop("schema").tobytes())
    threshold_ppm = int(arrays.pop("threshold_ppm")[0])
    artifact = Artifact(
        model=family(**arrays, column_count=schema.column_count),
        schema=schema,
        threshold_ppm=threshold_ppm,
    )
    assert artifact.data == data, "an accepted artefact encodes to the bytes it came from"
    return artifact


def _read_schema(data: bytes) -> FeatureSchema:
    """Return the schema that every build knows by this digest, or the one that comes behind it."""
    digest, own = Digest(data[:DIGEST_SIZE]), data[DIGEST_SIZE:]
    if not own:
        if digest not in SCHEMAS:
            raise UnknownSchema(digest, "model artefact")
        return SCHEMAS[digest]
    try:
        schema = decode_schema(own)
    except InvalidSchema as error:
        raise MalformedArtifact("schema", str(error)) from error
    if schema.digest != digest or digest in SCHEMAS:
        raise MalformedArtifact("schema", "the bytes of another schema, or of a known one")
    return schema


def _encode(model: Model, schema: FeatureSchema, threshold_ppm: int) -> bytes:
    own = b"" if schema.digest in SCHEMAS else schema.encode()
    arrays: Arrays = {
        **model.arrays(),
        "threshold_ppm": np.array([threshold_ppm]),
        "schema": np.frombuffer(schema.digest + own, np.uint8),
    }
    header = _header(type(model), {name: len(array) for name, array in arrays.items()})
    return header + b"".join(
        arrays[array.name].astype(array.dtype).tobytes() for array in _LAYOUTS[type(model)]
    )


def _header(family: type[Model], counts: Mapping[str, int]) -> bytes:
    entries = {}
    start = 0
    for array in _LAYOUTS[family]:
        stop = start + counts[array.name] * array.dtype.itemsize
        entries[array.name] = {
            "dtype": _TYPE_NAMES[array.dtype.str],
            "shape": [counts[array.name]],
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_SIZE, "little") + text


def _read_shape(data: bytes) -> tuple[type[Model], dict[str, int]]:
    """Return family and lengths that the header speaks of; the header is compared afterwards."""
    size = int.from_bytes(data[:_LENGTH_SIZE], "little")
    if size > HEADER_SIZE_MAX or len(data) < _LENGTH_SIZE + size:
        raise MalformedArtifact("header", "truncated, or too long")
    try:
        entries = json.loads(data[_LENGTH_SIZE : _LENGTH_SIZE + size])
        counts = {name: entry["shape"][0] for name, entry in entries.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedArtifact("header", "no safetensors header with our arrays") from error
    families = [
        family
        for family, layout in _LAYOUTS.items()
        if counts.keys() == {array.name for array in layout}
    ]
    if not families:
        raise MalformedArtifact("header", "the arrays of no family of models")
    for array in _LAYOUTS[families[0]]:
        count = counts[array.name]
        if type(count) is not int or not array.count_min <= count <= array.count_max:
            raise MalformedArtifact(
                array.name, f"its length is not {array.count_min} to {array.count_max}"
            )
    return families[0], counts

"""A model as canonical bytes, and back.

The bytes are a safetensors file of five plain arrays without metadata, so that tools of the field
can read it. Threshold and feature schema are two of the arrays: the digest binds them. The header
follows from the number of trees and of nodes, and `load_artifact` accepts that header only; so one
model has one encoding, whatever version of a library is installed. Nothing in it can name code.
docs/spec/ml.md, section "Model artefacts".
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from chain.blobs import blob_digest
from chain.types import DIGEST_SIZE, Digest
from ml_validator.errors import MalformedArtifact, UnknownSchema
from ml_validator.features import SCHEMAS, FeatureSchema
from ml_validator.forest import NODES_MAX, TREES_MAX, Forest
from ml_validator.verdicts import SCORE_PPM_MAX

ARTIFACT_SIZE_MAX: Final = 4 * 1024 * 1024
"""Larger files are refused unread. `NODES_MAX` nodes and `TREES_MAX` trees fit."""

HEADER_SIZE_MAX: Final = 1024
_LENGTH_SIZE: Final = 8
_ALIGNMENT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Artifact:
    """A model that can judge.

    Parameters
    ----------
    forest : Forest
        The trees.
    schema : FeatureSchema
        What the model reads.
    threshold_ppm : int
        Score from which on a flow is anomalous, in [1, 1_000_000].
    data : bytes
        The canonical bytes.
    digest : Digest
        Their digest: the model's name on the chain.
    """

    forest: Forest
    schema: FeatureSchema
    threshold_ppm: int
    data: bytes = field(init=False, repr=False)
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.threshold_ppm <= SCORE_PPM_MAX:
            raise MalformedArtifact(
                "threshold_ppm", f"{self.threshold_ppm} is outside 1 to {SCORE_PPM_MAX}"
            )
        data = _encode(self.forest, self.schema.digest, self.threshold_ppm)
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
        Too large, truncated, with other arrays, types or shapes, or no forest.
    UnknownSchema
        The model reads features that this build does not know.
    """
    if len(data) > ARTIFACT_SIZE_MAX:
        raise MalformedArtifact("size", f"{len(data)} bytes, at most {ARTIFACT_SIZE_MAX}")
    trees, nodes = _read_shape(data)
    header = _header(trees, nodes)
    if data[: len(header)] != header:
        raise MalformedArtifact("header", f"not that of {trees} trees with {nodes} nodes")
    arrays: dict[str, npt.NDArray[Any]] = {}
    start = len(header)
    for name, dtype, count in _layout(trees, nodes):
        size = count * dtype.itemsize
        if len(data) < start + size:
            raise MalformedArtifact(name, "truncated")
        arrays[name] = np.frombuffer(data, dtype, count, start)
        start += size
    if len(data) != start:
        raise MalformedArtifact("size", f"{len(data) - start} bytes too many")
    digest = Digest(arrays["schema"].tobytes())
    if digest not in SCHEMAS:
        raise UnknownSchema(digest, "model artefact")
    schema = SCHEMAS[digest]
    artifact = Artifact(
        forest=Forest(
            sizes=arrays["sizes"].astype(np.int32),
            feature=arrays["feature"].astype(np.int16),
            value=arrays["value"].astype(np.int32),
            column_count=schema.column_count,
        ),
        schema=schema,
        threshold_ppm=int(arrays["threshold_ppm"][0]),
    )
    assert artifact.data == data, "an accepted artefact encodes to the bytes it came from"
    return artifact


def _encode(forest: Forest, schema: Digest, threshold_ppm: int) -> bytes:
    arrays = {
        "sizes": forest.sizes,
        "threshold_ppm": np.array([threshold_ppm]),
        "value": forest.value,
        "feature": forest.feature,
        "schema": np.frombuffer(schema, np.uint8),
    }
    parts = [_header(forest.tree_count, forest.node_count)]
    for name, dtype, _ in _layout(forest.tree_count, forest.node_count):
        parts.append(arrays[name].astype(dtype).tobytes())
    return b"".join(parts)


def _layout(trees: int, nodes: int) -> tuple[tuple[str, np.dtype[Any], int], ...]:
    """Name, type and length of the arrays, in the order safetensors gives them."""
    return (
        ("sizes", np.dtype("<i4"), trees),
        ("threshold_ppm", np.dtype("<i4"), 1),
        ("value", np.dtype("<i4"), nodes),
        ("feature", np.dtype("<i2"), nodes),
        ("schema", np.dtype("u1"), DIGEST_SIZE),
    )


_TYPE_NAMES: Final = {"<i4": "I32", "<i2": "I16", "|u1": "U8"}


def _header(trees: int, nodes: int) -> bytes:
    entries = {}
    start = 0
    for name, dtype, count in _layout(trees, nodes):
        stop = start + count * dtype.itemsize
        entries[name] = {
            "dtype": _TYPE_NAMES[dtype.str],
            "shape": [count],
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_SIZE, "little") + text


def _read_shape(data: bytes) -> tuple[int, int]:
    """Return how many trees and nodes the header speaks of; the header is compared afterwards."""
    size = int.from_bytes(data[:_LENGTH_SIZE], "little")
    if size > HEADER_SIZE_MAX or len(data) < _LENGTH_SIZE + size:
        raise MalformedArtifact("header", "truncated, or too long")
    try:
        entries = json.loads(data[_LENGTH_SIZE : _LENGTH_SIZE + size])
        trees, nodes = entries["sizes"]["shape"][0], entries["feature"]["shape"][0]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise MalformedArtifact("header", "no safetensors header with our arrays") from error
    if type(trees) is not int or not 1 <= trees <= TREES_MAX:
        raise MalformedArtifact("sizes", f"not 1 to {TREES_MAX} trees")
    if type(nodes) is not int or not 1 <= nodes <= NODES_MAX:
        raise MalformedArtifact("feature", f"not 1 to {NODES_MAX} nodes")
    return trees, nodes

"""Judging flows with a model.

A detector holds a model and nothing else: what it says of a flow depends on no other flow, on no
order and on no machine. It is built from an artefact's bytes, which is what a worker process is
sent; it imports no training library.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

import numpy as np

from chain.errors import DecodeError
from chain.payloads import FLOW_INTEGERS_MAX, Flow
from chain.types import Digest
from ml_validator.artifact import Artifact, load_artifact
from ml_validator.verdicts import Label, label_of

JUDGED_TOGETHER_MAX: Final = 512
"""Flows that are encoded at once; longer sequences are cut, which changes no score."""
INTEGER_SIZE: Final = 8
INTEGER_TYPE: Final = np.dtype("<i8")
_PACKERS: Final = tuple(struct.Struct(f"<{count}q") for count in range(FLOW_INTEGERS_MAX + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFlow:
    """The columns of a flow as they go to another process.

    Parameters
    ----------
    integers : bytes
        `INTEGER_SIZE` for each, little-endian.
    categories : tuple of str
    """

    integers: bytes
    categories: tuple[str, ...]


def pack_flow(flow: Flow, schema: Digest) -> PackedFlow:
    """Return a flow of `schema` in few objects; of one that is of another, nothing is left."""
    try:
        if flow.schema == schema:
            packer = _PACKERS[len(flow.integers)]
            return PackedFlow(integers=packer.pack(*flow.integers), categories=flow.categories)
    except (IndexError, struct.error):
        pass
    return PackedFlow(integers=b"", categories=())


class Detector:
    """Gives a score to every flow of its model's schema.

    Parameters
    ----------
    artifact : Artifact
        The model.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact

    @classmethod
    def from_bytes(cls, data: bytes) -> "Detector":
        """Load an artefact; raises what `load_artifact` raises."""
        return cls(load_artifact(data))

    @property
    def model(self) -> Digest:
        """The model's digest, under which its verdicts stand."""
        return self._artifact.digest

    @property
    def artifact(self) -> Artifact:
        """The model itself."""
        return self._artifact

    @property
    def threshold_ppm(self) -> int:
        """Score from which on a flow is anomalous."""
        return self._artifact.threshold_ppm

    def judge(self, flows: Sequence[Flow]) -> list[int]:
        """Return how suspicious each flow is, in parts per million.

        Parameters
        ----------
        flows : sequence of Flow
            All of the model's schema.

        Returns
        -------
        list of int
            One score for each flow, in [0, 1_000_000]; higher is more suspicious.

        Raises
        ------
        UnknownSchema, InvalidFlow
            One flow cannot be read; then none is judged.
        """
        scores: list[int] = []
        for start in range(0, len(flows), JUDGED_TOGETHER_MAX):
            rows = self._artifact.schema.rows(
                flows[start : start + JUDGED_TOGETHER_MAX], first_index=start
            )
            scores.extend(self._artifact.model.scores_ppm(rows).tolist())
        return scores

    def judge_packed(self, flows: Sequence[PackedFlow]) -> list[int | None]:
        """Return what `judge` returns, of flows of the model's schema that came as bytes.

        None stands where a flow has other columns than its schema: a device may send such a one.

        Raises
        ------
        DecodeError
            An integer is below 0.
        """
        schema = self._artifact.schema
        size, count = INTEGER_SIZE * len(schema.integers), len(schema.categories)
        fits = [len(flow.integers) == size and len(flow.categories) == count for flow in flows]
        scores: list[int] = []
        readable = list(compress(flows, fits))
        for start in range(0, len(readable), JUDGED_TOGETHER_MAX):
            part = readable[start : start + JUDGED_TOGETHER_MAX]
            packed = b"".join([flow.integers for flow in part])
            integers = np.frombuffer(packed, INTEGER_TYPE).reshape(len(part), len(schema.integers))
            if (integers < 0).any():
                raise DecodeError("integers", "one is below 0")
            rows = schema.rows_of(integers, [flow.categories for flow in part])
            scores.extend(self._artifact.model.scores_ppm(rows).tolist())
        judged = iter(scores)
        return [next(judged) if is_readable else None for is_readable in fits]

    def label(self, score_ppm: int) -> Label:
        """Return ``anomalous`` or ``normal`` for a score of this model."""
        return label_of(score_ppm, self.threshold_ppm)

"""Judging flows with a model.

A detector holds a model and nothing else: what it says of a flow depends on no other flow, on no
order and on no machine. It is built from an artefact's bytes, which is what a worker process is
sent; it imports no training library.
"""

from collections.abc import Sequence
from typing import Final

from chain.payloads import Flow
from chain.types import Digest
from ml_validator.artifact import Artifact, load_artifact
from ml_validator.verdicts import Label, label_of

JUDGED_TOGETHER_MAX: Final = 512
"""Flows that are encoded at once; longer sequences are cut, which changes no score."""


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

    def can_read(self, flow: Flow) -> bool:
        """Whether `judge` would accept this flow: a device may send one of any schema."""
        return self._artifact.schema.fits(flow)

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

    def label(self, score_ppm: int) -> Label:
        """Return ``anomalous`` or ``normal`` for a score of this model."""
        return label_of(score_ppm, self.threshold_ppm)

"""What the chain says of a model, compared with the model itself.

The chain picks flows by the schema that a model is registered with, and tells anomalous flows by
the threshold: it never sees the artefact. Where the two differ, labels would be those of no model.
So nobody publishes, and no miner judges by, a model that is registered as what it is not.
"""

from dataclasses import dataclass

from chain.records.models import ModelRecord
from chain.types import Digest
from ml_validator.artifact import Artifact
from ml_validator.errors import MisregisteredModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a registered model has to be.

    Parameters
    ----------
    model : Digest
        Its name on the chain: the digest of the artefact.
    schema : Digest
        The feature schema it reads.
    threshold_ppm : int
        Score from which on a flow is anomalous.
    size_bytes : int
        Of the artefact.
    """

    model: Digest
    schema: Digest
    threshold_ppm: int
    size_bytes: int

    @classmethod
    def of(cls, artifact: Artifact) -> "Registration":
        """Return how a model has to be registered."""
        return cls(
            model=artifact.digest,
            schema=artifact.schema.digest,
            threshold_ppm=artifact.threshold_ppm,
            size_bytes=len(artifact.data),
        )

    @classmethod
    def recorded(cls, model: Digest, record: ModelRecord) -> "Registration":
        """Return what the state has of a model."""
        return cls(
            model=model,
            schema=record.schema,
            threshold_ppm=record.threshold_ppm,
            size_bytes=record.size_bytes,
        )

    def check(self, artifact: Artifact) -> None:
        """Make sure that `artifact` is the model that was registered.

        Raises
        ------
        MisregisteredModel
            It has another digest, schema, threshold or size.
        """
        fact = Registration.of(artifact)
        for where, registered, found in (
            ("digest", self.model.hex(), fact.model.hex()),
            ("schema", self.schema.hex(), fact.schema.hex()),
            ("threshold", f"{self.threshold_ppm} ppm", f"{fact.threshold_ppm} ppm"),
            ("size", f"{self.size_bytes} bytes", f"{fact.size_bytes} bytes"),
        ):
            if registered != found:
                raise MisregisteredModel(where, registered, found)

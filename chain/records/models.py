"""What the state holds of models: which are registered, and which judges when."""

from dataclasses import dataclass
from typing import Final

from chain.fields import ADDRESS, DIGEST, HEIGHT, NAME
from chain.schema import Integer, ListOf, Optional, Record
from chain.table import Table
from chain.types import Address, Digest, Height

MODEL_HISTORY_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A registered model.

    Parameters
    ----------
    schema : Digest
        The feature schema it reads.
    threshold_ppm : int
        A flow is anomalous when its score reaches this.
    manifest : Digest
        SHA-256 of its manifest.
    """

    name: str
    schema: Digest
    threshold_ppm: int
    size_bytes: int
    manifest: Digest
    organisation: Address | None
    registered_height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """From which height on a model judges."""

    from_height: Height
    model: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveModels:
    """The latest activations, ascending."""

    activations: tuple[Activation, ...]

    def at(self, height: int) -> Digest | None:
        """Return the model that judges the flows of block `height`, or None."""
        model = None
        for activation in self.activations:
            if activation.from_height <= height:
                model = activation.model
        return model


MODEL_TABLE: Final = Table(
    b"model/",
    Record(
        ModelRecord,
        name=NAME,
        schema=DIGEST,
        threshold_ppm=Integer(0, 1_000_001),
        size_bytes=Integer(1, 2**32),
        manifest=DIGEST,
        organisation=Optional(ADDRESS),
        registered_height=HEIGHT,
    ),
)
ACTIVE_MODELS: Final = Table(
    b"active-models",
    Record(
        ActiveModels,
        activations=ListOf(Record(Activation, from_height=HEIGHT, model=DIGEST), MODEL_HISTORY_MAX),
    ),
)

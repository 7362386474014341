"""Flows of which it is known what they were: what detectors learn from and are measured on.

Each source of data has its own rows; this is what training and evaluation ask of any of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from chain.payloads import Flow
from ml_validator.features import FeatureSchema

NORMAL: Final = "normal"
"""Label and family of every flow that is no attack, whatever a file calls it."""


class Labelled(Protocol):
    """A flow and what it was."""

    @property
    def flow(self) -> Flow:
        """The flow."""
        ...

    @property
    def label(self) -> str:
        """`NORMAL`, or the name of the attack."""
        ...

    @property
    def family(self) -> str:
        """`NORMAL`, or the family of the attack."""
        ...

    @property
    def is_attack(self) -> bool:
        """Whether the label is anything but `NORMAL`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFlow:
    """The plain `Labelled`."""

    flow: Flow
    label: str
    family: str

    @property
    def is_attack(self) -> bool:
        """Whether the label is anything but `NORMAL`."""
        return self.label != NORMAL


class Repetitions:
    """Counts rows that say again what an earlier one said, or say otherwise.

    Attributes
    ----------
    duplicates : int
        Rows with features and label of an earlier one.
    contradictions : int
        Rows with the features of an earlier one, and a label of their own.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        self.contradictions = 0
        self._labels: dict[tuple[object, ...], set[str]] = {}

    def add(self, features: tuple[object, ...], label: str) -> bool:
        """Take in a row; return whether it is a duplicate."""
        known = self._labels.setdefault(features, set())
        is_duplicate = label in known
        self.duplicates += is_duplicate
        self.contradictions += bool(known) and not is_duplicate
        known.add(label)
        return is_duplicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Rows to learn from, and rows to be measured on.

    Parameters
    ----------
    name : str
        With which names of models begin.
    schema : FeatureSchema
        Of all flows.
    training : sequence of Labelled
        What models and thresholds are made from.
    tests : mapping of str to sequence of Labelled
        Rows by the name that their figures have; none of them decides anything.
    digests : mapping of str to str
        SHA-256 in hex of each file that was read.
    training_name : str
        What the training rows are called.
    """

    name: str
    schema: FeatureSchema
    training: Sequence[Labelled]
    tests: Mapping[str, Sequence[Labelled]]
    digests: Mapping[str, str]
    training_name: str


def unseen_labels(test: Collection[Labelled], training: Collection[Labelled]) -> set[str]:
    """Return the attacks of `test` that do not occur in `training`."""
    seen = {record.label for record in training}
    return {record.label for record in test if record.is_attack and record.label not in seen}

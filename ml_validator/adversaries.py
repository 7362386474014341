"""Evasion of several detectors by several attackers, measured on one sample of a test file."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ml_validator.artifact import Artifact
from ml_validator.bundled import BUNDLED_NAME, DETECT_NAME, LINEAR_NAME, bundled_model
from ml_validator.errors import UnknownSchema
from ml_validator.evasion import (
    BUDGETS,
    MIXING,
    PADDING,
    Change,
    Detects,
    Robustness,
    any_of,
    detector_of,
    measure,
    sample,
)
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.hop_skip_jump import make_repeatable, search
from ml_validator.nsl_kdd import TEST_FILE, check_genuine, file_digest, read_records

ATTACKERS: Final[Mapping[str, tuple[Change, ...]]] = MappingProxyType(
    {"padding": PADDING, "mixing": MIXING}
)
TOGETHER: Final = "any of them"
"""A flow is anomalous if one of the models says so."""

COMPARED: Final = (DETECT_NAME, LINEAR_NAME, BUNDLED_NAME)
"""A random forest, a logistic regression, and the forest that is shown a background, in which
what is known and what is merely new are one detector."""

ATTACKS: Final = 200
HONEST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversaries:
    """What each detector finds of what each attacker hides.

    Parameters
    ----------
    found : mapping of str to mapping of str to Robustness
        By detector, then by attacker.
    """

    data: Mapping[str, str]
    seed: int
    found: Mapping[str, Mapping[str, Robustness]]

    def document(self) -> dict[str, Any]:
        """Return all of it for JSON, with what each attacker can change."""
        return {
            "data": dict(self.data),
            "seed": self.seed,
            "budgets": list(BUDGETS),
            "attackers": {
                name: [asdict(change) for change in changes] for name, changes in ATTACKERS.items()
            },
            "detectors": {
                detector: {attacker: asdict(found) for attacker, found in by_attacker.items()}
                for detector, by_attacker in self.found.items()
            },
        }


def bundled() -> dict[str, Artifact]:
    """Return the models that are compared where none are named."""
    return {name: bundled_model(name)[0] for name in COMPARED}


def run_all(
    data: Path,
    models: Mapping[str, Artifact],
    *,
    attacks: int | None = None,
    seed: int,
    on_detector: Callable[[str], None] = lambda name: None,
) -> Adversaries:
    """Let every attacker hide attacks of the genuine KDDTest+ in `data` from every model.

    Where there are several models, they are also asked together.

    Parameters
    ----------
    attacks : int
        How many attacks are drawn; `ATTACKS` where it is not said.
    on_detector : callable, optional
        Told of each detector when it is done.

    Raises
    ------
    UnknownSchema
        A model reads other features than those of NSL-KDD.
    MissingDataset, AlteredDataset, InvalidDataset
        The file is not there, not the genuine one or cannot be read.
    """
    for name, artifact in models.items():
        if artifact.schema != NSL_KDD_SCHEMA:
            raise UnknownSchema(artifact.schema.digest, name)
    check_genuine(data / TEST_FILE)
    records = list(read_records(data / TEST_FILE))
    rows = sample(records, attacks=True, count=attacks or ATTACKS, seed=seed)
    honest = sample(records, attacks=False, count=HONEST, seed=seed)
    detectors: dict[str, Detects] = {name: detector_of(a) for name, a in models.items()}
    if len(detectors) > 1:
        detectors[TOGETHER] = any_of(list(detectors.values()))
    found: dict[str, dict[str, Robustness]] = {}
    for name, detects in detectors.items():
        found[name] = {}
        for attacker, changes in ATTACKERS.items():
            make_repeatable(seed)
            found[name][attacker] = measure(
                detects, rows, honest, changes=changes, seed=seed, search=search
            )
        on_detector(name)
    return Adversaries(data={TEST_FILE: file_digest(data / TEST_FILE)}, seed=seed, found=found)

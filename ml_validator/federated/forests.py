"""Forests of organisations, their union, and the threshold that public rows give it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from chain.types import Digest
from ml_validator.artifact import Artifact
from ml_validator.calibration import choose_threshold
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.federated.forest_union import honest_forests, union
from ml_validator.federated.task import Part
from ml_validator.forest import Forest, saturated
from ml_validator.packing import pack

TREES: Final = 10
"""Of each organisation."""

FALSE_ALARMS_PPM: Final = 30_000
_ANY_THRESHOLD_PPM: Final = 500_000


def grow_forest(part: Part, *, trees: int, seed: int, flipped: bool = False) -> Forest:
    """Train on the rows of an organisation, or on their false labels."""
    attacks = part.attacks != flipped
    if attacks.all() or not attacks.any():
        # Rows of one kind teach nothing: a tree of one leaf that says so.
        return Forest(
            sizes=np.ones(1, np.int32),
            feature=np.full(1, -1, np.int16),
            value=np.full(1, 10_000 if attacks[0] else 0, np.int32),
            column_count=NSL_KDD_SCHEMA.column_count,
        )
    classifier = RandomForestClassifier(n_estimators=trees, n_jobs=1, random_state=seed)
    classifier.fit(saturated(part.integers), attacks)
    return pack(classifier, column_count=NSL_KDD_SCHEMA.column_count)


def submitted(forest: Forest) -> Artifact:
    """Return what an organisation hands in; the threshold in it means nothing yet."""
    return Artifact(model=forest, schema=NSL_KDD_SCHEMA, threshold_ppm=_ANY_THRESHOLD_PPM)


def merge(forests: Sequence[Forest], public: Part) -> tuple[Artifact, dict[Digest, Forest]]:
    """Return the union with its threshold, and the forests that are in it.

    Raises
    ------
    TooFewContributions, MalformedArtifact, UntrainableData
        No forest, too many trees, or public rows that allow no threshold.
    """
    named = {submitted(forest).digest: forest for forest in forests}
    kept = honest_forests(named, rows=public.integers, attacks=public.attacks)
    return calibrated(union(list(kept.values())), public), kept


def calibrated(forest: Forest, public: Part) -> Artifact:
    """Give a forest the threshold with at most 3 % false alarms among the public normal rows."""
    scores = forest.scores_ppm(public.integers)
    threshold_ppm = choose_threshold(
        scores[~public.attacks], avoid=scores, false_alarms_ppm=FALSE_ALARMS_PPM
    )
    return Artifact(model=forest, schema=NSL_KDD_SCHEMA, threshold_ppm=threshold_ppm)

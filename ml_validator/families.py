"""Telling families of attacks apart, once a detector has found a flow anomalous.

It is measured beside the detectors and ships with no node: a verdict on the chain says how
suspicious a flow is, not what it is.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from ml_validator.features import NSL_KDD_SCHEMA, FeatureSchema
from ml_validator.forest import saturated
from ml_validator.forest_training import TREES, row_weights
from ml_validator.labelled import NORMAL, Labelled

LEAVES_MAX: Final = 512

Labels = npt.NDArray[np.str_]


def fit_families(
    records: Sequence[Labelled], *, seed: int, schema: FeatureSchema = NSL_KDD_SCHEMA
) -> Any:
    """Fit a forest to the families of the attacks among `records`; types weigh by `row_weights`."""
    attacks = [record for record in records if record.is_attack]
    classifier = RandomForestClassifier(
        n_estimators=TREES, max_leaf_nodes=LEAVES_MAX, n_jobs=-1, random_state=seed
    )
    rows = saturated(schema.rows([record.flow for record in attacks]))
    families = np.array([record.family for record in attacks])
    classifier.fit(rows, families, sample_weight=row_weights(attacks))
    return classifier.set_params(n_jobs=None)


def say_families(
    classifier: Any,
    records: Sequence[Labelled],
    anomalous: npt.NDArray[np.bool_],
    *,
    schema: FeatureSchema = NSL_KDD_SCHEMA,
) -> Labels:
    """Return a family for each record that is anomalous, and ``normal`` for the others."""
    names = np.array([NORMAL, *classifier.classes_])
    said = np.full(len(records), NORMAL, dtype=names.dtype)
    if anomalous.any():
        rows = schema.rows([record.flow for record in records])
        said[anomalous] = classifier.predict(saturated(rows[anomalous]))
    return said

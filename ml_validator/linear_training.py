"""Training the linear detector: logistic regression, packed into fixed point.

The weakest and smallest of the models: what the paper compares forests with, and what a device with
no room for a forest can compute.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from ml_validator.artifact import Artifact
from ml_validator.calibration import choose_threshold
from ml_validator.errors import UntrainableData
from ml_validator.evaluation import evaluate
from ml_validator.features import NSL_KDD_SCHEMA, FeatureSchema
from ml_validator.forest import saturated
from ml_validator.forest_training import Trained
from ml_validator.labelled import Labelled
from ml_validator.linear import FRACTION_BITS, PPM_PER_LOGIT, Linear

CAP_QUANTILE: Final = 0.999
"""Of a column's training values; larger ones count as this one, and one column cannot rule."""

FOLDS: Final = 3
ITERATIONS_MAX: Final = 300
FALSE_ALARMS_PPM: Final = 20_000

Matrix = npt.NDArray[np.int64]


def fit_linear(
    records: Sequence[Labelled],
    *,
    seed: int,
    false_alarms_ppm: int = FALSE_ALARMS_PPM,
    schema: FeatureSchema = NSL_KDD_SCHEMA,
) -> Trained:
    """Train on `records`, flows of `schema`, and choose the threshold from them.

    The threshold comes from models that were each made from all folds but one, and score that one.

    Raises
    ------
    UntrainableData
        Fewer than `FOLDS` rows are normal or attacks, or no threshold has so few false alarms.
    """
    attacks = np.array([record.is_attack for record in records], np.bool_)
    if min(int(attacks.sum()), int((~attacks).sum())) < FOLDS:
        raise UntrainableData(f"training needs {FOLDS} normal rows and {FOLDS} attacks")
    rows = schema.rows([record.flow for record in records])
    held_out = np.empty(len(rows), np.int64)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for inside, outside in folds.split(rows, attacks):
        model = fit_and_pack(rows[inside], attacks[inside])
        held_out[outside] = model.scores_ppm(rows[outside])
    model = fit_and_pack(rows, attacks)
    threshold_ppm = choose_threshold(
        held_out[~attacks],
        avoid=np.concatenate((held_out, model.scores_ppm(rows))),
        false_alarms_ppm=false_alarms_ppm,
    )
    return Trained(
        artifact=Artifact(model=model, schema=schema, threshold_ppm=threshold_ppm),
        out_of_bag=evaluate(records, held_out.tolist(), threshold_ppm=threshold_ppm),
    )


def fit_and_pack(rows: Matrix, attacks: npt.NDArray[np.bool_]) -> Linear:
    """Fit scikit-learn's logistic regression to capped and standardised columns."""
    cap = np.quantile(saturated(rows), CAP_QUANTILE, axis=0, method="higher").astype(np.int32)
    # A name or a flag that is rarer than the quantile is still worth its unit.
    cap = np.maximum(cap, np.minimum(rows.max(axis=0), 1).astype(np.int32))
    capped = np.minimum(rows, cap).astype(np.float64)
    mean, spread = capped.mean(axis=0), capped.std(axis=0)
    spread[spread == 0] = 1.0
    classifier = LogisticRegression(max_iter=ITERATIONS_MAX)
    classifier.fit((capped - mean) / spread, attacks)
    return pack_linear(classifier, mean=mean, spread=spread, cap=cap)


def pack_linear(
    classifier: Any,
    *,
    mean: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
    cap: npt.NDArray[np.int32],
) -> Linear:
    """Turn a fitted logistic regression over standardised columns into fixed point over raw ones.

    Parameters
    ----------
    classifier : sklearn.linear_model.LogisticRegression
        Fitted to ``(min(row, cap) - mean) / spread``, with the classes False (normal) and True.
    """
    scale = PPM_PER_LOGIT * 2**FRACTION_BITS
    weight = classifier.coef_[0] / spread
    bias = classifier.intercept_[0] - float((weight * mean).sum())
    return Linear(
        weight=np.rint(weight * scale).astype(np.int64),
        cap=cap,
        bias=np.rint(np.array([bias * scale])).astype(np.int64),
        column_count=len(cap),
    )

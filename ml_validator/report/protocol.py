"""The paper's experiment: a random part of the training file is held out, and all labels are told.

The rows of KDDTrain+ are shuffled, four fifths train and one fifth tests; the 23 labels are the
classes; names become columns of 0 and 1 and every column is standardised. The paper does not say
so; this is the protocol that gives its random forest's figures, and only if ``difficulty``, which
was made from the labels, is left in as a feature. So each model is fitted with and without it.

A test row has near-twins among the training rows, so none of this says how a detector does on
traffic to come: that is asked elsewhere, on files of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    confusion_matrix,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ml_validator.errors import UntrainableData
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.labelled import NORMAL
from ml_validator.nsl_kdd import Record

SEEDS: Final = (42, 43, 44, 45, 46)
"""The first is the one whose figures come out as printed."""
TEST_SHARE: Final = 0.2
TREES: Final = 100
ITERATIONS_MAX: Final = 1_000
CURVE_POINTS_MAX: Final = 400

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The columns of the paper's Table 2, in [0, 1]."""

    accuracy: float
    macro_precision: float
    macro_f1: float
    weighted_precision: float
    weighted_f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """How attacks part from normal rows by the score 1 − P(normal), thinned out for a plot."""

    roc_auc: float
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One model, fitted once.

    Parameters
    ----------
    model : str
        ``random forest`` or ``logistic regression``.
    difficulty : bool
        Whether the leaking column was a feature.
    classes : tuple of str
        Labels of the test rows or of what was said of them, in alphabetical order.
    recall : tuple of float
        Of each class; 0 where it has no test row.
    confusion : tuple of tuple of int
        Test rows by their class (first) and what was said of them.
    """

    model: str
    difficulty: bool
    seed: int
    scores: Scores
    classes: tuple[str, ...]
    recall: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    curves: Curves


MODELS: Final[dict[str, Callable[[int], Any]]] = {
    "random forest": lambda seed: RandomForestClassifier(
        n_estimators=TREES, n_jobs=-1, random_state=seed
    ),
    "logistic regression": lambda seed: LogisticRegression(
        max_iter=ITERATIONS_MAX, random_state=seed
    ),
}


def run_all(
    records: Sequence[Record],
    *,
    seeds: Sequence[int] = SEEDS,
    on_run: Callable[[Run], None] = lambda run: None,
) -> list[Run]:
    """Fit every model with and without the leaking column, once for each seed.

    Parameters
    ----------
    on_run : callable, optional
        Told of each run as it ends: all of them take minutes.

    Raises
    ------
    UntrainableData
        A label has a single row, which cannot be in both parts, or all rows are of one kind.
    """
    labels = np.array([record.label for record in records])
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2 or NORMAL not in names:
        raise UntrainableData("the experiment needs normal rows and attacks")
    if counts.min() < 2:
        raise UntrainableData(f"{names[counts.argmin()]} has one row; each label needs two")
    features = NSL_KDD_SCHEMA.rows([record.flow for record in records]).astype(np.float64)
    difficulty = np.array([[record.difficulty] for record in records], np.float64)
    runs = []
    for leaks in (True, False):
        rows = np.hstack((features, difficulty)) if leaks else features
        for model, build in MODELS.items():
            for seed in seeds:
                run = _run(model, build(seed), rows, labels, leaks=leaks, seed=seed)
                on_run(run)
                runs.append(run)
    return runs


def _run(
    model: str, classifier: Any, rows: Matrix, labels: Labels, *, leaks: bool, seed: int
) -> Run:
    train, test, train_labels, test_labels = train_test_split(
        rows, labels, test_size=TEST_SHARE, random_state=seed
    )
    pipeline = make_pipeline(StandardScaler(), classifier)
    pipeline.fit(train, train_labels)
    # Threads add up the votes of trees in any order; alone, equal inputs give equal bits.
    classifier.set_params(n_jobs=None)
    probabilities = pipeline.predict_proba(test)
    said = pipeline.classes_[probabilities.argmax(axis=1)]
    classes = np.union1d(test_labels, said)
    _, recall, _, _ = precision_recall_fscore_support(
        test_labels, said, labels=classes, zero_division=0
    )
    return Run(
        model=model,
        difficulty=leaks,
        seed=seed,
        scores=_scores(test_labels, said),
        classes=tuple(classes.tolist()),
        recall=tuple(recall.tolist()),
        confusion=tuple(
            tuple(row) for row in confusion_matrix(test_labels, said, labels=classes).tolist()
        ),
        curves=_curves(
            test_labels != NORMAL, 1 - probabilities[:, list(pipeline.classes_).index(NORMAL)]
        ),
    )


def _scores(expected: Labels, said: Labels) -> Scores:
    macro, weighted = (
        precision_recall_fscore_support(expected, said, average=average, zero_division=0)
        for average in ("macro", "weighted")
    )
    return Scores(
        accuracy=float((expected == said).mean()),
        macro_precision=float(macro[0]),
        macro_f1=float(macro[2]),
        weighted_precision=float(weighted[0]),
        weighted_f1=float(weighted[2]),
    )


def _curves(attacks: npt.NDArray[np.bool_], scores: Matrix) -> Curves:
    false_positives, true_positives, _ = roc_curve(attacks, scores)
    precision, recall, _ = precision_recall_curve(attacks, scores)
    return Curves(
        roc_auc=float(roc_auc_score(attacks, scores)),
        false_positive_rate=_thinned(false_positives),
        true_positive_rate=_thinned(true_positives),
        recall=_thinned(recall),
        precision=_thinned(precision),
    )


def _thinned(values: Matrix) -> tuple[float, ...]:
    places = np.linspace(0, len(values) - 1, min(len(values), CURVE_POINTS_MAX)).astype(int)
    return tuple(values[places].tolist())

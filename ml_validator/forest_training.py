"""Growing the forest detector: what it is shown, and what is asked of its trees.

Besides the rows of the data set a forest can be shown a *background*: rows whose columns are drawn
from normal rows, each column from another one, and which count as attacks. What is common column by
column and yet never occurs together so becomes suspicious, which is how an attack of a type
that nobody has seen is found by the same trees. docs/adr/0023-background-rows.md.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from ml_validator.artifact import Artifact
from ml_validator.calibration import choose_threshold
from ml_validator.errors import UntrainableData
from ml_validator.evaluation import Evaluation, evaluate
from ml_validator.features import NSL_KDD_SCHEMA, FeatureSchema
from ml_validator.forest import DEPTH_MAX, NODES_MAX, Forest, saturated
from ml_validator.labelled import Labelled
from ml_validator.packing import pack
from ml_validator.verdicts import SCORE_PPM_MAX, scores_ppm

TREES: Final = 64

VOTERS_PPM: Final = 2_718_282
"""Trees grown for each tree of the model, in parts per million.

A bootstrap sample leaves out a share of 1/e of the rows. With e times as many trees, a row is
scored out-of-bag by as many trees as the model has, and the scores spread as the model's do.
"""

ROW_WEIGHT: Final = 1_000
"""Weight of a normal row; weights are integers, so that sums of them are exact."""

Matrix = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What shapes a forest.

    Parameters
    ----------
    leaves_max : int or None
        Of a tree; None for as many as it takes, or as a forest has room for.
    leaf_rows_min : int
        Training rows in the smallest leaf.
    background_ppm : int
        Background rows for each normal row, in parts per million.
    weighs_types : bool
        Whether types of attack weigh as `row_weights` says, or each row the same.
    """

    seed: int
    trees: int = TREES
    leaves_max: int | None = None
    leaf_rows_min: int = 1
    background_ppm: int = 0
    weighs_types: bool = False

    @property
    def trees_grown(self) -> int:
        """Trees to train: the model's, which are the first, and those that only calibrate it."""
        return -(-self.trees * VOTERS_PPM // 1_000_000)

    @property
    def leaves_room(self) -> int:
        """Leaves that each tree may have so that all of them fit into `NODES_MAX` nodes."""
        return (NODES_MAX // self.trees_grown + 1) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A forest and where its threshold lies.

    Parameters
    ----------
    shape : callable
        Gives the settings for a seed.
    false_alarms_ppm : int
        Share of out-of-bag training normals that the threshold may call anomalous.
    """

    shape: Callable[[int], Settings]
    false_alarms_ppm: int


DETECT: Final = "detect"
LOW_FALSE_ALARM: Final = "low_false_alarm"
SMALL: Final = "small"
MODES: Final[Mapping[str, Mode]] = MappingProxyType(
    {
        # Its threshold is near a single vote: half as many trees make accuracy a matter of luck.
        DETECT: Mode(shape=lambda seed: Settings(seed=seed, trees=128), false_alarms_ppm=30_000),
        LOW_FALSE_ALARM: Mode(
            shape=lambda seed: Settings(
                seed=seed,
                leaves_max=512,
                leaf_rows_min=20,
                background_ppm=300_000,
                weighs_types=True,
            ),
            false_alarms_ppm=15_000,
        ),
        SMALL: Mode(
            shape=lambda seed: Settings(
                seed=seed,
                trees=16,
                leaves_max=168,
                leaf_rows_min=20,
                background_ppm=300_000,
                weighs_types=True,
            ),
            false_alarms_ppm=35_000,
        ),
    }
)
"""The ways to use a detector: find the most, bother the least, or fit into 32 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model, and the verdicts on the rows it was made from by learners that had not seen them.

    Parameters
    ----------
    leaves_max : int or None
        To which the trees of a forest were held.
    """

    artifact: Artifact
    out_of_bag: Evaluation
    leaves_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What a forest is shown.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, column_count), int64
        Those of the data set first, then the background.
    attacks : ndarray of shape (n_rows,), bool
    weights : ndarray of shape (n_rows,), int64
    genuine : int
        How many rows are of the data set.
    """

    rows: Matrix
    attacks: npt.NDArray[np.bool_]
    weights: Matrix
    genuine: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grown:
    """A forest without a threshold yet.

    Parameters
    ----------
    records : sequence of Labelled
        The training rows, flows of `schema`.
    out_of_bag, in_use : ndarray of shape (n_records,), int64, in parts per million
        Scores of the training rows, by trees that have not seen them and by the model.
    leaves_max : int or None
        To which the trees were held: what was asked for, or what there is room for.
    """

    schema: FeatureSchema
    records: Sequence[Labelled]
    forest: Forest
    leaves_max: int | None
    out_of_bag: Matrix
    in_use: Matrix

    def calibrate(self, false_alarms_ppm: int) -> Trained:
        """Give the forest the threshold with at most this share of false alarms out-of-bag.

        Raises
        ------
        UntrainableData
            There is none.
        """
        normal = np.array([not record.is_attack for record in self.records])
        threshold_ppm = choose_threshold(
            self.out_of_bag[normal],
            avoid=np.concatenate((self.out_of_bag, self.in_use)),
            false_alarms_ppm=false_alarms_ppm,
        )
        return Trained(
            artifact=Artifact(model=self.forest, schema=self.schema, threshold_ppm=threshold_ppm),
            out_of_bag=evaluate(
                self.records, self.out_of_bag.tolist(), threshold_ppm=threshold_ppm
            ),
            leaves_max=self.leaves_max,
        )


def grow(
    records: Sequence[Labelled], settings: Settings, *, schema: FeatureSchema = NSL_KDD_SCHEMA
) -> Grown:
    """Train a forest on `records`, flows of `schema`, and score them.

    Raises
    ------
    UntrainableData
        No row is normal, or none is an attack.
    """
    lesson = make_lesson(records, settings, schema=schema)
    classifier = fit_classifier(lesson, settings)
    grown = pack(classifier, column_count=schema.column_count)
    forest = grown.first(settings.trees)
    rows = lesson.rows[: lesson.genuine]
    return Grown(
        schema=schema,
        records=records,
        forest=forest,
        leaves_max=classifier.max_leaf_nodes,
        out_of_bag=_out_of_bag_scores(grown, rows, classifier.estimators_samples_),
        in_use=forest.scores_ppm(rows),
    )


def make_lesson(
    records: Sequence[Labelled], settings: Settings, *, schema: FeatureSchema = NSL_KDD_SCHEMA
) -> Lesson:
    """Return the rows of `records` with their weights, and the background.

    Raises
    ------
    UntrainableData
        No row is normal, or none is an attack.
    """
    attacks = np.array([record.is_attack for record in records], np.bool_)
    if len(np.unique(attacks)) < 2:
        raise UntrainableData("training needs normal rows and attacks")
    rows = schema.rows([record.flow for record in records])
    weights = row_weights(records) if settings.weighs_types else np.full(len(rows), ROW_WEIGHT)
    count = int((~attacks).sum()) * settings.background_ppm // 1_000_000
    invented = background(rows[~attacks], schema, count=count, seed=settings.seed)
    return Lesson(
        rows=np.concatenate((rows, invented)),
        attacks=np.concatenate((attacks, np.ones(count, np.bool_))),
        weights=np.concatenate((weights, np.full(count, ROW_WEIGHT))),
        genuine=len(rows),
    )


def background(rows: Matrix, schema: FeatureSchema, *, count: int, seed: int) -> Matrix:
    """Return `count` rows, each integer and each category of which is that of some row.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, column_count), int64
        At least one.
    """
    random = np.random.default_rng(seed)
    widths = [1] * len(schema.integers) + [len(column.values) for column in schema.categories]
    parts = []
    start = 0
    for width in widths:
        drawn = random.integers(len(rows), size=count)
        parts.append(rows[drawn, start : start + width])
        start += width
    return np.hstack(parts)


def row_weights(records: Sequence[Labelled]) -> Matrix:
    """Return the weight of each row in training.

    All attacks together weigh as much as equal rows would, but a type's share grows with the
    square root of its rows: a third of NSL-KDD is one flood, and its kin should not be all that
    the trees care for.
    """
    counts = Counter(record.label for record in records if record.is_attack)
    share = sum(counts.values()) / sum(count**0.5 for count in counts.values()) if counts else 0.0
    of_label = {label: round(ROW_WEIGHT * share / n**0.5) for label, n in counts.items()}
    return np.array([of_label.get(record.label, ROW_WEIGHT) for record in records], np.int64)


def fit_classifier(lesson: Lesson, settings: Settings) -> Any:
    """Fit scikit-learn's random forest to which rows are attacks.

    Where normal rows and attacks look alike, trees that grow as they like have a leaf for almost
    every row; if the forest could not hold them, each is held to `Settings.leaves_room`.
    """
    asked = settings.leaves_max
    # The first tree tells already, and is the first of any number: the others might take gigabytes.
    first = _fit(lesson, settings, count=1, leaves_max=asked)
    if _takes(first, settings.trees_grown) <= NODES_MAX:
        classifier = _fit(lesson, settings, count=settings.trees_grown, leaves_max=asked)
        if _takes(classifier, settings.trees_grown) <= NODES_MAX:
            return classifier
    return _fit(lesson, settings, count=settings.trees_grown, leaves_max=settings.leaves_room)


def _takes(classifier: Any, count: int) -> int:
    """Return how many nodes so many trees have if they are like those of `classifier`."""
    nodes = sum(estimator.tree_.node_count for estimator in classifier.estimators_)
    return int(nodes * count // len(classifier.estimators_))


def _fit(lesson: Lesson, settings: Settings, *, count: int, leaves_max: int | None) -> Any:
    classifier = RandomForestClassifier(
        n_estimators=count,
        max_depth=DEPTH_MAX,
        max_leaf_nodes=leaves_max,
        min_samples_leaf=settings.leaf_rows_min,
        bootstrap=True,
        # The trees do not depend on the number of jobs.
        n_jobs=-1,
        random_state=settings.seed,
    )
    classifier.fit(saturated(lesson.rows), lesson.attacks, sample_weight=lesson.weights)
    # Threads add up the votes of trees in any order; alone, equal inputs give equal bits.
    return classifier.set_params(n_jobs=None)


def _out_of_bag_scores(
    forest: Forest, rows: Matrix, samples: Sequence[npt.NDArray[np.int64]]
) -> Matrix:
    """Score each training row by the trees that were not trained on it."""
    reached = forest.leaves(rows)
    votes = np.zeros(len(rows), np.int64)
    voters = np.zeros(len(rows), np.int64)
    for tree, drawn in enumerate(samples):
        outside = np.ones(len(rows), np.bool_)
        outside[drawn[drawn < len(rows)]] = False
        votes += np.where(outside, forest.value[reached[:, tree]], 0)
        voters += outside
    # A row that every tree has seen says nothing of unseen ones and counts as the worst.
    return np.where(voters > 0, scores_ppm(votes, np.maximum(voters, 1)), SCORE_PPM_MAX)

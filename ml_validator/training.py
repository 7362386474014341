"""Training the forest detector, choosing its threshold, and packing it into integers.

``python -m ml_validator.training --data DATA --out FOLDER --seed 42`` trains on KDDTrain+, prints
what the model does on KDDTest+ and writes artefact and manifest. The test file is read after the
model and its threshold stand, and decides nothing.

This is the one module that imports scikit-learn; no node imports it.
docs/adr/0004-threshold-from-out-of-bag-scores.md, docs/adr/0005-integer-forest.md.
"""

import argparse
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn.ensemble import RandomForestClassifier

from chain.errors import SecureNetError
from ml_validator.artifact import Artifact
from ml_validator.bundled import BUNDLED_NAME
from ml_validator.detector import Detector
from ml_validator.errors import UntrainableData
from ml_validator.evaluation import Evaluation, evaluate
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.forest import LEAF, SATURATION, Forest, saturated
from ml_validator.manifest import FORMAT, Manifest, size_of
from ml_validator.nsl_kdd import (
    TEST_FILE,
    TEST_ONLY_FAMILIES,
    TRAIN_FILE,
    Record,
    check_genuine,
    file_digest,
    read_records,
)
from ml_validator.verdicts import SCORE_PPM_MAX, TREE_VOTES, scores_ppm

TREES: Final = 64
LEAVES_MAX: Final = 512
FALSE_ALARMS_PPM: Final = 20_000
"""Share of out-of-bag training normals that the threshold may call anomalous: 2 %."""

VOTERS_PPM: Final = 2_718_282
"""Trees grown for each tree of the model, in parts per million.

A bootstrap sample leaves out a share of 1/e of the rows. With e times as many trees, a row is
scored out-of-bag by as many trees as the model has, and the scores spread as the model's do.
"""

RULE: Final = (
    "smallest threshold at which at most false_alarms_max_ppm of the normal training rows score"
    " anomalous by those of trees_grown trees that have not seen them; then the middle of the gap"
    " to the next smaller such score, or the nearest value that no training row scores"
)
SEED_MAX: Final = 2**32 - 1

Matrix = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What shapes a forest; the defaults are those of the bundled model."""

    seed: int
    trees: int = TREES
    leaves_max: int = LEAVES_MAX
    false_alarms_ppm: int = FALSE_ALARMS_PPM

    @property
    def trees_grown(self) -> int:
        """Trees to train: the model's, which are the first, and those that only calibrate it."""
        return -(-self.trees * VOTERS_PPM // 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model, and the out-of-bag verdicts on the rows that it was made from."""

    artifact: Artifact
    out_of_bag: Evaluation


def train(data: Path, *, seed: int) -> tuple[Artifact, Manifest]:
    """Train on the genuine KDDTrain+ in folder `data` and measure on its KDDTest+.

    Raises
    ------
    MissingDataset, AlteredDataset, InvalidDataset
        A file is not there, not the genuine one or cannot be read.
    """
    for name in (TRAIN_FILE, TEST_FILE):
        check_genuine(data / name)
    settings = Settings(seed=seed)
    trained = fit(list(read_records(data / TRAIN_FILE)), settings)
    artifact = trained.artifact
    test = judge(artifact, list(read_records(data / TEST_FILE)))
    unseen = sorted(TEST_ONLY_FAMILIES)
    manifest = Manifest(
        format=FORMAT,
        name=BUNDLED_NAME,
        model=artifact.digest.hex(),
        schema=artifact.schema.digest.hex(),
        features=list(artifact.schema.column_names),
        threshold_ppm=artifact.threshold_ppm,
        calibration={"rule": RULE, "false_alarms_max_ppm": settings.false_alarms_ppm},
        command=(
            "python -m ml_validator.training --data DATA --out ml_validator/models"
            f" --seed {settings.seed}"
        ),
        settings={
            "seed": settings.seed,
            "trees": settings.trees,
            "trees_grown": settings.trees_grown,
            "leaves_max": settings.leaves_max,
        },
        data={name: file_digest(data / name) for name in (TRAIN_FILE, TEST_FILE)},
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        size=size_of(artifact),
        measured={
            f"{TRAIN_FILE}, out-of-bag": trained.out_of_bag.figures(),
            TEST_FILE: test.figures()
            | {
                "unseen_rows": sum(test.rows_by_label[label] for label in unseen),
                "unseen_recall_ppm": test.recall_of(unseen),
            },
        },
    )
    return artifact, manifest


def fit(records: Sequence[Record], settings: Settings) -> Trained:
    """Train on `records` and choose the threshold from them.

    Raises
    ------
    UntrainableData
        No row is normal, or none is an attack.
    """
    rows = NSL_KDD_SCHEMA.rows([record.flow for record in records])
    classifier = fit_classifier(rows, [record.is_attack for record in records], settings)
    grown = pack(classifier, column_count=NSL_KDD_SCHEMA.column_count)
    forest = grown.first(settings.trees)
    out_of_bag = _out_of_bag_scores(grown, rows, classifier.estimators_samples_)
    normal = np.array([not record.is_attack for record in records])
    threshold_ppm = choose_threshold(
        out_of_bag[normal],
        avoid=np.concatenate((out_of_bag, scores_ppm(forest.votes(rows), forest.tree_count))),
        false_alarms_ppm=settings.false_alarms_ppm,
    )
    return Trained(
        artifact=Artifact(model=forest, schema=NSL_KDD_SCHEMA, threshold_ppm=threshold_ppm),
        out_of_bag=evaluate(records, out_of_bag.tolist(), threshold_ppm=threshold_ppm),
    )


def judge(artifact: Artifact, records: Sequence[Record]) -> Evaluation:
    """Evaluate a model on labelled rows."""
    scores = Detector(artifact).judge([record.flow for record in records])
    return evaluate(records, scores, threshold_ppm=artifact.threshold_ppm)


def fit_classifier(rows: Matrix, attacks: Sequence[bool], settings: Settings) -> Any:
    """Fit scikit-learn's random forest to which rows are attacks.

    Raises
    ------
    UntrainableData
        No row is normal, or none is an attack.
    """
    if len(set(attacks)) < 2:
        raise UntrainableData("training needs normal rows and attacks")
    classifier = RandomForestClassifier(
        n_estimators=settings.trees_grown,
        max_leaf_nodes=settings.leaves_max,
        bootstrap=True,
        # More jobs would sum in another order; the packed scores would stay, the check would not.
        n_jobs=1,
        random_state=settings.seed,
    )
    return classifier.fit(saturated(rows), np.array(attacks))


def pack(classifier: Any, *, column_count: int) -> Forest:
    """Turn a fitted random forest into integers.

    Each row reaches the same leaf in both. A leaf shares out `TREE_VOTES` votes between normal and
    attack in proportion to its training weights, by largest remainder.

    Parameters
    ----------
    classifier : sklearn.ensemble.RandomForestClassifier
        Fitted to rows saturated at `SATURATION`, with the classes False (normal) and True.
    column_count : int
        Length of the rows.
    """
    attack = list(classifier.classes_).index(True)
    sizes, features, values = [], [], []
    for estimator in classifier.estimators_:
        tree = estimator.tree_
        order = _breadth_first(tree.children_left, tree.children_right)
        leaf = tree.children_left[order] < 0
        weights = tree.value[order, 0, :] * tree.weighted_n_node_samples[order, np.newaxis]
        against = _share_votes(np.rint(weights).astype(np.int64))[:, attack]
        sizes.append(len(order))
        features.append(np.where(leaf, LEAF, tree.feature[order]))
        values.append(np.where(leaf, against, integer_thresholds(tree.threshold[order])))
    return Forest(
        sizes=np.array(sizes, np.int32),
        feature=np.concatenate(features).astype(np.int16),
        value=np.concatenate(values).astype(np.int32),
        column_count=column_count,
    )


def integer_thresholds(thresholds: npt.NDArray[np.float64]) -> Matrix:
    """Return for each threshold the largest integer that scikit-learn would send to the left.

    It compares the input rounded to float32; that rounding keeps the order, so that one integer
    divides left from right, found here by bisection. Where it is not below 0, the result lies in
    [0, SATURATION).
    """
    low = np.full(len(thresholds), -1, np.int64)
    high = np.full(len(thresholds), SATURATION - 1, np.int64)
    while (low < high).any():
        middle = (low + high + 1) // 2
        left = middle.astype(np.float32) <= thresholds
        low, high = np.where(left, middle, low), np.where(left, high, middle - 1)
    return low


def choose_threshold(normal_scores: Matrix, *, avoid: Matrix, false_alarms_ppm: int) -> int:
    """Return the lowest threshold with few enough false alarms.

    Parameters
    ----------
    normal_scores : ndarray of shape (n_normal,), int64, in parts per million
        Out-of-bag scores of normal training rows; at least one.
    avoid : ndarray of shape (n,), int64
        Scores that the threshold must not equal, so that none sits on the fence.
    false_alarms_ppm : int
        Share of `normal_scores` that may reach the threshold; below 1_000_000.

    Raises
    ------
    UntrainableData
        More normal rows than that have the highest score there is.
    """
    ordered = np.sort(normal_scores)
    allowed = len(ordered) * false_alarms_ppm // SCORE_PPM_MAX
    # `lower` is the largest score that must stay below the threshold, `upper` the next above it.
    lower = int(ordered[len(ordered) - allowed - 1])
    above = ordered[ordered > lower]
    upper = int(above[0]) if len(above) else SCORE_PPM_MAX
    if lower == SCORE_PPM_MAX:
        raise UntrainableData("too many normal rows score as the worst attacks do")
    taken = set(np.unique(avoid).tolist())
    middle = (lower + upper) // 2
    for distance in range(upper - lower):
        for candidate in (middle - distance, middle + distance):
            if lower < candidate <= upper and candidate not in taken:
                return candidate
    return lower + 1


def _breadth_first(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> list[int]:
    order = [0]
    for node in order:
        if left[node] >= 0:
            order += (int(left[node]), int(right[node]))
    return order


def _share_votes(weights: Matrix) -> Matrix:
    """Share out `TREE_VOTES` votes in each row by largest remainder; ties to the first class."""
    totals = weights.sum(axis=1, keepdims=True)
    votes, remainders = np.divmod(weights * TREE_VOTES, totals)
    missing = TREE_VOTES - votes.sum(axis=1)
    by_remainder = np.argsort(-remainders, axis=1, kind="stable")
    rank = np.argsort(by_remainder, axis=1, kind="stable")
    shared: Matrix = votes + (rank < missing[:, np.newaxis])
    return shared


def _out_of_bag_scores(
    forest: Forest, rows: Matrix, samples: Sequence[npt.NDArray[np.int64]]
) -> Matrix:
    """Score each training row by the trees that were not trained on it."""
    reached = forest.leaves(rows)
    votes = np.zeros(len(rows), np.int64)
    voters = np.zeros(len(rows), np.int64)
    for tree, drawn in enumerate(samples):
        outside = np.ones(len(rows), np.bool_)
        outside[drawn] = False
        votes += np.where(outside, forest.value[reached[:, tree]], 0)
        voters += outside
    # A row that every tree has seen says nothing of unseen ones and counts as the worst.
    return np.where(voters > 0, scores_ppm(votes, np.maximum(voters, 1)), SCORE_PPM_MAX)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the figures and write the model; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ml_validator.training",
        description="Train the forest detector on NSL-KDD's KDDTrain+ and measure it on KDDTest+.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the NSL-KDD files")
    parser.add_argument("--out", type=Path, required=True, help="folder the model is written to")
    parser.add_argument("--seed", type=_seed, default=42, help="of the forest (default 42)")
    options = parser.parse_args(arguments)
    try:
        artifact, manifest = train(options.data, seed=options.seed)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{manifest.name}.safetensors").write_bytes(artifact.data)
        (options.out / f"{manifest.name}.json").write_text(manifest.to_json(), encoding="utf-8")
    except (SecureNetError, OSError) as error:
        sys.stderr.write(f"training failed: {error}\n")
        return 1
    sys.stdout.write(render(manifest))
    return 0


def render(manifest: Manifest) -> str:
    """Return the figures of a manifest as lines of text."""
    lines = [
        f"model {manifest.model}",
        f"  {', '.join(f'{name} {figure}' for name, figure in manifest.size.items())}",
        f"  threshold {manifest.threshold_ppm} ppm",
    ]
    for rows, figures in manifest.measured.items():
        lines.append(f"{rows}")
        for name, figure in figures.items():
            if name.endswith("_ppm"):
                shown = f"{figure // 10_000:3d}.{figure % 10_000 // 100:02d} %"
                lines.append(f"  {name.removesuffix('_ppm'):<26}{shown:>10}")
            else:
                lines.append(f"  {name:<26}{figure:>8}")
    return "\n".join(lines) + "\n"


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed <= SEED_MAX:
        raise argparse.ArgumentTypeError(f"a seed is 0 to {SEED_MAX}")
    return seed


if __name__ == "__main__":
    sys.exit(main())

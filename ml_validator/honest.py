"""The honest protocol: train on KDDTrain+ alone, choose thresholds there, look at the tests once.

KDDTest+ has 17 types of attack that KDDTrain+ has not, and other normal traffic. Accuracy flatters
there, for most of its rows are attacks; so false alarms and the precision to expect at a prevalence
of 1 % stand beside it. Nothing that a test file says enters a model or a threshold. Which recipe a
mode has is another question: docs/adr/0023-background-rows.md tells how each was chosen.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from ml_validator.artifact import Artifact
from ml_validator.detector import Detector
from ml_validator.evaluation import evaluate
from ml_validator.families import fit_families, say_families
from ml_validator.forest_training import DETECT, MODES, Mode, grow
from ml_validator.nsl_kdd import (
    FAMILIES,
    HARD_TEST_FILE,
    TEST_FILE,
    TEST_ONLY_FAMILIES,
    TRAIN_FILE,
    Record,
    check_genuine,
    file_digest,
    read_records,
)

SEEDS: Final = (42, 43, 44, 45, 46)
TESTS: Final = (TEST_FILE, HARD_TEST_FILE)

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one seed gave on one file of test rows; fractions of 1.

    Parameters
    ----------
    modes : mapping of str to dict of float
        For each mode ``accuracy``, ``f1``, ``fpr``, ``recall``, ``unseen_recall``, ``auc`` and
        ``precision_at_1pct``.
    families : dict of float
        ``accuracy`` and ``macro_f1`` over normal and four families of attacks.
    """

    seed: int
    file: str
    modes: Mapping[str, Figures]
    families: Figures


def run_all(
    data: Path, *, seeds: Sequence[int] = SEEDS, on_seed: Callable[[int], None] = lambda seed: None
) -> list[Run]:
    """Follow the protocol once for each seed, on the genuine files in folder `data`.

    Parameters
    ----------
    on_seed : callable, optional
        Told of each seed when it is done: one takes a minute or two.

    Raises
    ------
    MissingDataset, AlteredDataset, InvalidDataset
        A file is not there, not the genuine one or cannot be read.
    """
    for name in (TRAIN_FILE, *TESTS):
        check_genuine(data / name)
    training = list(read_records(data / TRAIN_FILE))
    tests = {name: list(read_records(data / name)) for name in TESTS}
    runs = []
    for seed in seeds:
        runs += run_seed(training, tests, seed=seed)
        on_seed(seed)
    return runs


def run_seed(
    training: Sequence[Record],
    tests: Mapping[str, Sequence[Record]],
    *,
    seed: int,
    modes: Mapping[str, Mode] = MODES,
) -> list[Run]:
    """Train on `training`, then measure on each of `tests`.

    Raises
    ------
    UntrainableData
        No training row is normal, or none is an attack.
    """
    artifacts = {
        name: grow(training, mode.shape(seed)).calibrate(mode.false_alarms_ppm).artifact
        for name, mode in modes.items()
    }
    families = fit_families(training, seed=seed)
    return [
        _measure(records, artifacts, families, seed=seed, file=file)
        for file, records in tests.items()
    ]


def summary(runs: Sequence[Run], *, data: Path) -> dict[str, Any]:
    """Return means and spreads over the seeds; KDDTest+ on top, KDDTest-21 under its name."""
    by_file = {file: [run for run in runs if run.file == file] for file in TESTS}
    return {
        **_summary(by_file[TEST_FILE]),
        HARD_TEST_FILE.removesuffix(".txt"): _summary(by_file[HARD_TEST_FILE]),
        "data": {name: file_digest(data / name) for name in (TRAIN_FILE, *TESTS)},
    }


def to_json(document: Mapping[str, Any]) -> str:
    """Return the document of `summary` as text."""
    return json.dumps(document, indent=2) + "\n"


def _measure(
    records: Sequence[Record],
    modes: Mapping[str, Artifact],
    families: Any,
    *,
    seed: int,
    file: str,
) -> Run:
    flows = [record.flow for record in records]
    attacks = np.array([record.is_attack for record in records])
    scores = {mode: Detector(artifact).judge(flows) for mode, artifact in modes.items()}
    figures = {}
    for mode, artifact in modes.items():
        found = evaluate(records, scores[mode], threshold_ppm=artifact.threshold_ppm)
        figures[mode] = {
            "accuracy": found.accuracy_ppm / 1e6,
            "f1": found.f1_ppm / 1e6,
            "fpr": found.false_positive_rate_ppm / 1e6,
            "recall": found.recall_ppm / 1e6,
            "unseen_recall": found.recall_of(TEST_ONLY_FAMILIES) / 1e6,
            "auc": float(roc_auc_score(attacks, scores[mode])),
            "precision_at_1pct": found.precision_at_one_percent_ppm / 1e6,
        }
    expected = np.array([record.family for record in records])
    anomalous = np.array(scores[DETECT]) >= modes[DETECT].threshold_ppm
    said = say_families(families, records, anomalous)
    return Run(
        seed=seed,
        file=file,
        modes=figures,
        families={
            "accuracy": float((expected == said).mean()),
            "macro_f1": float(
                f1_score(
                    expected, said, labels=sorted(set(FAMILIES.values())),
                    average="macro", zero_division=0,
                )
            ),
        },
    )  # fmt: skip


def _summary(runs: Sequence[Run]) -> dict[str, Any]:
    seeds = [run.seed for run in runs]
    return {
        "modes": {mode: _over_seeds([run.modes[mode] for run in runs], seeds) for mode in MODES},
        "families": _over_seeds([run.families for run in runs], seeds),
    }


def _over_seeds(figures: Sequence[Figures], seeds: Sequence[int]) -> dict[str, Any]:
    """Mean of each figure, its sample standard deviation under ``spread``, and the seeds."""
    columns = {name: [run[name] for run in figures] for name in figures[0]}
    return {
        **{name: round(fmean(values), 6) for name, values in columns.items()},
        "spread": {
            name: round(stdev(values), 6) if len(values) > 1 else 0.0
            for name, values in columns.items()
        },
        "seeds": list(seeds),
    }

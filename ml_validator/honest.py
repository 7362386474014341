"""The honest protocol: train on training rows alone, choose thresholds there, look at tests once.

KDDTest+ has 17 types of attack that KDDTrain+ has not, and other normal traffic. Accuracy flatters
there, for most of its rows are attacks; so false alarms and the precision to expect at a prevalence
of 1 % stand beside it. Nothing that a test file says enters a model or a threshold. Which recipe a
mode has is another question: docs/adr/0023-background-rows.md tells how each was chosen.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from ml_validator.artifact import Artifact
from ml_validator.detector import Detector
from ml_validator.evaluation import evaluate
from ml_validator.families import fit_families, say_families
from ml_validator.features import NSL_KDD_SCHEMA, FeatureSchema
from ml_validator.forest_training import DETECT, MODES, Mode, grow
from ml_validator.labelled import Labelled, unseen_labels
from ml_validator.nsl_kdd import HARD_TEST_FILE, TEST_FILE, read_dataset
from ml_validator.table_data import make_dataset
from ml_validator.tables import Layout, Table

SEEDS: Final = (42, 43, 44, 45, 46)
TESTS: Final = (TEST_FILE, HARD_TEST_FILE)

_RATES: Final = {
    "accuracy": "accuracy_ppm",
    "f1": "f1_ppm",
    "fpr": "false_positive_rate_ppm",
    "recall": "recall_ppm",
    "unseen_recall": "unseen_recall_ppm",
    "auc": "auc",
    "precision_at_1pct": "precision_at_one_percent_ppm",
}
"""Figures, and the rates of an evaluation that they are in parts per million; the area under the
curve is none of those."""

Figures = dict[str, float | None]
"""Fractions of 1; None where there is nothing to measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one seed gave on one set of test rows.

    Parameters
    ----------
    modes : mapping of str to dict of float
        For each mode ``accuracy``, ``f1``, ``fpr``, ``recall``, ``unseen_recall``, ``auc`` and
        ``precision_at_1pct``. ``unseen_recall`` is that of types of attack that do not occur in the
        training rows.
    families : dict of float
        ``accuracy`` and ``macro_f1`` over normal and the families of attacks that occur.
    unmeasured : mapping of str to str
        Why figures are None, where the rows tell nothing of them.
    """

    seed: int
    file: str
    modes: Mapping[str, Figures]
    families: Figures
    unmeasured: Mapping[str, str] = field(default_factory=dict)


def run_all(
    data: Path,
    *,
    seeds: Sequence[int] = SEEDS,
    traffic_only: bool = False,
    on_seed: Callable[[int], None] = lambda seed: None,
) -> list[Run]:
    """Follow the protocol once for each seed, on the genuine files in folder `data`.

    Parameters
    ----------
    traffic_only : bool
        Whether models do without what captures and logs cannot show.
    on_seed : callable, optional
        Told of each seed when it is done: one takes a minute or two.

    Raises
    ------
    MissingDataset, AlteredDataset, InvalidDataset
        A file is not there, not the genuine one or cannot be read.
    """
    dataset = read_dataset(data, tests=TESTS, traffic_only=traffic_only)
    runs = []
    for seed in seeds:
        runs += run_seed(dataset.training, dataset.tests, seed=seed)
        on_seed(seed)
    return runs


def run_tables(
    layout: Layout,
    training: Table,
    test: Table | None = None,
    *,
    seeds: Sequence[int] = SEEDS,
    on_seed: Callable[[int], None] = lambda seed: None,
) -> tuple[list[Run], dict[str, Any]]:
    """Follow the protocol on tables; without `test`, each seed sets rows of `training` aside.

    Returns
    -------
    list of Run
        One for each seed.
    dict
        What `make_dataset` found with the first seed.

    Raises
    ------
    UntrainableData, InvalidSchema
        Rows or columns are too few or too many.
    """
    runs = []
    first: dict[str, Any] = {}
    for seed in seeds:
        dataset, found = make_dataset(
            layout, training, test, split_seed=seed if test is None else None
        )
        first = first or found
        runs += run_seed(dataset.training, dataset.tests, seed=seed, schema=dataset.schema)
        on_seed(seed)
    return runs, first


def run_seed(
    training: Sequence[Labelled],
    tests: Mapping[str, Sequence[Labelled]],
    *,
    seed: int,
    schema: FeatureSchema = NSL_KDD_SCHEMA,
    modes: Mapping[str, Mode] = MODES,
) -> list[Run]:
    """Train on `training`, flows of `schema`, then measure on each of `tests`.

    Raises
    ------
    UntrainableData
        No training row is normal, or none is an attack.
    """
    artifacts = {
        name: grow(training, mode.shape(seed), schema=schema)
        .calibrate(mode.false_alarms_ppm)
        .artifact
        for name, mode in modes.items()
    }
    families = fit_families(training, seed=seed, schema=schema)
    return [
        _measure(training, records, artifacts, families, schema=schema, seed=seed, file=file)
        for file, records in tests.items()
    ]


def summary(runs: Sequence[Run], *, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return means and spreads over the seeds: the first test on top, others under their names.

    Where a test tells nothing of a figure it is None, and ``unmeasured`` says why.

    Parameters
    ----------
    digests : mapping of str to str
        SHA-256 in hex of the files that were read; they go under ``data``.
    """
    by_file: dict[str, list[Run]] = {}
    for run in runs:
        by_file.setdefault(run.file, []).append(run)
    first, *others = by_file
    return {
        **_summary(by_file[first]),
        **{Path(file).stem: _summary(by_file[file]) for file in others},
        "data": dict(digests),
    }


def to_json(document: Mapping[str, Any]) -> str:
    """Return the document of `summary` as text."""
    return json.dumps(document, indent=2) + "\n"


def _measure(
    training: Sequence[Labelled],
    records: Sequence[Labelled],
    modes: Mapping[str, Artifact],
    families: Any,
    *,
    schema: FeatureSchema,
    seed: int,
    file: str,
) -> Run:
    flows = [record.flow for record in records]
    attacks = np.array([record.is_attack for record in records])
    unseen = unseen_labels(records, training)
    scores = {mode: Detector(artifact).judge(flows) for mode, artifact in modes.items()}
    figures: dict[str, Figures] = {}
    unmeasured: dict[str, str] = {}
    for mode, artifact in modes.items():
        found = evaluate(records, scores[mode], threshold_ppm=artifact.threshold_ppm)
        rates = found.figures()
        if unseen:
            rates["unseen_recall_ppm"] = found.recall_of(unseen)
        figures[mode] = {
            name: None if (value := rates.get(rate)) is None else value / 1e6
            for name, rate in _RATES.items()
        }
        if len(set(attacks)) > 1:
            figures[mode]["auc"] = float(roc_auc_score(attacks, scores[mode]))
        reasons = found.unmeasured()
        unmeasured |= {name: reasons[rate] for name, rate in _RATES.items() if rate in reasons}
    if not unseen:
        unmeasured["unseen_recall"] = "training has every type of attack that there is"
    expected = np.array([record.family for record in records])
    anomalous = np.array(scores[DETECT]) >= modes[DETECT].threshold_ppm
    said = say_families(families, records, anomalous, schema=schema)
    return Run(
        seed=seed,
        file=file,
        modes=figures,
        families={
            "accuracy": float((expected == said).mean()),
            "macro_f1": float(
                f1_score(
                    expected, said,
                    labels=sorted({record.family for record in records}),
                    average="macro", zero_division=0,
                )
            ),
        },
        unmeasured=unmeasured,
    )  # fmt: skip


def _summary(runs: Sequence[Run]) -> dict[str, Any]:
    seeds = [run.seed for run in runs]
    return {
        "modes": {mode: _over_seeds([run.modes[mode] for run in runs], seeds) for mode in MODES},
        "families": _over_seeds([run.families for run in runs], seeds),
        **_unmeasured(runs),
    }


def _unmeasured(runs: Sequence[Run]) -> dict[str, Any]:
    """Say why figures are None with every seed, in at least one mode, where any is."""
    reasons: dict[str, str] = {}
    for run in runs:
        reasons |= run.unmeasured
    missing = {
        name: reason
        for name, reason in reasons.items()
        if any(all(run.modes[mode][name] is None for run in runs) for mode in MODES)
    }
    return {"unmeasured": missing} if missing else {}


def _over_seeds(figures: Sequence[Figures], seeds: Sequence[int]) -> dict[str, Any]:
    """Mean of each figure, its sample standard deviation under ``spread``, and the seeds.

    None where no seed has the figure, or one has and shows no spread; the others are over the seeds
    that have it.
    """
    columns = {
        name: [value for run in figures if (value := run[name]) is not None] for name in figures[0]
    }
    return {
        **{name: round(fmean(values), 6) if values else None for name, values in columns.items()},
        "spread": {name: _spread(values) for name, values in columns.items()},
        "seeds": list(seeds),
    }


def _spread(values: Sequence[float]) -> float | None:
    return round(stdev(values), 6) if len(values) > 1 else None

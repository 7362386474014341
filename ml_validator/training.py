"""Making models from a data set, those that come with the package among them.

``securenet model train --data DATA --out FOLDER --seed 42`` trains on KDDTrain+, prints what each
model does on KDDTest+ and writes artefacts and manifests. The test file is read after the models
and their thresholds stand, and decides nothing.

This and `forest_training`, `linear_training` and `families` need scikit-learn; no node imports
them.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import sklearn

from ml_validator.artifact import Artifact
from ml_validator.calibration import RULE
from ml_validator.detector import Detector
from ml_validator.errors import UntrainableData
from ml_validator.evaluation import Evaluation, evaluate
from ml_validator.forest_training import DETECT, LOW_FALSE_ALARM, MODES, SMALL, Trained, grow
from ml_validator.labelled import Dataset, Labelled, unseen_labels
from ml_validator.linear_training import FALSE_ALARMS_PPM, FOLDS, fit_linear
from ml_validator.manifest import MANIFEST_SIZE_MAX, Manifest, manifest_of
from ml_validator.nsl_kdd import TEST_FILE, read_dataset

COMMAND: Final = "securenet model train --data DATA --out FOLDER"
_FORESTS: Final = {
    "forest-low-false-alarm": LOW_FALSE_ALARM,
    "forest": DETECT,
    "forest-small": SMALL,
}
_LINEAR: Final = "linear"
KINDS: Final = (*_FORESTS, _LINEAR)
"""What the models of a data set are called behind its name."""

Made = tuple[Artifact, Manifest]


def train(
    data: Path,
    *,
    seed: int,
    traffic_only: bool = False,
    kinds: Sequence[str] = KINDS,
    on_begin: Callable[[str], None] = lambda _: None,
) -> list[Made]:
    """Make models from the genuine KDDTrain+ in folder `data`; measure them on its KDDTest+.

    Parameters
    ----------
    traffic_only : bool
        Whether models do without what captures and logs cannot show.
    kinds : sequence of str
        Which of `KINDS`.
    on_begin : callable
        Gets the name of each model before it is trained.

    Raises
    ------
    MissingDataset, AlteredDataset, InvalidDataset
        A file is not there, not the genuine one or cannot be read.
    """
    dataset = read_dataset(data, tests=(TEST_FILE,), traffic_only=traffic_only)
    command = COMMAND + (" --traffic-only" if traffic_only else "")
    return train_on(dataset, seed=seed, command=command, kinds=kinds, on_begin=on_begin)


def train_on(
    dataset: Dataset,
    *,
    seed: int,
    command: str,
    kinds: Sequence[str] = KINDS,
    on_begin: Callable[[str], None] = lambda _: None,
) -> list[Made]:
    """Make models from the training rows of `dataset`, then measure them on its tests.

    Parameters
    ----------
    command : str
        What manifests say has made the models, without the seed: that which makes all of them.
    kinds : sequence of str
        Which of `KINDS`; the others change nothing about it.
    on_begin : callable
        As for `train`.

    Raises
    ------
    UntrainableData
        No model can be made, or none that a manifest can describe.
    """
    records, schema = dataset.training, dataset.schema
    # Before minutes of work: names are nearly all that there is to a manifest.
    _require_room(dataset.name, json.dumps(schema.column_names))
    trained: list[tuple[str, Trained, int, dict[str, int]]] = []
    for name, mode in _FORESTS.items():
        if name not in kinds:
            continue
        on_begin(f"{dataset.name}-{name}")
        settings, share = MODES[mode].shape(seed), MODES[mode].false_alarms_ppm
        forest = grow(records, settings, schema=schema).calibrate(share)
        shape = {
            "trees": settings.trees,
            "trees_grown": settings.trees_grown,
            "leaves_max": forest.leaves_max or 0,
            "leaf_rows_min": settings.leaf_rows_min,
            "background_ppm": settings.background_ppm,
            "weighs_types": int(settings.weighs_types),
        }
        trained.append((name, forest, share, shape))
    if _LINEAR in kinds:
        on_begin(f"{dataset.name}-{_LINEAR}")
        linear = fit_linear(records, seed=seed, schema=schema)
        trained.append((_LINEAR, linear, FALSE_ALARMS_PPM, {"folds": FOLDS}))
    return [
        _describe(
            f"{dataset.name}-{name}",
            model,
            dataset,
            {"seed": seed} | shape,
            command=f"{command} --seed {seed}",
            false_alarms_ppm=share,
        )
        for name, model, share, shape in trained
    ]


def judge(artifact: Artifact, records: Sequence[Labelled]) -> Evaluation:
    """Evaluate a model on labelled rows."""
    scores = Detector(artifact).judge([record.flow for record in records])
    return evaluate(records, scores, threshold_ppm=artifact.threshold_ppm)


def files_of(dataset: str, folder: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Return the files that `write` makes of the models of the data set with this name."""
    return [
        folder / f"{dataset}-{kind}.{suffix}"
        for kind in kinds
        for suffix in ("safetensors", "json")
    ]


def write(made: Sequence[Made], folder: Path) -> None:
    """Write artefacts and manifests under the names of the models."""
    folder.mkdir(parents=True, exist_ok=True)
    for artifact, manifest in made:
        (folder / f"{manifest.name}.safetensors").write_bytes(artifact.data)
        (folder / f"{manifest.name}.json").write_text(manifest.to_json(), encoding="utf-8")


def _describe(
    name: str,
    trained: Trained,
    dataset: Dataset,
    settings: dict[str, int],
    *,
    command: str,
    false_alarms_ppm: int,
) -> Made:
    artifact = trained.artifact
    measured = {f"{dataset.training_name}, out-of-bag": trained.out_of_bag.figures()}
    for test, records in dataset.tests.items():
        found = judge(artifact, records)
        measured[test] = found.figures()
        if unseen := unseen_labels(records, dataset.training):
            measured[test] |= {
                "unseen_rows": sum(found.rows_by_label[label] for label in unseen),
                "unseen_recall_ppm": found.recall_of(unseen),
            }
    manifest = manifest_of(
        artifact,
        name=name,
        rule=RULE,
        false_alarms_ppm=false_alarms_ppm,
        command=command,
        settings=settings,
        data=dataset.digests,
        libraries={"scikit-learn": sklearn.__version__},
        measured=measured,
    )
    _require_room(name, manifest.to_json())
    return artifact, manifest


def _require_room(name: str, text: str) -> None:
    """Make sure that a manifest, or what is to go into it, is not too large for one."""
    if len(text.encode()) > MANIFEST_SIZE_MAX:
        raise UntrainableData(
            f"the manifest of {name} has more than {MANIFEST_SIZE_MAX} bytes: there are too many"
            " columns, or values of categories"
        )


def render(manifest: Manifest) -> str:
    """Return the figures of a manifest as lines of text."""
    lines = [
        f"{manifest.name} {manifest.model}",
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

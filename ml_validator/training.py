"""Making the models that come with the package, and writing them down.

``securenet model train --data DATA --out FOLDER --seed 42``, or the same options to ``python -m
ml_validator.training``, trains on KDDTrain+, prints what each model does on KDDTest+ and writes
artefacts and manifests. The test file is read after the models and their thresholds stand, and
decides nothing.

This and `forest_training`, `linear_training` and `families` need scikit-learn; no node imports
them.
"""

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import sklearn

from chain.errors import SecureNetError
from ml_validator.artifact import Artifact
from ml_validator.bundled import BUNDLED_NAME, DETECT_NAME, LINEAR_NAME, SMALL_NAME
from ml_validator.calibration import RULE
from ml_validator.detector import Detector
from ml_validator.evaluation import Evaluation, evaluate
from ml_validator.forest_training import DETECT, LOW_FALSE_ALARM, MODES, SMALL, Trained, grow
from ml_validator.linear_training import FALSE_ALARMS_PPM, FOLDS, fit_linear
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

SEED_MAX: Final = 2**32 - 1
FIRST_SEED: Final = 42
MODE_OF: Final = {BUNDLED_NAME: LOW_FALSE_ALARM, DETECT_NAME: DETECT, SMALL_NAME: SMALL}

Made = tuple[Artifact, Manifest]


def train(data: Path, *, seed: int) -> list[Made]:
    """Make every model from the genuine KDDTrain+ in folder `data`; measure them on its KDDTest+.

    Raises
    ------
    MissingDataset, AlteredDataset, InvalidDataset
        A file is not there, not the genuine one or cannot be read.
    """
    for name in (TRAIN_FILE, TEST_FILE):
        check_genuine(data / name)
    records = list(read_records(data / TRAIN_FILE))
    trained: list[tuple[str, Trained, int, dict[str, int]]] = []
    for name, mode in MODE_OF.items():
        settings, share = MODES[mode].shape(seed), MODES[mode].false_alarms_ppm
        shape = {
            "trees": settings.trees,
            "trees_grown": settings.trees_grown,
            "leaves_max": settings.leaves_max or 0,
            "leaf_rows_min": settings.leaf_rows_min,
            "background_ppm": settings.background_ppm,
            "weighs_types": int(settings.weighs_types),
        }
        trained.append((name, grow(records, settings).calibrate(share), share, shape))
    linear = fit_linear(records, seed=seed)
    trained.append((LINEAR_NAME, linear, FALSE_ALARMS_PPM, {"folds": FOLDS}))
    tests = list(read_records(data / TEST_FILE))
    return [
        _describe(name, model, data, tests, {"seed": seed} | shape, false_alarms_ppm=share)
        for name, model, share, shape in trained
    ]


def judge(artifact: Artifact, records: Sequence[Record]) -> Evaluation:
    """Evaluate a model on labelled rows."""
    scores = Detector(artifact).judge([record.flow for record in records])
    return evaluate(records, scores, threshold_ppm=artifact.threshold_ppm)


def write(made: Sequence[Made], folder: Path) -> None:
    """Write artefacts and manifests under the names of the models."""
    folder.mkdir(parents=True, exist_ok=True)
    for artifact, manifest in made:
        (folder / f"{manifest.name}.safetensors").write_bytes(artifact.data)
        (folder / f"{manifest.name}.json").write_text(manifest.to_json(), encoding="utf-8")


def _describe(
    name: str,
    trained: Trained,
    data: Path,
    tests: Sequence[Record],
    settings: dict[str, int],
    *,
    false_alarms_ppm: int,
) -> Made:
    artifact = trained.artifact
    test = judge(artifact, tests)
    unseen = sorted(TEST_ONLY_FAMILIES)
    return artifact, Manifest(
        format=FORMAT,
        name=name,
        model=artifact.digest.hex(),
        schema=artifact.schema.digest.hex(),
        features=list(artifact.schema.column_names),
        threshold_ppm=artifact.threshold_ppm,
        calibration={"rule": RULE, "false_alarms_max_ppm": false_alarms_ppm},
        command=f"securenet model train --data DATA --out FOLDER --seed {settings['seed']}",
        settings=settings,
        data={file: file_digest(data / file) for file in (TRAIN_FILE, TEST_FILE)},
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print the figures and write the models; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ml_validator.training",
        description="Train detectors on NSL-KDD's KDDTrain+ and measure them on KDDTest+.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the NSL-KDD files")
    parser.add_argument("--out", type=Path, required=True, help="folder the models are written to")
    parser.add_argument("--seed", type=_seed, default=FIRST_SEED, help="of chance (default 42)")
    options = parser.parse_args(arguments)
    try:
        made = train(options.data, seed=options.seed)
        write(made, options.out)
    except (SecureNetError, OSError) as error:
        sys.stderr.write(f"training failed: {error}\n")
        return 1
    for _, manifest in made:
        sys.stdout.write(render(manifest))
    return 0


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


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed <= SEED_MAX:
        raise argparse.ArgumentTypeError(f"a seed is 0 to {SEED_MAX}")
    return seed


if __name__ == "__main__":
    sys.exit(main())

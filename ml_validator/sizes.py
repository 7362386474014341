"""How small a forest may be: trees and leaves, what they take, and what is lost.

All sizes have the recipe of the mode *small*; which that is, and which size, was chosen by leaving
types of attack out of training (`left_out`). The figures on the test file are a finding, and choose
nothing. docs/adr/0024-small-forest.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from ml_validator.export import to_c
from ml_validator.forest_training import MODES, SMALL, Settings, grow
from ml_validator.left_out import Found, make_trials, try_out
from ml_validator.nsl_kdd import (
    TEST_FILE,
    TEST_ONLY_FAMILIES,
    TRAIN_FILE,
    Record,
    check_genuine,
    file_digest,
    read_records,
)
from ml_validator.training import judge

BYTES_MAX: Final = 32 * 1024
"""What a small device has for a model."""

TREES: Final = (4, 8, 16, 32)
LEAVES: Final = (42, 84, 168, 336)
"""Doubling one and halving the other takes as many bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A forest of one size; rates are fractions of 1.

    Parameters
    ----------
    trees, leaves_max : int
        What was asked for.
    bytes, c_bytes : int
        Of the artefact, and of the tables of its C file.
    accuracy, f1, fpr, unseen_recall : float
        On KDDTest+.
    left_out : Found or None
        What it does with types and normal rows left out of KDDTrain+, if that was asked for.
    """

    trees: int
    leaves_max: int
    bytes: int
    c_bytes: int
    accuracy: float
    f1: float
    fpr: float
    unseen_recall: float
    left_out: Found | None


def measure_sizes(
    data: Path,
    *,
    seed: int,
    leave_out: bool = False,
    trees: Sequence[int] = TREES,
    leaves: Sequence[int] = LEAVES,
    on_size: Callable[[Size], None] = lambda size: None,
) -> list[Size]:
    """Train forests of all sizes on the genuine KDDTrain+ in `data`; measure them on KDDTest+.

    Parameters
    ----------
    leave_out : bool
        Whether each size is also tried with types left out, which takes four times as long.
    on_size : callable, optional
        Told of each size when it is done.

    Raises
    ------
    MissingDataset, AlteredDataset, InvalidDataset
        A file is not there, not the genuine one or cannot be read.
    UntrainableData
        No forest can be made of the rows.
    """
    for name in (TRAIN_FILE, TEST_FILE):
        check_genuine(data / name)
    training = list(read_records(data / TRAIN_FILE))
    tests = list(read_records(data / TEST_FILE))
    trials = make_trials(training, seed=seed) if leave_out else []
    mode = MODES[SMALL]
    sizes = []
    for tree_count in trees:
        for leaf_count in leaves:
            settings = replace(mode.shape(seed), trees=tree_count, leaves_max=leaf_count)
            left_out = None
            if trials:
                shares = [mode.false_alarms_ppm]
                left_out = try_out(trials, settings, false_alarms_ppm=shares)[shares[0]]
            size = _measure(training, tests, settings, left_out)
            on_size(size)
            sizes.append(size)
    return sizes


def summary(sizes: Sequence[Size], *, data: Path, seed: int) -> dict[str, Any]:
    """Return the document for scripts."""
    chosen = MODES[SMALL].shape(seed)
    return {
        "bytes_max": BYTES_MAX,
        "chosen": {"trees": chosen.trees, "leaves_max": chosen.leaves_max},
        "seed": seed,
        "sizes": [
            asdict(size) | {"left_out": size.left_out.figures() if size.left_out else None}
            for size in sizes
        ],
        "data": {name: file_digest(data / name) for name in (TRAIN_FILE, TEST_FILE)},
    }


def _measure(
    training: Sequence[Record],
    tests: Sequence[Record],
    settings: Settings,
    left_out: Found | None,
) -> Size:
    artifact = grow(training, settings).calibrate(MODES[SMALL].false_alarms_ppm).artifact
    said = judge(artifact, tests)
    assert settings.leaves_max is not None, "the mode small bounds its leaves"
    return Size(
        trees=settings.trees,
        leaves_max=settings.leaves_max,
        bytes=len(artifact.data),
        c_bytes=to_c(artifact, name=SMALL).table_bytes,
        accuracy=said.accuracy_ppm / 1e6,
        f1=said.f1_ppm / 1e6,
        fpr=said.false_positive_rate_ppm / 1e6,
        unseen_recall=said.recall_of(TEST_ONLY_FAMILIES) / 1e6,
        left_out=left_out,
    )

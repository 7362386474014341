"""From a folder with NSL-KDD to a report."""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2
import matplotlib as mpl
import numpy as np
import sklearn

from ml_validator.nsl_kdd import TRAIN_FILE, check_genuine, file_digest, read_records
from ml_validator.report.description import describe
from ml_validator.report.document import Report
from ml_validator.report.protocol import SEEDS, Run, run_all


def make_report(
    data: Path, *, seeds: Sequence[int] = SEEDS, on_run: Callable[[Run], None] = lambda run: None
) -> Report:
    """Do the paper's experiment on the genuine KDDTrain+ in folder `data`.

    Parameters
    ----------
    on_run : callable, optional
        Told of each of the runs as it ends.

    Raises
    ------
    MissingDataset, AlteredDataset, InvalidDataset
        The file is not there, not the genuine one or cannot be read.
    """
    path = data / TRAIN_FILE
    check_genuine(path)
    records = list(read_records(path))
    return Report(
        data={TRAIN_FILE: file_digest(path)},
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "matplotlib": mpl.__version__,
            "jinja2": jinja2.__version__,
        },
        description=describe(records),
        runs=run_all(records, seeds=seeds, on_run=on_run),
    )

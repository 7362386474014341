import os
from pathlib import Path

import pytest

from ml_validator.artifact import Artifact
from ml_validator.forest_training import Settings, Trained, grow
from ml_validator.nsl_kdd import Record
from ml_validator.synthetic import generate_mixture

SMALL_LEAVES_MAX = 32
SMALL = Settings(seed=3, trees=9, leaves_max=SMALL_LEAVES_MAX)
FALSE_ALARMS_PPM = 20_000


@pytest.fixture(scope="session")
def small_records() -> list[Record]:
    return generate_mixture(150, seed=1)


@pytest.fixture(scope="session")
def small_trained(small_records: list[Record]) -> Trained:
    return grow(small_records, SMALL).calibrate(FALSE_ALARMS_PPM)


@pytest.fixture(scope="session")
def small_model(small_trained: Trained) -> Artifact:
    return small_trained.artifact


@pytest.fixture(scope="session")
def nsl_kdd_folder() -> Path:
    folder = os.environ.get("SECURENET_NSL_KDD")
    if not folder:
        pytest.skip("SECURENET_NSL_KDD does not name the folder of the NSL-KDD files")
    return Path(folder)

"""``securenet model sizes``: what it shows and refuses."""

import pytest

from cli.exit_codes import ExitCode
from ml_validator import sizes
from ml_validator.nsl_kdd import TRAIN_FILE, write_records
from ml_validator.synthetic import generate_mixture
from tests.unit.ml_validator.test_sizes import data

__all__ = ["data"]


@pytest.fixture(autouse=True)
def few_sizes(monkeypatch):
    everything = sizes.measure_sizes
    monkeypatch.setattr(
        sizes,
        "measure_sizes",
        lambda data, **options: everything(data, trees=(4,), leaves=(8, 16), **options),
    )


def test_scripts_get_every_size_and_the_one_that_ships(securenet, data):
    ended = securenet("model", "sizes", "--data", data, "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert ended.document["chosen"] == {"trees": 16, "leaves_max": 168}
    assert [size["leaves_max"] for size in ended.document["sizes"]] == [8, 16]
    assert {"bytes", "c_bytes", "accuracy", "fpr"} <= ended.document["sizes"][0].keys()
    assert ended.document["sizes"][0]["left_out"] is None


def test_people_get_a_table_with_what_was_left_out(securenet, data):
    ended = securenet("model", "sizes", "--data", data, "--left-out")

    assert ended.code == ExitCode.OK, ended.err
    assert "left out: by type" in ended.out
    assert "nsl-kdd-forest-small" in ended.out


def test_files_that_are_not_the_genuine_ones_are_refused(securenet, tmp_path):
    write_records(tmp_path / TRAIN_FILE, generate_mixture(2, seed=1))

    ended = securenet("model", "sizes", "--data", tmp_path)

    assert ended.code == ExitCode.USAGE
    assert "genuine" in ended.err

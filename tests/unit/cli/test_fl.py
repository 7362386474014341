"""``securenet fl compare`` and ``fl bench``: what they print, and what they refuse."""

import pytest

from cli.exit_codes import ExitCode
from ml_validator import nsl_kdd
from ml_validator.federated import benchmark
from ml_validator.federated.benchmark import Measured
from ml_validator.nsl_kdd import TEST_FILE, TRAIN_FILE, file_digest, write_records
from ml_validator.synthetic import generate_mixture


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Small files that pass for the genuine ones."""
    for seed, name in enumerate((TRAIN_FILE, TEST_FILE)):
        write_records(tmp_path / name, generate_mixture(120, seed=seed))
    digests = {name: file_digest(tmp_path / name) for name in (TRAIN_FILE, TEST_FILE)}
    monkeypatch.setattr(nsl_kdd, "GENUINE_DIGESTS", {**nsl_kdd.GENUINE_DIGESTS, **digests})
    return tmp_path


def test_three_ways_are_compared(securenet, data):
    ended = securenet(
        *("fl", "compare", "--data", data, "--clients", 3, "--alpha", 1, "--rounds", 3),
        *("--seeds", 2, "--out", data / "out", "--json"),
    )

    assert ended.code == ExitCode.OK, ended.err
    rows = ended.document["results"]
    ways = ("central", "federated", "alone")
    assert [(row["model"], row["way"]) for row in rows] == [
        (model, way) for model in ("linear", "network", "forest") for way in ways
    ]
    assert all(0 < row["accuracy"] <= 1 and 0 < row["macro_f1"] <= 1 for row in rows)
    assert all(row["bytes_moved"] == 0 for row in rows if row["way"] == "alone")
    assert "every row" in rows[0]["sees"]["the server"]
    assert len(ended.document["runs"]) == 18
    assert (data / "out" / "compare.svg").read_text().startswith("<?xml")
    assert (data / "out" / "compare.json").exists()


def test_people_read_who_could_see_what(securenet, data):
    ended = securenet("fl", "compare", "--data", data, "--clients", 2, "--rounds", 1)

    assert ended.code == ExitCode.OK, ended.err
    assert "who could see what" in ended.out
    assert "no single update" in ended.out


def test_rows_too_few_for_so_many_are_refused(securenet, data):
    ended = securenet("fl", "compare", "--data", data, "--clients", 100, "--rounds", 1)

    assert ended.code == ExitCode.USAGE
    assert "cannot be dealt to 100 organisations" in ended.err


@pytest.mark.parametrize("command", ["compare", "bench"])
def test_files_that_are_not_the_genuine_ones_are_refused(securenet, tmp_path, command):
    write_records(tmp_path / TRAIN_FILE, generate_mixture(2, seed=1))

    ended = securenet("fl", command, "--data", tmp_path)

    assert ended.code == ExitCode.USAGE
    assert "genuine" in ended.err


def test_a_missed_target_is_named_and_fails(securenet, data, monkeypatch):
    def part(task, test, seed, clock):
        del task, test, clock
        return [
            Measured(name="seen", value=float(seed)),
            Measured(name="reached", value=2.0, at_least=1.0),
            Measured(name="too slow", value=3.0, at_most=2.0),
            Measured(name="never", value=float("nan"), at_least=1.0),
        ]

    monkeypatch.setattr(benchmark, "PARTS", (part,))
    monkeypatch.setattr(benchmark, "CLIENTS", 2)

    ended = securenet("fl", "bench", "--data", data, "--seeds", 2)

    assert ended.code == ExitCode.MISSED
    assert "missed: too slow; never" in ended.err
    assert "1 of 3 targets reached, 2 seeds" in ended.out
    assert "42.50" in ended.out

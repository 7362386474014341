"""``securenet model report``: what it needs, what it writes, what it refuses."""

import json

import pytest

from cli.commands import model_report
from cli.exit_codes import ExitCode
from ml_validator import nsl_kdd
from ml_validator.nsl_kdd import TRAIN_FILE, file_digest, write_records
from tests.unit.ml_validator.report.test_protocol import RECORDS


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A small training file that passes for the genuine one."""
    path = tmp_path / TRAIN_FILE
    write_records(path, RECORDS)
    genuine = {**nsl_kdd.GENUINE_DIGESTS, TRAIN_FILE: file_digest(path)}
    monkeypatch.setattr(nsl_kdd, "GENUINE_DIGESTS", genuine)
    return tmp_path


def test_the_report_is_written_and_summed_up(securenet, data, tmp_path):
    ended = securenet("model", "report", "--data", data, "--out", tmp_path / "o", "--seeds", 1)

    assert ended.code == ExitCode.OK
    assert "random forest" in ended.out
    document = json.loads((tmp_path / "o" / "report.json").read_text())
    assert document["data"] == {TRAIN_FILE: file_digest(data / TRAIN_FILE)}
    assert len(document["runs"]) == 4
    assert document["adversaries"] is None
    page = (tmp_path / "o" / "report.html").read_text()
    assert "<svg" in page
    assert "Evasion" not in page


def test_scripts_get_table_2_as_json(securenet, data, tmp_path):
    ended = securenet(
        "model", "report", "--data", data, "--out", tmp_path / "o", "--seeds", 1, "--json"
    )

    assert [row["model"] for row in ended.document["table_2"]] == [
        *["random forest"] * 2,
        *["logistic regression"] * 2,
    ]


def test_a_file_that_is_not_the_genuine_one_is_refused(securenet, tmp_path):
    write_records(tmp_path / TRAIN_FILE, RECORDS)

    ended = securenet("model", "report", "--data", tmp_path, "--out", tmp_path / "o")

    assert ended.code == ExitCode.USAGE
    assert "genuine" in ended.err
    assert list((tmp_path / "o").iterdir()) == []


def test_missing_libraries_are_named_with_what_installs_them(securenet, tmp_path, monkeypatch):
    monkeypatch.setattr(model_report, "_LIBRARIES", ("jinja2", "no_such_library"))

    ended = securenet("model", "report", "--data", tmp_path)

    assert ended.code == ExitCode.FAILED
    assert "no_such_library" in ended.err
    assert ".[report]" in ended.err


def test_a_place_that_cannot_be_made_is_told_before_the_work(securenet, data, tmp_path):
    (tmp_path / "file").touch()

    ended = securenet("model", "report", "--data", data, "--out", tmp_path / "file" / "o")

    assert ended.code == ExitCode.USAGE
    assert str(tmp_path / "file") in ended.err

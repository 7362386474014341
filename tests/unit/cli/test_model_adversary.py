"""``securenet model adversary`` and ``report --adversary``: what they show and refuse."""

import json

import pytest

from cli.commands import model_adversary
from cli.exit_codes import ExitCode
from ml_validator import adversaries, nsl_kdd
from ml_validator.bundled import LINEAR_NAME
from ml_validator.nsl_kdd import TEST_FILE, TRAIN_FILE, file_digest, write_records
from ml_validator.synthetic import generate_mixture
from tests.unit.ml_validator.report.test_protocol import RECORDS


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Small files that pass for the genuine ones."""
    write_records(tmp_path / TEST_FILE, generate_mixture(60, seed=1))
    write_records(tmp_path / TRAIN_FILE, RECORDS)
    digests = {name: file_digest(tmp_path / name) for name in (TRAIN_FILE, TEST_FILE)}
    monkeypatch.setattr(nsl_kdd, "GENUINE_DIGESTS", {**nsl_kdd.GENUINE_DIGESTS, **digests})
    return tmp_path


def test_scripts_get_robust_recall_of_each_detector_by_attacker_and_budget(securenet, data):
    ended = securenet("model", "adversary", "--data", data, "--attacks", 6, "--json")

    assert ended.code == ExitCode.OK, ended.err
    found = ended.document
    assert list(found["detectors"]) == [*adversaries.COMPARED, adversaries.TOGETHER]
    assert found["detectors"][LINEAR_NAME]["padding"]["attacks"] == 6
    assert found["detectors"][LINEAR_NAME]["mixing"]["by_search"].keys() == {"1", "10", "100"}
    assert found["attackers"]["padding"][0] == {
        "name": "duration",
        "step": 1,
        "value_max": 2**31 - 1,
        "both_ways": False,
    }


def test_people_get_a_table_of_the_models_they_name(securenet, data):
    ended = securenet(
        *("model", "adversary", "--data", data, "--attacks", 4, "--model", LINEAR_NAME)
    )

    assert ended.code == ExitCode.OK, ended.err
    assert ended.out.count(LINEAR_NAME) == 2
    assert "budget 100" in ended.out
    assert adversaries.TOGETHER not in ended.out


def test_the_report_has_a_section_on_evasion_if_it_is_asked_for(
    securenet, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(adversaries, "ATTACKS", 4)
    out = tmp_path / "o"

    ended = securenet("model", "report", "--data", data, "--out", out, "--seeds", 1, "--adversary")

    assert ended.code == ExitCode.OK, ended.err
    document = json.loads((out / "report.json").read_text())["adversaries"]
    assert list(document["detectors"]) == [*adversaries.COMPARED, adversaries.TOGETHER]
    page = (out / "report.html").read_text()
    assert "Evasion" in page
    assert "robust, budget 100" in page


def test_a_missing_toolbox_is_named_with_what_installs_it(securenet, tmp_path, monkeypatch):
    monkeypatch.setattr(model_adversary, "find_spec", lambda name: None)

    for command in ("adversary", "report"):
        flags = ("--adversary",) if command == "report" else ()
        ended = securenet("model", command, "--data", tmp_path, *flags)
        assert ended.code == ExitCode.FAILED
        assert ".[adversary]" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "genuine"),
        (("--model", "no-such-model"), "no model and no file"),
        (("--attacks", 0), "--attacks"),
    ],
)
def test_what_cannot_be_attacked_is_refused_in_one_line(securenet, tmp_path, arguments, said):
    write_records(tmp_path / TEST_FILE, generate_mixture(2, seed=1))

    ended = securenet("model", "adversary", "--data", tmp_path, *arguments)

    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert len(ended.err.splitlines()) == 2

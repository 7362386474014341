"""``securenet model train`` and ``model evaluate``: what they write and say, what they refuse."""

from pathlib import Path

import pytest

from cli.exit_codes import ExitCode
from ml_validator import forest_training, nsl_kdd
from ml_validator.artifact import load_artifact
from ml_validator.bundled import BUNDLED_NAMES
from ml_validator.detector import Detector
from ml_validator.manifest import load_manifest
from ml_validator.nsl_kdd import (
    HARD_TEST_FILE,
    TEST_FILE,
    TRAIN_FILE,
    file_digest,
    without_content,
    write_records,
)
from ml_validator.synthetic import generate_mixture

FILES = (TRAIN_FILE, TEST_FILE, HARD_TEST_FILE)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Small files that pass for the genuine ones."""
    for seed, name in enumerate(FILES):
        write_records(tmp_path / name, generate_mixture(60, seed=seed))
    digests = {name: file_digest(tmp_path / name) for name in FILES}
    monkeypatch.setattr(nsl_kdd, "GENUINE_DIGESTS", {**nsl_kdd.GENUINE_DIGESTS, **digests})
    return tmp_path


def test_trained_models_load_and_are_described(securenet, data, tmp_path):
    out = tmp_path / "models"

    ended = securenet("model", "train", "--data", data, "--out", out, "--seed", 5, "--json")

    assert ended.code == ExitCode.OK
    assert [made["name"] for made in ended.document] == list(BUNDLED_NAMES)
    assert ended.err.splitlines() == [f"• training {name}" for name in BUNDLED_NAMES]
    for name in BUNDLED_NAMES:
        artifact = load_artifact((out / f"{name}.safetensors").read_bytes())
        manifest = load_manifest((out / f"{name}.json").read_bytes())
        manifest.check(artifact)
        assert manifest.settings["seed"] == 5


def test_models_of_traffic_alone_read_no_content(securenet, data, tmp_path):
    out = tmp_path / "models"

    ended = securenet("model", "train", "--data", data, "--out", out, "--traffic-only", "--json")

    assert ended.code == ExitCode.OK
    flows = [record.flow for record in generate_mixture(20, seed=3)]
    silent = [without_content(record).flow for record in generate_mixture(20, seed=3)]
    assert flows != silent
    for made in ended.document:
        assert made["name"].startswith("nsl-kdd-traffic-")
        detector = Detector(load_artifact(Path(made["file"]).read_bytes()))
        assert detector.judge(flows) == detector.judge(silent)


def test_an_evaluation_of_traffic_alone_has_the_same_form(securenet, data):
    arguments = ("--data", data, "--seeds", 1, "--traffic-only", "--json")

    ended = securenet("model", "evaluate", *arguments)

    assert ended.code == ExitCode.OK
    assert ended.document["modes"]["detect"]["seeds"] == [42]


def test_training_for_people_says_what_was_measured(securenet, data, tmp_path):
    ended = securenet("model", "train", "--data", data, "--out", tmp_path / "models")

    assert ended.code == ExitCode.OK
    lines = ended.out.splitlines()
    named = [line.split()[0] for line in lines if line.startswith("nsl-kdd")]
    assert named == list(BUNDLED_NAMES)
    assert sum("false_positive_rate" in line for line in lines) == 2 * len(BUNDLED_NAMES)


@pytest.mark.parametrize(
    ("options", "name"),
    [((), "nsl-kdd-linear.json"), (("--traffic-only",), "nsl-kdd-traffic-forest.safetensors")],
)
def test_models_that_are_there_are_not_overwritten(securenet, data, tmp_path, options, name):
    (tmp_path / name).write_text("mine")

    ended = securenet("model", "train", "--data", data, "--out", tmp_path, *options)

    assert ended.code == ExitCode.ALREADY_THERE
    assert "training" not in ended.err
    assert [path.read_text() for path in tmp_path.glob("nsl-kdd*-*")] == ["mine"]


def test_a_folder_that_cannot_be_written_is_refused(securenet, data, tmp_path):
    (tmp_path / "taken").write_text("a file")

    ended = securenet("model", "train", "--data", data, "--out", tmp_path / "taken")

    assert ended.code == ExitCode.USAGE
    assert "cannot be written" in ended.err


def test_scripts_get_the_figures_of_every_mode(securenet, data):
    ended = securenet("model", "evaluate", "--data", data, "--seeds", 2, "--json")

    assert ended.code == ExitCode.OK
    assert ended.document["modes"].keys() == forest_training.MODES.keys()
    for mode in ended.document["modes"].values():
        assert mode["seeds"] == [42, 43]
        assert {
            *("accuracy", "f1", "fpr", "unseen_recall", "auc", "precision_at_1pct", "spread"),
        } <= mode.keys()
    assert {"accuracy", "macro_f1"} <= ended.document["families"].keys()
    assert "modes" in ended.document["KDDTest-21"]


def test_people_get_a_table_for_each_test_file(securenet, data):
    ended = securenet("model", "evaluate", "--data", data, "--seeds", 1)

    assert ended.code == ExitCode.OK
    assert TEST_FILE in ended.out
    assert HARD_TEST_FILE in ended.out
    assert "low_false_alarm" in ended.out
    assert "macro F1" in ended.out
    assert "±" not in ended.out, "one seed shows no spread"


@pytest.mark.parametrize("command", [("train", "--out", "o"), ("evaluate",)])
def test_files_that_are_not_the_genuine_ones_are_refused(securenet, tmp_path, command):
    write_records(tmp_path / TRAIN_FILE, generate_mixture(2, seed=1))

    ended = securenet("model", command[0], "--data", tmp_path, *command[1:])

    assert ended.code == ExitCode.USAGE
    assert "genuine" in ended.err


@pytest.mark.parametrize(
    "command",
    ["model train --data {} --out o", "model evaluate --data {}", "fl compare --data {}"],
)
def test_a_folder_without_the_files_is_named(securenet, tmp_path, command):
    ended = securenet(*command.format(tmp_path / "nosuch").split())

    assert ended.code == ExitCode.USAGE
    assert ended.err.splitlines()[-2:] == [
        f"error: {tmp_path}/nosuch holds no KDDTrain+.txt",
        "  try: name the folder with the files of NSL-KDD",
    ]

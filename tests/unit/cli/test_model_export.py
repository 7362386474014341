"""``securenet model export``: which model it takes, what it writes and says, what it refuses."""

import pytest

from cli import c_measure
from cli.commands import model_export
from cli.exit_codes import ExitCode
from ml_validator.artifact import load_artifact, model_digest
from ml_validator.bundled import BUNDLED_NAMES, LINEAR_NAME, bundled_model
from tests.unit.ml_validator.export.models import MODELS

LINEAR = bundled_model(LINEAR_NAME)[0]

compiles = pytest.mark.skipif(c_measure.find_compiler() is None, reason="no C compiler is here")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "detector"


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(c_measure, "find_compiler", lambda: None)


@compiles
def test_a_model_becomes_c_and_its_cost_is_measured(securenet, out):
    ended = securenet("model", "export", LINEAR_NAME, "--target", "c", "--out", out, "--json")

    assert ended.code == ExitCode.OK, ended.err
    found = ended.document
    assert (found["name"], found["model"]) == (LINEAR_NAME, LINEAR.digest.hex())
    assert found["measured"]
    assert found["table_bytes"] < found["flash_bytes"] < 4_096
    assert found["ram_bytes"] < 1_024
    assert found["row_ns"] > 0
    assert found["flows_compared"] == c_measure.PROBES
    assert LINEAR.digest.hex() in out.read_text()


@compiles
def test_a_file_that_judges_otherwise_is_not_written(securenet, out, monkeypatch):
    monkeypatch.setattr(c_measure, "expected_scores", lambda model, flows: [7] * len(flows))

    ended = securenet("model", "export", LINEAR_NAME, "--target", "c", "--out", out)

    assert ended.code == ExitCode.MISSED
    assert "differs from the model" in ended.err
    assert list(out.parent.iterdir()) == []


def test_without_a_compiler_sizes_are_said_to_be_estimates(securenet, out, no_compiler):
    ended = securenet("model", "export", LINEAR_NAME, "--target", "c", "--out", out, "--json")

    found = ended.document
    assert (found["measured"], found["row_ns"], found["flows_compared"]) == (False, None, 0)
    assert found["flash_bytes"] > found["table_bytes"] > 0
    ended = securenet("model", "export", LINEAR_NAME, "--target", "c", "--out", f"{out}2")
    assert "estimate" in ended.out


def test_a_model_becomes_an_onnx_graph(securenet, out):
    onnx = pytest.importorskip("onnx")

    ended = securenet("model", "export", LINEAR_NAME, "--target", "onnx", "--out", out, "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert ended.document["file_bytes"] == out.stat().st_size
    onnx.checker.check_model(onnx.load_model_from_string(out.read_bytes()))


def test_a_missing_library_is_named_with_what_installs_it(securenet, out, monkeypatch):
    monkeypatch.setattr(model_export, "find_spec", lambda name: None)

    ended = securenet("model", "export", LINEAR_NAME, "--target", "onnx", "--out", out)

    assert ended.code == ExitCode.FAILED
    assert ".[export]" in ended.err
    assert not out.exists()


def test_a_model_is_found_by_its_file_and_by_its_digest(securenet, out, tmp_path, no_compiler):
    file = tmp_path / "own-model.safetensors"
    file.write_bytes(LINEAR.data)

    for number, (text, name) in enumerate(
        [(str(file), "own-model"), (LINEAR.digest.hex(), LINEAR_NAME)]
    ):
        ended = securenet(
            *("model", "export", text, "--target", "c", "--out", f"{out}{number}", "--json")
        )
        assert ended.document["name"] == name
        assert ended.document["model"] == LINEAR.digest.hex()


@compiles
def test_a_model_with_features_of_its_own_is_exported_too(securenet, out, tmp_path):
    own = MODELS["trees of all sizes"]
    (tmp_path / "own").write_bytes(own.data)

    ended = securenet("model", "export", tmp_path / "own", "--target", "c", "--out", out, "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert ended.document["flows_compared"] == c_measure.PROBES
    assert own.schema.digest.hex() in out.read_text()


def test_a_model_that_is_not_bundled_is_asked_of_the_node(securenet, node, out, no_compiler):
    other = LINEAR.data[:-36] + (LINEAR.threshold_ppm + 1).to_bytes(4, "little") + LINEAR.data[-32:]
    digest = model_digest(other).hex()
    node.blobs[digest] = other

    ended = securenet("model", "export", digest, "--target", "c", "--out", out, "--json")

    assert ended.document["threshold_ppm"] == load_artifact(other).threshold_ppm


def test_other_bytes_than_those_of_the_digest_are_refused(securenet, node, out):
    node.blobs["ab" * 32] = LINEAR.data

    ended = securenet("model", "export", "ab" * 32, "--target", "c", "--out", out)

    assert ended.code == ExitCode.MISSED
    assert "other bytes" in ended.err
    assert not out.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_what_is_no_model_is_told_in_one_line_and_nothing_is_written(
    securenet, out, tmp_path, damage
):
    file = tmp_path / "model"
    if damage != "missing":
        file.write_bytes(
            {"truncated": LINEAR.data[:-1], "empty": b"", "text": b"no model\n"}[damage]
        )

    ended = securenet("model", "export", file, "--target", "c", "--out", out)

    assert ended.code == ExitCode.USAGE
    assert len(ended.err.splitlines()) == 2
    assert not out.exists()


def test_for_a_name_that_is_none_the_bundled_ones_are_named(securenet, out):
    ended = securenet("model", "export", "nsl-kdd-forrest", "--target", "c", "--out", out)

    assert ended.code == ExitCode.USAGE
    assert "no model and no file 'nsl-kdd-forrest'" in ended.err
    assert all(name in ended.err for name in BUNDLED_NAMES)


def test_what_is_there_is_not_replaced_and_a_place_that_is_not_there_is_told(
    securenet, out, no_compiler
):
    out.write_text("mine")

    taken = securenet("model", "export", LINEAR_NAME, "--target", "c", "--out", out)
    nowhere = securenet(
        "model", "export", LINEAR_NAME, "--target", "c", "--out", out.parent / "x" / "y"
    )

    assert (taken.code, nowhere.code) == (ExitCode.ALREADY_THERE, ExitCode.USAGE)
    assert out.read_text() == "mine"


def test_an_unknown_target_is_refused(securenet, out):
    ended = securenet("model", "export", LINEAR_NAME, "--target", "rust", "--out", out)

    assert ended.code == ExitCode.USAGE
    assert "rust" in ended.err

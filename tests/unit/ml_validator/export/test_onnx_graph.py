"""The ONNX graph of a model, asked by ONNX Runtime, says what the model says."""

import numpy as np
import onnx
import onnxruntime
import pytest

from ml_validator.bundled import BUNDLED_NAMES
from ml_validator.export import expected_scores, probing_flows
from ml_validator.export.onnx_graph import LABEL, ROWS, SCORE, to_onnx
from ml_validator.nsl_kdd import TEST_FILE, read_records
from ml_validator.verdicts import SCORE_PPM_MAX
from tests.unit.ml_validator.export.models import MODELS


def ask(artifact, rows, *, size):
    session = onnxruntime.InferenceSession(
        to_onnx(artifact, name="model"), providers=["CPUExecutionProvider"]
    )
    parts = [
        session.run([SCORE, LABEL], {ROWS: rows[start : start + size]})
        for start in range(0, len(rows), size)
    ]
    return tuple(np.concatenate(outputs).tolist() for outputs in zip(*parts, strict=True))


def judge_here(artifact, flows):
    scores = expected_scores(artifact, flows)
    return scores, [score >= artifact.threshold_ppm for score in scores]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 7, 700])
def test_scores_are_those_of_the_model_for_every_batch_size(name, size):
    artifact = MODELS[name]
    flows = [
        flow for flow in probing_flows(artifact, count=700, seed=6) if artifact.schema.fits(flow)
    ]

    found = ask(artifact, artifact.schema.rows(flows), size=size)

    assert found == judge_here(artifact, flows)


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_scores_are_those_of_the_model_on_the_test_file(name, nsl_kdd_folder):
    artifact = MODELS[name]
    flows = [record.flow for record in read_records(nsl_kdd_folder / TEST_FILE)]

    found = ask(artifact, artifact.schema.rows(flows), size=4_096)

    assert found == judge_here(artifact, flows)


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_a_row_with_an_integer_below_0_has_the_highest_score(name):
    rows = np.zeros((2, MODELS[name].model.column_count), np.int64)
    rows[:, 3] = [-1, -(2**63)]

    assert ask(MODELS[name], rows, size=2) == ([SCORE_PPM_MAX] * 2, [True] * 2)


def test_the_file_is_the_same_each_time_and_names_its_model():
    artifact = MODELS["nsl-kdd-linear"]
    data = to_onnx(artifact, name="linear")

    assert data == to_onnx(artifact, name="linear")
    properties = {p.key: p.value for p in onnx.load_model_from_string(data).metadata_props}
    assert properties["model"] == artifact.digest.hex()

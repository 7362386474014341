"""The models of the package give the scores they always gave, on every machine."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from ml_validator.bundled import BUNDLED_NAMES, DETECT_NAME, LINEAR_NAME, SMALL_NAME, bundled_model
from ml_validator.detector import Detector
from ml_validator.export import to_c
from ml_validator.nsl_kdd import TEST_FILE, read_records
from ml_validator.sizes import BYTES_MAX
from ml_validator.synthetic import ATTACK_PROFILES, generate, generate_mixture
from ml_validator.training import judge
from scripts.score_digests import vector_features, write_flows
from tests.tidy.tree import ROOT

GOLDEN = {
    "nsl-kdd-forest": ("4dbe950c5f1ae97c", "261a2b486d05ecd9"),
    "nsl-kdd-forest-low-false-alarm": (
        "52ce1bb90cfa1154",
        "e8b5c2c677a1bd94",
    ),
    "nsl-kdd-forest-small": ("b25658a0795c1421", "4e30c8748485f9e6"),
    "nsl-kdd-linear": ("ef2e255325cbcf90", "7b8cd91abd1afda2"),
}
"""The first 8 bytes of the digest of each model, and of that of its scores."""


def score_digest(name: str, size: int = 512) -> str:
    """Digest of a model's scores for the same synthetic flows, judged `size` at once."""
    flows = [record.flow for record in generate_mixture(60, seed=2)]
    detector = Detector(bundled_model(name)[0])
    scores = [
        score
        for start in range(0, len(flows), size)
        for score in detector.judge(flows[start : start + size])
    ]
    return hashlib.sha256(repr(scores).encode()).hexdigest()


@pytest.mark.parametrize("name", BUNDLED_NAMES)
@pytest.mark.parametrize("size", [1, 7, 512])
def test_models_and_scores_have_their_golden_digests_for_every_batch_size(name, size):
    model, scores = GOLDEN[name]
    assert bundled_model(name)[0].digest.hex().startswith(model)
    assert score_digest(name, size).startswith(scores)


def test_scores_are_the_same_without_the_vector_instructions_of_the_processor(tmp_path):
    file = tmp_path / "flows"
    write_flows(file, [record.flow for record in generate_mixture(60, seed=2)])
    known, used = vector_features()
    answers = []
    for without in ("", " ".join(known)):
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "scripts.score_digests", str(file)],
            capture_output=True, text=True, check=True, timeout=60, cwd=ROOT,
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": without},
        )  # fmt: skip
        answers.append(json.loads(result.stdout))

    # That they are gone is asked of numpy, which calls them by other names in each version.
    assert [answer["used"] for answer in answers] == [used, []]
    assert answers[0]["digests"] == answers[1]["digests"]
    of_sizes = [answers[0]["digests"][name].values() for name in BUNDLED_NAMES]
    assert all(len(set(digests)) == 1 for digests in of_sizes)


@pytest.mark.parametrize("profile", ATTACK_PROFILES)
def test_the_other_forest_finds_synthetic_attacks_too(profile):
    artifact, _ = bundled_model(DETECT_NAME)
    assert judge(artifact, generate(profile, 500, seed=11)).recall_ppm > 950_000


def test_the_linear_model_is_small():
    artifact, manifest = bundled_model(LINEAR_NAME)
    assert len(artifact.data) == manifest.size["bytes"] < 2_048


def test_the_small_forest_fits_into_its_bytes_and_half_of_them_in_c():
    artifact, manifest = bundled_model(SMALL_NAME)
    assert len(artifact.data) == manifest.size["bytes"] <= BYTES_MAX
    assert to_c(artifact, name=SMALL_NAME).table_bytes <= BYTES_MAX / 2


def test_the_small_forest_is_right_on_nine_of_ten_rows_of_the_test_file(nsl_kdd_folder):
    artifact, manifest = bundled_model(SMALL_NAME)
    found = judge(artifact, list(read_records(nsl_kdd_folder / TEST_FILE)))
    assert found.accuracy_ppm >= 900_000
    assert manifest.measured[TEST_FILE]["accuracy_ppm"] == found.accuracy_ppm

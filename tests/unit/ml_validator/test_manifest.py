import json
import os
from dataclasses import replace

import pytest

from ml_validator.bundled import BUNDLED_NAMES, bundled_model
from ml_validator.detector import Detector
from ml_validator.errors import MalformedManifest
from ml_validator.evaluation import evaluate
from ml_validator.manifest import MANIFEST_SIZE_MAX, load_manifest
from ml_validator.nsl_kdd import GENUINE_DIGESTS, TEST_FILE, read_records
from ml_validator.training import KINDS, judge, render, train

ARTIFACT, MANIFEST = bundled_model()
DOCUMENT = json.loads(MANIFEST.to_json())


def test_a_manifest_is_read_back_equal():
    assert load_manifest(MANIFEST.to_json().encode()) == MANIFEST


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_a_bundled_manifest_is_that_of_its_model(name):
    artifact, manifest = bundled_model(name)
    manifest.check(artifact)
    assert manifest.name == name
    assert manifest.size["bytes"] < 1_000_000
    assert manifest.data == {file: GENUINE_DIGESTS[file] for file in manifest.data}
    assert "DATA" in manifest.command
    assert len(manifest.features) == 122


@pytest.mark.parametrize(
    "change",
    [
        {"model": "00" * 32},
        {"schema": "00" * 32},
        {"threshold_ppm": 1},
        {"features": []},
        {"size": {}},
    ],
)
def test_a_manifest_of_another_model_is_refused(change):
    with pytest.raises(MalformedManifest) as caught:
        replace(MANIFEST, **change).check(ARTIFACT)
    assert caught.value.where == next(iter(change))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("format", 2),
        ("format", "1"),
        ("format", True),
        ("name", 1),
        ("features", {}),
        ("features", [1]),
        ("threshold_ppm", 1.5),
        ("calibration", {"rule": []}),
        ("settings", {"seed": "42"}),
        ("data", {"file": 1}),
        ("size", {"bytes": 1.0}),
        ("measured", {"rows": 1}),
    ],
)
def test_a_field_of_another_type_is_refused(where, value):
    with pytest.raises(MalformedManifest) as caught:
        load_manifest(json.dumps(DOCUMENT | {where: value}).encode())
    assert caught.value.where == where


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 50_000,
        json.dumps(DOCUMENT | {"more": 1}).encode(),
        json.dumps({k: v for k, v in DOCUMENT.items() if k != "name"}).encode(),
        b" " * (MANIFEST_SIZE_MAX + 1),
    ],
)
def test_documents_that_are_no_manifest_are_refused(text):
    with pytest.raises(MalformedManifest):
        load_manifest(text)


def test_the_figures_are_rendered_with_their_false_positive_rate():
    text = render(MANIFEST)
    assert MANIFEST.model in text
    assert "false_positive_rate" in text
    assert "precision_at_one_percent" in text


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_a_bundled_model_does_on_kddtest_what_its_manifest_says(nsl_kdd_folder, name):
    artifact, manifest = bundled_model(name)
    records = list(read_records(nsl_kdd_folder / TEST_FILE))
    measured = judge(artifact, records).figures()
    assert measured == {figure: manifest.measured[TEST_FILE][figure] for figure in measured}
    reversed_scores = Detector(artifact).judge([record.flow for record in reversed(records)])
    again = evaluate(records, reversed(reversed_scores), threshold_ppm=artifact.threshold_ppm)
    assert again.figures() == measured


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_training_again_makes_the_bundled_models(nsl_kdd_folder):
    kinds = KINDS if "ALL_MODELS" in os.environ else ("forest-small", "linear")
    made = train(nsl_kdd_folder, seed=MANIFEST.settings["seed"], kinds=kinds)
    here = made[0][1].versions
    if here != MANIFEST.versions:
        pytest.skip(f"made with {MANIFEST.versions}, here are {here}")
    assert [manifest.name for _, manifest in made] == [f"nsl-kdd-{kind}" for kind in kinds]
    for artifact, manifest in made:
        bundled, described = bundled_model(manifest.name)
        assert artifact.digest == bundled.digest
        assert manifest == described

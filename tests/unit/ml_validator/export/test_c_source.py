"""The C file of a model says what the model says, to the bit, and is what a device can take."""

import re
import subprocess

import numpy as np
import pytest

from cli import c_measure
from cli.c_measure import Compiled, find_compiler
from ml_validator.bundled import BUNDLED_NAMES
from ml_validator.errors import UnexportableModel
from ml_validator.export import UNREADABLE_PPM, expected_scores, probing_flows, to_c
from ml_validator.export.c_source import SMALL_MAX
from ml_validator.forest import DEPTH_MAX, LEAF, Forest
from ml_validator.nsl_kdd import TEST_FILE, read_records
from ml_validator.synthetic import generate_mixture
from tests.unit.ml_validator.export.models import MODELS, STUMP, make_artifact, make_schema

COMPILER = find_compiler() or ""
compiles = pytest.mark.skipif(not COMPILER, reason="no C compiler is here")


def judge_in_c(artifact, flows, folder, name="model"):
    compiled = Compiled(
        to_c(artifact, name=name), artifact.schema, compiler=COMPILER, folder=folder
    )
    return compiled.judge(flows)[0]


def judge_here(artifact, flows):
    return [(score, score >= artifact.threshold_ppm) for score in expected_scores(artifact, flows)]


@compiles
@pytest.mark.parametrize("name", MODELS)
def test_c_scores_are_those_of_the_model_at_and_around_every_threshold(name, tmp_path):
    artifact = MODELS[name]
    flows = probing_flows(artifact, count=4_000, seed=5)

    assert judge_in_c(artifact, flows, tmp_path) == judge_here(artifact, flows)


@compiles
@pytest.mark.parametrize("name", ["trees of all sizes", "no integers", "a margin near both ends"])
def test_nothing_that_c_leaves_undefined_happens(name, tmp_path, monkeypatch):
    checked = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
    monkeypatch.setattr(c_measure, "_FLAGS", (*c_measure._FLAGS, *checked))
    flows = probing_flows(MODELS[name], count=1_000, seed=6)

    assert judge_in_c(MODELS[name], flows, tmp_path) == judge_here(MODELS[name], flows)


@compiles
@pytest.mark.parametrize("name", MODELS)
def test_a_strict_compiler_has_nothing_to_say(name, tmp_path):
    (tmp_path / "model.c").write_text(to_c(MODELS[name], name=name).text)
    warnings = "-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef"
    command = [COMPILER, "-std=c99", "-c", "model.c", *warnings.split(), "-Wmissing-prototypes"]

    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert ended.stderr == ""


@compiles
@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_c_scores_are_those_of_the_model_on_synthetic_traffic(name, tmp_path):
    flows = [record.flow for record in generate_mixture(300, seed=8)]

    assert judge_in_c(MODELS[name], flows, tmp_path) == judge_here(MODELS[name], flows)


@compiles
@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_c_scores_are_those_of_the_model_on_the_test_file(name, nsl_kdd_folder, tmp_path):
    flows = [record.flow for record in read_records(nsl_kdd_folder / TEST_FILE)]

    assert len(flows) > 20_000
    assert judge_in_c(MODELS[name], flows, tmp_path) == judge_here(MODELS[name], flows)


def test_probes_reach_every_leaf_of_a_small_forest_and_both_ends_of_the_integers():
    artifact = MODELS["trees of all sizes"]
    flows = probing_flows(artifact, count=4_000, seed=5)
    readable = [flow for flow in flows if artifact.schema.fits(flow)]
    assert isinstance(artifact.model, Forest)
    reached = np.unique(artifact.model.leaves(artifact.schema.rows(readable)))

    assert len(reached) == int((artifact.model.feature == LEAF).sum())
    values = {value for flow in flows for value in flow.integers}
    assert {-(2**63), -1, 2**63 - 1} <= values
    assert UNREADABLE_PPM in expected_scores(artifact, flows)


@pytest.mark.parametrize("name", MODELS)
def test_the_file_needs_no_heap_no_floats_and_no_library(name):
    text = to_c(MODELS[name], name=name).text
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)

    assert re.findall(r"#include.*", code) == ["#include <stdint.h>"]
    assert not re.search(r"\b(float|double|malloc|calloc|free)\b", code)
    assert text.isascii()


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_the_tables_take_no_more_than_the_artefact(name):
    artifact = MODELS[name]

    assert to_c(artifact, name=name).table_bytes <= len(artifact.data)
    # About half, and a little more where there are so many splits that counts of them take 32 bits.
    if name != "nsl-kdd-linear":
        assert to_c(artifact, name=name).table_bytes <= 0.53 * len(artifact.data)


@compiles
def test_names_cannot_break_out_of_the_file_or_meet_each_other(tmp_path):
    schema = make_schema(
        1, (("*/ int x; /*", "a-b", "a_b", "a b", '"'), ("ppm", "int", "ÄÖ", "\\\n#error"))
    )
    artifact = make_artifact(STUMP, schema=schema)
    flows = probing_flows(artifact, count=200, seed=1)

    assert judge_in_c(artifact, flows, tmp_path, "1 */ #error") == judge_here(artifact, flows)
    names = re.findall(r"(\w+_c[01]_\w*) = \d+,", (tmp_path / "model.c").read_text())
    assert len(names) == len(set(names)) == 9


@compiles
def test_the_file_is_a_header_too(tmp_path):
    source = to_c(MODELS["trees of all sizes"], name="toy")
    (tmp_path / "toy.c").write_text(source.text)
    (tmp_path / "user.c").write_text(
        '#define TOY_DECLARATIONS_ONLY\n#include "toy.c"\n#include "toy.c"\n'
        "int main(void) { int64_t i[2] = {0, 0}; int16_t c[1] = {toy_c0_b};\n"
        "return toy_score_ppm(i, c) < 0; }\n"
    )

    twice = subprocess.run(
        [COMPILER, "-std=c99", "-c", "user.c"], cwd=tmp_path, capture_output=True, text=True
    )

    # Its enumerations are definitions: a file includes it once, as any header without a guard.
    assert "toy_c0_a" in twice.stderr
    (tmp_path / "user.c").write_text(
        (tmp_path / "user.c").read_text().replace('#include "toy.c"\n', "", 1)
    )
    subprocess.run(
        [COMPILER, "-std=c99", "user.c", "toy.c", "-o", "user"], cwd=tmp_path, check=True
    )
    subprocess.run(["./user"], cwd=tmp_path, check=True)


def test_more_large_thresholds_than_a_file_can_have_are_refused():
    def chains(count):
        """Return trees that compare with so many large thresholds, each with others."""
        for first in range(0, count, DEPTH_MAX):
            stops = range(SMALL_MAX + 1 + first, SMALL_MAX + 1 + min(first + DEPTH_MAX, count))
            yield [*(node for stop in stops for node in ((0, stop), (LEAF, 1))), (LEAF, 2)]

    with pytest.raises(UnexportableModel):
        to_c(make_artifact(*chains(SMALL_MAX + 2)), name="wide")
    to_c(make_artifact(*chains(SMALL_MAX + 1)), name="wide")

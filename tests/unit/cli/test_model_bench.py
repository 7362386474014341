"""Measuring the bundled detectors in a worker of their own."""

import json

import pytest

from cli.bench.judging import Targets, measure_model, sample_flows
from cli.exit_codes import ExitCode
from cli.main import run
from ml_validator.bundled import BUNDLED_NAMES

TARGETS = Targets(block_ms=40, flow_ms=0.2, stall_ms=20, worker_mib=300)


def test_samples_are_of_any_size():
    assert [len(sample_flows(count)) for count in (0, 1, 7, 2_000)] == [0, 1, 7, 2_000]


async def test_a_model_is_measured():
    figures = await measure_model(BUNDLED_NAMES[0], repeats=1)

    assert figures["name"] == BUNDLED_NAMES[0]
    assert figures["block_ms"] > figures["flow_ms"] > 0
    assert 1 < figures["worker_mib"] < 1_000
    assert figures["block_to_signatures"] > 0


@pytest.mark.parametrize("name", ["block_ms", "flow_ms", "event_loop_stall_ms", "worker_mib"])
def test_each_figure_has_its_target(name):
    model = {"block_ms": 40, "flow_ms": 0.2, "event_loop_stall_ms": 20, "worker_mib": 300}
    assert TARGETS.missed({"models": [{"name": "m", **model}]}) == []

    missed = TARGETS.missed({"models": [{"name": "m", **model, name: model[name] + 1}]})

    assert missed == [f"m: {name} is {model[name] + 1}, over {model[name]}"]


def test_a_missed_target_is_a_failure_that_shows_the_figures(capsys):
    status = run(["model", "bench", "--repeats", "1", "--target-block-ms", "0", "--json"])

    output = capsys.readouterr()
    assert status == ExitCode.MISSED
    assert [model["name"] for model in json.loads(output.out)["models"]] == [*BUNDLED_NAMES]
    assert "block_ms is" in output.err

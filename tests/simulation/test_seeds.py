"""Worlds drawn from seeds: some new ones in every run, and all that have found a bug."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.simulation import seeds
from tests.simulation.seeds import Failed, draw_plan, run_seed

ROOT = Path(__file__).resolve().parents[2]
REGRESSIONS = tomllib.loads(Path(__file__).with_name("regressions.toml").read_text())["seed"]
IN_EVERY_RUN = range(1, 6)


@pytest.mark.parametrize("seed", [*IN_EVERY_RUN, *(entry["seed"] for entry in REGRESSIONS)])
def test_a_world_stays_safe_and_recovers(seed: int):
    outcome = run_seed(seed)

    assert outcome.height > 5
    assert outcome.transactions > 10


def test_a_world_without_its_faults_is_another_course_of_the_same_world():
    whole = run_seed(1)
    calm = run_seed(1, choose=lambda faults: [])

    assert (calm.faults, calm.hostile) == (0, whole.hostile)
    assert calm.trace != whole.trace


def test_plans_differ_in_everything_that_they_draw():
    plans = [draw_plan(seed) for seed in range(200)]

    assert {plan.settings.miners for plan in plans} == {4, 5, 6, 7}
    assert {len(plan.tricks) for plan in plans} == {0, 1, 2}
    assert {plan.settings.observers for plan in plans} == {0, 1}
    assert {plan.settings.detectors for plan in plans} == {False, True}
    assert len({trick for plan in plans for trick in plan.tricks.values()}) > 10


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_command_ends_with_a_line_of_figures():
    result = play("--seeds", "2", "--first", "1")

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("worlds 2 failed 0; in the mean ")


def test_one_seed_writes_its_whole_trace(tmp_path):
    result = play("--seeds", "1", "--first", "2", "--faults", "0,1", "--trace", str(tmp_path / "t"))

    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "t").read_text().splitlines()
    assert result.stdout.rstrip().endswith(f"of {len(lines)} lines")


@pytest.mark.parametrize(
    "arguments",
    [["--seeds", "0"], ["--seeds", "2", "--trace", "x"], ["--jobs", "0"], ["--sedes", "1"]],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments):
    assert play(*arguments).returncode == 2


def test_a_failing_seed_says_how_to_play_it_again(monkeypatch):
    monkeypatch.setattr(seeds, "LIVENESS_S", -1.0)

    with pytest.raises(Failed) as failure:
        run_seed(1)

    assert "seed 1: Violation" in str(failure.value)
    assert failure.value.faults
    assert "violation" in failure.value.lines[-1] or any(
        "violation" in line for line in failure.value.lines
    )

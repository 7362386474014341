"""The short version of `make planted-bugs`: the bugs that have worlds of their own, in a few seeds.

The whole table, up to 2,000 worlds for each bug, is `python -m tests.simulation.planted`.
"""

import sys

import pytest

from tests.commands import run_module
from tests.simulation import planted
from tests.simulation.planted import IN_CI, TABLE, Planted, look

QUICK = [bug for bug in TABLE if bug.in_ci]


@pytest.mark.parametrize("bug", QUICK, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_in_a_few_worlds(bug: Planted):
    assert any(look(bug, seed) for seed in IN_CI)


@pytest.mark.parametrize("bug", QUICK, ids=lambda bug: bug.name)
def test_the_same_world_without_the_bug_is_sound(bug: Planted):
    bug.play(IN_CI[0])


def test_there_are_more_than_twenty_and_each_stands_once():
    assert len({bug.name for bug in TABLE}) == len(TABLE) > 20


def test_the_command_names_seed_and_checker_and_ends_with_figures():
    result = run_module("tests.simulation.planted", "--bug", "roots_not_compared", "--jobs", "1")

    assert result.returncode == 0, result.stderr
    found, figures = result.stdout.splitlines()
    assert found.startswith("roots_not_compared: seed 1, 1 worlds of its own kind; Ledger: ")
    assert figures.startswith("planted bugs 1 found 1 missed 0; at most 1 worlds for one; ")


def test_a_bug_that_is_missed_is_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(planted, "search", lambda *arguments: None)
    monkeypatch.setattr(sys, "argv", ["planted", "--bug", "late_commit", "--seeds", "1"])

    assert planted.main() == 1

    found, figures = capsys.readouterr().out.splitlines()
    assert found.startswith("late_commit: MISSED in 1 worlds")
    assert "missed 1: late_commit" in figures


@pytest.mark.parametrize("arguments", [["--bug", "no_such"], ["--seeds", "0"], ["--jobs", "0"]])
def test_a_command_line_that_makes_no_sense_is_refused(arguments: list[str]):
    assert run_module("tests.simulation.planted", *arguments).returncode == 2

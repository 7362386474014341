"""Worlds drawn from seeds: two hundred in every run of the suite, and all that have found a bug."""

import gc
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.commands import run_module
from tests.simulation import seeds
from tests.simulation.__main__ import _run
from tests.simulation.faults import OF_LINKS, OF_MACHINES
from tests.simulation.lesson import DROPS, MISLEADS, SPOILS, WITHHOLDS
from tests.simulation.seeds import Cut, Failed, draw_events, draw_plan, run_seed
from tests.simulation.shrink import minimise, shrink
from tests.simulation.world import World

REGRESSIONS = tomllib.loads(Path(__file__).with_name("regressions.toml").read_text())["seed"]
IN_EVERY_RUN = 200
WITH_A_LESSON = 43
BLOCK = 10
"""Seeds of one class: pytest-xdist hands classes to its processes, never parts of one."""


class _Worlds:
    """Plays some seeds without collecting between them; every world does so at its end."""

    @pytest.fixture(autouse=True)
    def without_collecting(self) -> Iterator[None]:
        gc.disable()
        yield
        gc.enable()

    def play(self, seed: int) -> None:
        outcome = run_seed(seed)

        assert outcome.height > 5
        assert outcome.transactions > 10
        assert outcome.faults >= seeds.FAULTS[0]


def _block(first: int) -> type[_Worlds]:
    class TestWorlds(_Worlds):
        @pytest.mark.parametrize("seed", range(first, first + BLOCK))
        def test_stays_safe_and_recovers(self, seed: int) -> None:
            self.play(seed)

    return TestWorlds


for _first in range(1, IN_EVERY_RUN + 1, BLOCK):
    globals()[f"TestWorldsFrom{_first}"] = _block(_first)


class TestRegressions(_Worlds):
    @pytest.mark.parametrize("seed", [entry["seed"] for entry in REGRESSIONS])
    def test_stays_safe_and_recovers(self, seed: int) -> None:
        self.play(seed)


def test_a_world_without_its_faults_is_another_course_of_the_same_world():
    whole = run_seed(2)
    calm = run_seed(2, cut=Cut(events=frozenset()))

    assert (calm.faults, calm.changes, calm.hostile) == (0, 0, whole.hostile)
    assert calm.trace != whole.trace


@pytest.mark.parametrize("seed", [7, WITH_A_LESSON])
def test_a_seed_has_one_trace_alone_among_others_and_in_another_process(seed):
    alone = run_seed(seed).trace
    run_seed(2)

    with ProcessPoolExecutor(1) as pool:
        elsewhere = pool.submit(run_seed, seed).result().trace

    assert run_seed(seed).trace == alone == elsewhere


def test_plans_differ_in_everything_that_they_draw():
    plans = [draw_plan(seed) for seed in range(300)]

    assert {plan.settings.miners for plan in plans} == {4, 5, 6, 7, 10}
    assert {len(plan.tricks) for plan in plans} == {0, 1, 2, 3}
    assert {plan.settings.observers for plan in plans} == {0, 1}
    assert {plan.settings.detectors for plan in plans} == {False, True}
    assert len({trick for plan in plans for trick in plan.tricks.values()}) > 10
    assert sum(plan.settings.real_signatures for plan in plans) == len(plans) / 10


def test_lessons_are_drawn_with_everything_that_can_happen_in_one():
    lessons = [found for seed in range(2_000) if (found := draw_plan(seed).lesson) is not None]

    assert 200 < len(lessons) < 300
    assert {lesson.at_s is None for lesson in lessons} == {False, True}
    assert {lesson.is_masked for lesson in lessons} == {False, True}
    words = {word for lesson in lessons for word in lesson.conduct if word}
    assert words == {*DROPS, WITHHOLDS, *SPOILS, *MISLEADS}
    # Else not one group might be left, and nothing could come out.
    masked = [lesson.conduct for lesson in lessons if lesson.is_masked]
    assert max([sum([word in SPOILS for word in conduct]) for conduct in masked]) == 1


def test_a_world_is_the_same_but_for_its_lesson():
    plan = draw_plan(WITH_A_LESSON)

    assert plan.lesson is not None
    assert run_seed(WITH_A_LESSON, cut=Cut(load=False)).height > 5


def test_everything_that_can_happen_does_in_some_world():
    happened = {
        event.what
        for seed in range(60)
        for event in draw_events(draw_plan(seed), World(seed, draw_plan(seed).settings))
    }

    assert happened >= {*OF_MACHINES, *OF_LINKS, "add", "remove", "restore", "move", "parameter"}


def test_the_command_ends_with_a_line_of_figures():
    result = run_module("tests.simulation", "--seeds", "2", "--first", "1")

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("worlds 2 failed 0; in the mean ")


def test_one_seed_writes_its_whole_trace(tmp_path):
    result = run_module(
        "tests.simulation",
        "--seeds",
        "1",
        "--first",
        "2",
        "--faults",
        "0,1",
        "--trace",
        str(tmp_path / "t"),
    )

    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "t").read_text().splitlines()
    assert result.stdout.rstrip().endswith(f"of {len(lines)} lines")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seeds", "0"],
        ["--seeds", "2", "--trace", "x"],
        ["--jobs", "0"],
        ["--sedes", "1"],
        ["--first", "-1"],
        ["--first", str(2**63)],
        ["--first", "seven"],
        ["--seeds", "1", "--faults", "99"],
        ["--seeds", "1", "--faults", "some"],
        ["--seeds", "1", "--mute", "m17"],
        ["--seeds", "1", "--trace", "/dev/null/trace"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused_in_one_line(arguments):
    result = run_module("tests.simulation", *arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("simulate: ")
    assert result.stderr.count("\n") == 1


def test_a_failing_seed_says_what_happened(monkeypatch):
    monkeypatch.setattr(seeds, "LIVENESS_S", -1.0)

    with pytest.raises(Failed) as failure:
        run_seed(2)

    assert "seed 2: Violation" in str(failure.value)
    assert failure.value.events
    assert any("violation" in line for line in failure.value.lines)


def test_a_failing_seed_of_many_says_how_to_play_it_and_where_to_keep_it(monkeypatch):
    monkeypatch.setattr(seeds, "LIVENESS_S", -1.0)

    told = _run(2, 0.0)

    assert isinstance(told, str)
    assert told.startswith("FAILED seed 2: Violation: ")
    assert "replay: python -m tests.simulation --seeds 1 --first 2 --trace build/" in told
    assert "regressions.toml:\n    [[seed]]\n    seed = 2\n" in told


def test_a_failing_world_is_cut_down_to_what_matters(monkeypatch):
    plan = draw_plan(2)
    events = draw_events(plan, World(2, plan.settings))
    fatal = next(number for number, event in enumerate(events) if event.what in OF_MACHINES)
    strike, draw = OF_MACHINES[events[fatal].what]

    async def fail(world, host, fault):
        if fault == events[fatal]:
            raise RuntimeError("planted")
        await strike(world, host, fault)

    monkeypatch.setitem(OF_MACHINES, events[fatal].what, (fail, draw))
    with pytest.raises(Failed) as failure:
        run_seed(2)
    cut = shrink(failure.value, Cut())

    assert cut == Cut(events=frozenset({fatal}), mute=frozenset(plan.tricks), load=False)


@pytest.mark.parametrize("wanted", [set(), {3}, {0, 9}, {1, 4, 5}])
def test_nothing_is_kept_that_does_not_matter(wanted):
    assert set(minimise(range(10), lambda kept: wanted <= set(kept))) == wanted

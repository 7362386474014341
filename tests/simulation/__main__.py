"""`python -m tests.simulation`: play worlds, and say how to play a failing one again.

Exit status: 0, every world stayed safe and recovered; 1, one did not; 2, there is no such world, or
the command line makes no sense.
"""

import argparse
import contextlib
import gc
import os
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Final, NoReturn

from tests.simulation.figures import Figures
from tests.simulation.seeds import SEED_MAX, Cut, Failed, Outcome, draw_events, draw_plan, run_seed
from tests.simulation.shrink import BUDGET_S, shrink
from tests.simulation.world import World

LINES_SHOWN: Final = 60
PROGRESS_EVERY_S: Final = 10.0
WAITING_PER_JOB: Final = 4


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong."""
        self.exit(2, f"simulate: {message}; --help shows what there is\n")


def main() -> int:
    """Play the worlds that the command line asks for; 1 if one failed."""
    parser = _Parser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many worlds (20)")
    parser.add_argument("--first", type=int, default=1, help="seed of the first (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--trace", type=Path, help="write the whole trace of one seed to a file")
    parser.add_argument(
        "--faults", help="play only these faults and changes of one seed: 0,3,5 (none: '')"
    )
    parser.add_argument("--mute", help="let these hostile miners of one seed say nothing: m1,m3")
    parser.add_argument("--no-load", action="store_true", help="one seed without its clients")
    parser.add_argument(
        "--shrink", type=float, default=BUDGET_S, help="seconds to cut a failing world down (60)"
    )
    arguments = parser.parse_args()
    seeds, jobs, first = arguments.seeds, arguments.jobs, arguments.first
    if seeds < 1 or jobs < 1:
        parser.error("there is nothing to play")
    if not 0 <= first <= SEED_MAX - seeds + 1:
        parser.error(f"there is no such seed; they go from 0 to {SEED_MAX}")
    if seeds > 1:
        if (arguments.trace, arguments.faults, arguments.mute) != (None,) * 3 or arguments.no_load:
            parser.error("--trace, --faults, --mute and --no-load are for one seed: --seeds 1")
        return _play_many(range(first, first + seeds), jobs, arguments.shrink)
    try:
        cut = _read_cut(first, arguments.faults, arguments.mute, load=not arguments.no_load)
        with _trace_file(arguments.trace) as write:
            return _play_one(first, cut, write)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _read_cut(seed: int, faults: str | None, mute: str | None, *, load: bool) -> Cut:
    """Read which part of a world is to be played; ValueError says what it does not have."""
    plan = draw_plan(seed)
    count = len(draw_events(plan, World(seed, plan.settings)))
    events = None
    if faults is not None:
        try:
            events = frozenset(int(number) for number in faults.split(",") if number)
        except ValueError:
            raise ValueError(f"--faults takes numbers, not {faults!r}") from None
        if any(not 0 <= number < count for number in events):
            raise ValueError(f"seed {seed} has faults 0 to {count - 1}, not {faults}")
    names = frozenset(mute.split(",")) if mute else frozenset()
    if not names <= plan.tricks.keys():
        raise ValueError(f"the hostile miners of seed {seed} are {[*plan.tricks]}, not {mute}")
    return Cut(events=events, mute=names, load=load)


@contextlib.contextmanager
def _trace_file(path: Path | None) -> Iterator[object]:
    if path is None:
        yield None
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            yield file.write


def _play_one(seed: int, cut: Cut, write: object) -> int:
    plan = draw_plan(seed)
    print(f"seed {seed}: {plan.settings.miners} miners, hostile {plan.tricks or 'none'}")
    begun_s = time.perf_counter()
    try:
        outcome = run_seed(seed, write=write if callable(write) else None, cut=cut)
    except Failed as failure:
        traceback.print_exception(failure.__cause__)
        for line in failure.lines[-LINES_SHOWN:]:
            print(line)
        print("what happened:")
        for number, event in enumerate(failure.events):
            is_played = cut.events is None or number in cut.events
            print(f"  {number:2d} {event}{'' if is_played else ' (left out)'}")
        print(f"FAILED {failure}\n  replay: {_replay(seed, cut)}", file=sys.stderr)
        return 1
    figures = Figures()
    figures.add(outcome)
    print(figures.line(time.perf_counter() - begun_s))
    print(f"trace {outcome.trace} of {outcome.lines} lines")
    return 0


def _play_many(seeds: range, jobs: int, budget_s: float) -> int:
    figures = Figures()
    begun_s = told_s = time.perf_counter()
    for result in _results(seeds, jobs, budget_s):
        if isinstance(result, Outcome):
            figures.add(result)
        else:
            figures.failed += 1
            print(result, file=sys.stderr, flush=True)
        now_s = time.perf_counter()
        if now_s - told_s > PROGRESS_EVERY_S:
            told_s = now_s
            print(
                f"{figures.played} of {len(seeds)} worlds, {figures.failed} failed, "
                f"{60 * figures.played / (now_s - begun_s):.0f} a minute",
                file=sys.stderr,
                flush=True,
            )
    print(figures.line(time.perf_counter() - begun_s))
    return 1 if figures.failed else 0


def _results(seeds: range, jobs: int, budget_s: float) -> Iterator[Outcome | str]:
    """Yield the outcome of each seed, or what is to be said of its failure, as they come."""
    if jobs == 1:
        _prepare_process()
        yield from (_run(seed, budget_s) for seed in seeds)
        return
    left = iter(seeds)
    with ProcessPoolExecutor(min(jobs, len(seeds)), initializer=_prepare_process) as pool:
        running: set[Future[Outcome | str]] = set()
        while True:
            # A few at a time, so that however many there are, few wait in memory.
            room = jobs * WAITING_PER_JOB - len(running)
            running |= {pool.submit(_run, seed, budget_s) for seed in islice(left, room)}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def _prepare_process() -> None:
    """Leave collecting to the end of each world: what was imported stays, and worlds are small."""
    gc.collect()
    gc.freeze()
    gc.disable()


def _run(seed: int, budget_s: float) -> Outcome | str:
    try:
        return run_seed(seed)
    except Failed as failure:
        cut = shrink(failure, Cut(), budget_s=budget_s)
        return (
            f"FAILED {failure}\n  replay: {_replay(seed, Cut())}\n  what matters: "
            f"{_replay(seed, cut)}\n  once it is mended, add to tests/simulation/regressions.toml:"
            f'\n    [[seed]]\n    seed = {seed}\n    found = "…"'
        )


def _replay(seed: int, cut: Cut) -> str:
    trace = f"--trace build/trace-{seed}.txt"
    return f"python -m tests.simulation --seeds 1 --first {seed}{cut.arguments()} {trace}"


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.simulation`: play worlds, and say how to play a failing one again."""

import argparse
import contextlib
import os
import statistics
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.simulation.seeds import Failed, Outcome, draw_plan, run_seed

LINES_SHOWN = 60


def main() -> int:
    """Play the worlds that the command line asks for; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many worlds (20)")
    parser.add_argument("--first", type=int, default=1, help="seed of the first (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--trace", type=Path, help="write the whole trace of one seed to a file")
    parser.add_argument(
        "--faults", help="play only these faults of one seed, by number: 0,3,5 (none: '')"
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.jobs < 1:
        parser.error("there is nothing to play")
    if arguments.seeds == 1:
        return _play_one(arguments.first, arguments.trace, arguments.faults)
    if arguments.trace is not None or arguments.faults is not None:
        parser.error("--trace and --faults are for a single seed: --seeds 1 --first SEED")
    return _play_many(range(arguments.first, arguments.first + arguments.seeds), arguments.jobs)


def _play_one(seed: int, trace: Path | None, faults: str | None) -> int:
    chosen = None if faults is None else {int(number) for number in faults.split(",") if number}
    plan = draw_plan(seed)
    print(f"seed {seed}: {plan.settings.miners} miners, hostile {plan.tricks or 'none'}")
    with contextlib.ExitStack() as stack:
        write = None if trace is None else stack.enter_context(trace.open("w")).write
        begun_s = time.perf_counter()
        try:
            outcome = run_seed(
                seed,
                write=write,
                choose=lambda drawn: [
                    fault
                    for number, fault in enumerate(drawn)
                    if chosen is None or number in chosen
                ],
            )
        except Failed as failure:
            _tell(failure)
            return 1
    print(_line([outcome], time.perf_counter() - begun_s, 0))
    print(f"trace {outcome.trace} of {outcome.lines} lines")
    return 0


def _play_many(seeds: range, jobs: int) -> int:
    outcomes: list[Outcome] = []
    failures = 0
    begun_s = time.perf_counter()
    for result in _results(seeds, jobs):
        if isinstance(result, Outcome):
            outcomes.append(result)
        else:
            failures += 1
            print(result, file=sys.stderr, flush=True)
    print(_line(outcomes, time.perf_counter() - begun_s, failures))
    return 1 if failures else 0


def _results(seeds: range, jobs: int) -> Iterator[Outcome | str]:
    """Yield the outcome of each seed, or what is to be said of its failure."""
    if jobs == 1:
        yield from map(_run, seeds)
        return
    with ProcessPoolExecutor(min(jobs, len(seeds))) as pool:
        waiting = [pool.submit(_run, seed) for seed in seeds]
        for future in as_completed(waiting):
            yield future.result()


def _run(seed: int) -> Outcome | str:
    try:
        return run_seed(seed)
    except Failed as failure:
        return f"FAILED {failure}\n  replay: {_replay(seed)}"


def _replay(seed: int) -> str:
    return f"python -m tests.simulation --seeds 1 --first {seed} --trace build/trace-{seed}.txt"


def _tell(failure: Failed) -> None:
    traceback.print_exception(failure.__cause__)
    for line in failure.lines[-LINES_SHOWN:]:
        print(line)
    print("faults:")
    for number, fault in enumerate(failure.faults):
        print(f"  {number:2d} {fault}")
    print(f"FAILED {failure}\n  replay: {_replay(failure.seed)}", file=sys.stderr)


def _line(outcomes: list[Outcome], took_s: float, failures: int) -> str:
    count = len(outcomes)
    if not count:
        return f"worlds 0 failed {failures}"

    def mean(name: str) -> float:
        return statistics.fmean(getattr(outcome, name) for outcome in outcomes)

    slowest_s = max(outcome.recovered_s for outcome in outcomes)
    return (
        f"worlds {count} failed {failures}; in the mean {mean('time_s'):.0f} simulated s, "
        f"{mean('height'):.0f} heights, {mean('transactions'):.0f} transactions, "
        f"{mean('faults'):.1f} faults, {mean('hostile'):.1f} hostile miners; recovery "
        f"{mean('recovered_s'):.1f} s, at most {slowest_s:.1f} s; "
        f"{60 * (count + failures) / took_s:.0f} worlds a minute"
    )


if __name__ == "__main__":
    sys.exit(main())

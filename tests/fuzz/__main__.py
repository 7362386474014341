"""`python -m tests.fuzz`: feed the readers of bytes with hostile inputs."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from tests.fuzz.targets import TARGETS, fuzz_named

CHUNK: Final = 50_000


def main() -> int:
    """Run the campaigns that the command line asks for; 1 if a target has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="for each target (20000)")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", default="1", help="other seeds give other inputs (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--list", action="store_true", help="show the names of the targets")
    arguments = parser.parse_args()
    if arguments.list:
        print(*TARGETS, sep="\n")
        return 0
    names: Sequence[str] = arguments.target or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}; --list shows their names")
    if arguments.inputs < 1 or arguments.jobs < 1:
        parser.error("there is nothing to do")
    return _run(names, arguments.inputs, arguments.seed, arguments.jobs)


def _run(names: Sequence[str], inputs: int, seed: str, jobs: int) -> int:
    begun_s = time.perf_counter()
    total = refused = 0
    failed: list[str] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for name in names:
            name_begun_s = time.perf_counter()
            outcomes = list(
                pool.map(
                    fuzz_named,
                    *zip(
                        *[
                            (name, min(CHUNK, inputs - start), f"{seed}/{start}")
                            for start in range(0, inputs, CHUNK)
                        ],
                        strict=True,
                    ),
                )
            )
            failures = [found.failure for found in outcomes if found.failure is not None]
            taken = sum(found.inputs for found in outcomes)
            rejections = sum(found.refused for found in outcomes)
            rate = taken / (time.perf_counter() - name_begun_s)
            print(
                f"{name}: {taken} inputs, {rejections} refused, {rate:.0f}/s"
                + (f", {len(failures)} FAILED" if failures else ""),
                flush=True,
            )
            for failure in failures:
                print(f"  {failure.error}\n  kept in {failure.save()}", file=sys.stderr, flush=True)
            total, refused = total + taken, refused + rejections
            failed += [name] if failures else []
    took_s = time.perf_counter() - begun_s
    print(
        f"targets {len(names)} failed {len(failed)}; {total} inputs, {refused} refused, "
        f"{total / took_s:.0f} inputs/s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

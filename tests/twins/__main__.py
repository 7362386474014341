"""Many scenarios on all cores; ``--first N --scenarios 1`` plays one again."""

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.twins.run import SEVENS, Tally, play_many, space_of

CHUNK = 100
PROGRESS_SECONDS = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="make twins", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--scenarios", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    first, count, rounds, seed = (
        arguments.first,
        arguments.scenarios,
        arguments.rounds,
        arguments.seed,
    )
    if not 2 <= rounds <= 32 or count < 1 or first < 0:
        parser.error("2 to 32 rounds, at least one scenario, counted from 0")
    end = first + count
    started = shown = time.monotonic()
    tally, failed = Tally(), []
    # Made before the processes are, which then share it.
    beginnings = len(space_of(4, rounds).beginnings)
    with ProcessPoolExecutor(
        max_workers=os.cpu_count(), mp_context=multiprocessing.get_context("fork")
    ) as pool:
        chunks = [
            pool.submit(play_many, range(at, min(at + CHUNK, end)), rounds, seed)
            for at in range(first, end, CHUNK)
        ]
        for chunk in as_completed(chunks):
            more, broken = chunk.result()
            tally.add(more)
            failed += broken
            for number, why in broken:
                print(
                    f"scenario {number}: {why}\n  again: python -m tests.twins "
                    f"--rounds {rounds} --seed {seed} --first {number} --scenarios 1"
                )
            if time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                print(f"twins: {tally.played} of {count} …", file=sys.stderr)
    seconds = time.monotonic() - started
    sevens = end // SEVENS - first // SEVENS
    of_four = count - sevens
    begun = max(0, min(beginnings, end - end // SEVENS) - (first - first // SEVENS))
    print(
        f"twins: {len(failed)} of {count} scenarios of {rounds} rounds failed, seed {seed}; "
        f"{of_four:,} of {space_of(4, rounds).size:,} with 4 miners and one twin "
        f"(beginnings of two rounds: {begun:,} of {beginnings:,}), "
        f"{sevens:,} of {float(space_of(7, rounds).size):.0e} with 7 and two; "
        f"{tally.blocks:,} heights, {tally.proofs:,} proofs against twins, "
        f"rounds up to {tally.highest_round}, healed within {tally.calm_rounds} rounds; "
        f"{count / seconds:.0f} scenarios/s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

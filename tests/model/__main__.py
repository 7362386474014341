"""``make model``: every state of the model, and every flaw that it has to find."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.model.run import FLAWS, ModelError, configurations, explore, missing_tools, with_flaw

SIZES = {"quick": [(2, 1)], "full": [(3, 1), (1, 2)]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make model", description=__doc__)
    parser.add_argument("size", choices=SIZES, nargs="?", default="full")
    size = parser.parse_args().size
    missing = missing_tools()
    if missing:
        names = " ".join(missing)
        print(f"model: {names} missing; on Debian and Ubuntu: apt install {names}", file=sys.stderr)
        return 2
    started = time.monotonic()
    states = depth = 0
    violated, missed = [], []
    with tempfile.TemporaryDirectory() as directory:
        try:
            runs = [c for rounds, heights in SIZES[size] for c in configurations(rounds, heights)]
            for configuration in runs:
                result = explore(configuration, Path(directory), optimise=size == "full")
                states += result.states
                depth = max(depth, result.depth)
                print(f"{' '.join(configuration)}: {result.states:,} states", flush=True)
                if result.violated:
                    violated.append(configuration)
                    print(f"  violated: {result.violated}")
            for flaw, what in FLAWS.items():
                result = explore(with_flaw(flaw), Path(directory))
                print(f"{flaw}, {what}: {'found' if result.violated else 'MISSED'}", flush=True)
                if not result.violated:
                    missed.append(flaw)
        except ModelError as error:
            print(f"model: {error}", file=sys.stderr)
            return 1
    print(
        f"model: {len(violated)} of {len(runs)} configurations violated; {states:,} states, all "
        f"visited, depth {depth}; {len(FLAWS) - len(missed)} of {len(FLAWS)} flaws found; "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if violated or missed else 0


if __name__ == "__main__":
    sys.exit(main())

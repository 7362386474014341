"""Five federated rounds with ten participants, some of which are killed or lie.

``python -m tests.federated_rounds --data PATH``; without data the rows are made up. Ends with one
line of figures, and with 1 if anything is not as it should be; then everything stays in
build/federated.
"""

import argparse
import asyncio
import shutil
import sys
import traceback
from pathlib import Path
from typing import Final

from chain.errors import SecureNetError
from cli.testnet.network import fresh_directory
from tests.federated_rounds.shards import deal, rows_of
from tests.federated_rounds.story import Outcome, tell

PEAK_MIB_MAX: Final = 300
GAIN_PPM_MIN: Final = 100_000
"""By which the last model is better than the base, which knows nothing."""
MIB: Final = 2**20


def main() -> int:
    """Run it and print a line of figures; 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.federated_rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how many (5)")
    parser.add_argument("--data", type=Path, help="the folder with the NSL-KDD files")
    parser.add_argument("--seed", type=int, default=1, help="who is killed when (1)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("there is nothing to do")
    print(f"seed {arguments.seed}", flush=True)
    try:
        dealt = deal(rows_of(arguments.data), arguments.seed)
    except SecureNetError as error:
        parser.error(str(error))
    folder = fresh_directory(Path("build/federated"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        outcome = asyncio.run(
            tell(
                folder,
                dealt,
                rounds=arguments.rounds,
                seed=arguments.seed,
                say=lambda text: print(text, flush=True),
            )
        )
    except (AssertionError, SecureNetError, ExceptionGroup):
        traceback.print_exc()
        print(f"federated rounds FAILED; all files are in {folder}", file=sys.stderr)
        return 1
    wrong = _faults(outcome)
    print(_line(outcome, is_good=not wrong))
    for fault in wrong:
        print(f"  {fault}", file=sys.stderr)
    if wrong:
        return 1
    shutil.rmtree(folder)
    return 0


def _faults(outcome: Outcome) -> list[str]:
    wrong = []
    last_ppm = outcome.rounds[-1].accuracy_ppm
    if last_ppm < outcome.base_ppm + GAIN_PPM_MIN:
        wrong.append(f"the model is hardly better: {last_ppm} ppm after {outcome.base_ppm}")
    if not 0 < outcome.peak_bytes <= PEAK_MIB_MAX * MIB:
        wrong.append(f"a participant takes {outcome.peak_bytes / MIB:.0f} MiB")
    return wrong


def _line(outcome: Outcome, *, is_good: bool) -> str:
    word = "passed" if is_good else "FAILED"
    percents = [outcome.base_ppm, *[told.accuracy_ppm for told in outcome.rounds]]
    return (
        f"federated {len(outcome.rounds)} rounds {word}: accuracy "
        f"{' → '.join([f'{ppm / 10_000:.2f}' for ppm in percents])} %; "
        f"{'/'.join([f'{told.took_s:.0f}' for told in outcome.rounds])} s; a participant takes at "
        f"most {outcome.peak_bytes / MIB:.0f} MiB (of {PEAK_MIB_MAX}); every aggregate computed "
        f"again outside; {outcome.judged} flows judged by the model that was voted in"
    )


if __name__ == "__main__":
    sys.exit(main())

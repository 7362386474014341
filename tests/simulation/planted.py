"""`python -m tests.simulation.planted`: does the simulator find bugs that are put in on purpose?

Each bug of the table is planted into the running code, and worlds are played one seed after another
until a checker sees it. A simulator that misses one would miss its like as well.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

import pytest

from consensus.errors import SafetyViolation
from node.errors import StorageError
from tests import planted_bugs as bugs
from tests.planted_bugs import Patch
from tests.simulation import aimed
from tests.simulation.aimed import Aim
from tests.simulation.checkers import Violation
from tests.simulation.lesson import WITHHOLDS
from tests.simulation.seeds import Failed, run_seed
from tests.simulation.world import leaves_of

SEEDS_MAX: Final = 2_000
WORDS_MAX: Final = 90

_FOUND_BY: Final = (Violation, SafetyViolation, StorageError, AssertionError, LookupError)
"""What shows a bug: a checker, a node that stops rather than go on, or one that dies because what
it looks for is not there. Anything else that a planted bug brings about would be a mistake in the
planting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A bug, and the worlds in which it is looked for.

    Parameters
    ----------
    plant : callable
        Patches the running code.
    aim : Aim, optional
        The kind of short world; by default the worlds of `make simulate`.
    in_ci : bool
        Whether the first five worlds of its kind show it, quickly enough for every run.
    """

    plant: Patch
    aim: Aim | None = None
    in_ci: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return self.plant.__name__

    def play(self, seed: int) -> None:
        """Play the world of a seed in which it is looked for, as the code is."""
        if self.aim is None:
            run_seed(seed)
        else:
            self.aim.play(seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a world with a bug has shown: which checker, in which words."""

    seed: int
    checker: str
    words: str


RESTARTS: Final = Aim(trouble=aimed.restarts)
BLACKOUTS: Final = Aim(trouble=aimed.blackouts)
STALLS: Final = Aim(trouble=aimed.stalls)

TABLE: Final = (
    Planted(plant=bugs.sends_before_it_writes),
    Planted(plant=bugs.attests_without_storing),
    Planted(plant=bugs.commit_not_synced),
    Planted(plant=bugs.commit_in_two_batches, aim=RESTARTS),
    Planted(plant=bugs.votes_lost_at_restart, in_ci=True, aim=RESTARTS),
    Planted(plant=bugs.certificate_lost_at_restart, aim=STALLS),
    Planted(plant=bugs.prepared_not_reported, in_ci=True, aim=STALLS),
    Planted(plant=bugs.late_commit, aim=STALLS),
    Planted(plant=bugs.wiped_miner_signs_at_once, aim=Aim(trouble=aimed.wipes)),
    Planted(plant=bugs.quorum_off_by_one),
    Planted(plant=bugs.votes_counted_instead_of_voters),
    Planted(
        plant=bugs.justification_unchecked,
        in_ci=True,
        aim=Aim(
            trouble=aimed.none,
            parts=("unjustified_rounds", "forged_justification", "leaves_out_justifications"),
        ),
    ),
    Planted(plant=bugs.highest_certificate_ignored, in_ci=True, aim=STALLS),
    Planted(
        plant=bugs.timer_uncapped,
        aim=Aim(trouble=aimed.no_proposals),
        in_ci=True,
    ),
    Planted(plant=bugs.no_resend, in_ci=True, aim=Aim(trouble=aimed.round_changes_lost)),
    Planted(
        plant=bugs.no_jump, in_ci=True, aim=Aim(trouble=aimed.none, before=aimed.rounds_far_apart)
    ),
    Planted(
        plant=bugs.block_time_not_judged,
        in_ci=True,
        aim=Aim(trouble=aimed.none, parts=("an_hour_ahead",)),
    ),
    Planted(plant=bugs.signatures_believed),
    Planted(plant=bugs.duplicates_of_the_look_back),
    Planted(
        plant=bugs.rate_charged_before_the_signature, in_ci=True, aim=Aim(trouble=aimed.griefing)
    ),
    Planted(
        plant=bugs.roots_not_compared,
        in_ci=True,
        aim=Aim(trouble=aimed.none, parts=("wrong_state_root", "wrong_receipt_root")),
    ),
    Planted(
        plant=bugs.certificate_believed_in_sync,
        in_ci=True,
        aim=Aim(trouble=aimed.restarts, parts=("lies_in_sync", "poisons_sync")),
    ),
    Planted(
        plant=bugs.evidence_unproven,
        in_ci=True,
        aim=Aim(trouble=aimed.none, parts=("frames_another", "spreads_forged_evidence")),
    ),
    Planted(
        plant=bugs.evidence_kept_back,
        aim=Aim(trouble=aimed.none, parts=("two_blocks_to_all", "votes_twice")),
    ),
    Planted(plant=bugs.set_changes_early_after_a_restart, aim=Aim(trouble=aimed.rotation)),
    Planted(
        plant=bugs.either_secret_revealed,
        in_ci=True,
        aim=Aim(trouble=aimed.lesson("reveals_the_other_secret")),
    ),
    Planted(
        plant=bugs.one_attestation_is_enough,
        in_ci=True,
        aim=Aim(trouble=aimed.lesson(WITHHOLDS), parts=("ignores_some",)),
    ),
    Planted(plant=bugs.attests_unseen_updates),
    Planted(
        plant=bugs.clip_not_checked,
        in_ci=True,
        aim=Aim(trouble=aimed.lesson("poisons", is_masked=False)),
    ),
    Planted(plant=bugs.withheld_updates_awaited),
    Planted(plant=bugs.weights_left_out),
)
"""Every bug, and where it is looked for."""

IN_CI: Final = range(1, 6)
"""Seeds in which the short version looks."""


def look(bug: Planted, seed: int) -> Finding | None:
    """Play one world with the bug in it; return what was seen."""
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        try:
            bug.play(seed)
        except (Exception, BaseExceptionGroup) as error:
            return _finding(seed, error)
    return None


def _finding(seed: int, error: BaseException) -> Finding:
    cause = error.__cause__ if isinstance(error, Failed) and error.__cause__ else error
    leaf = leaves_of(cause)[0]
    if not isinstance(leaf, _FOUND_BY):
        raise error
    return Finding(seed=seed, checker=_who_says(leaf), words=str(leaf).replace("\n", " "))


def _who_says(error: BaseException) -> str:
    """Return the class whose method raised `error`, or the module of the function."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for frame, _ in reversed(frames):
        speaker = frame.f_locals.get("self")
        if speaker is not None:
            return type(speaker).__name__
        if frame.f_globals["__name__"].startswith("tests."):
            return str(frame.f_globals["__name__"]).rpartition(".")[2]
    return type(error).__name__


def search(
    bug: Planted, seeds: Sequence[int], pool: ProcessPoolExecutor, jobs: int
) -> Finding | None:
    """Return what the first of the seeds in which the bug shows has shown."""
    index = TABLE.index(bug)
    waiting: list[Future[Finding | None]] = []
    left: Iterator[int] = iter(seeds)
    while True:
        waiting += [
            pool.submit(_look, index, seed) for seed in islice(left, 2 * jobs - len(waiting))
        ]
        if not waiting:
            return None
        found = waiting.pop(0).result()
        if found is not None:
            for future in waiting:
                future.cancel()
            return found


def _look(index: int, seed: int) -> Finding | None:
    return look(TABLE[index], seed)


def main() -> int:
    """Look for every bug; 1 if one was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    names = [bug.name for bug in TABLE]
    parser.add_argument("--bug", action="append", choices=names, help="only this one; repeatable")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="worlds for each, at the most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.jobs < 1:
        parser.error("there is nothing to play")
    chosen = [bug for bug in TABLE if bug.name in (arguments.bug or names)]
    missed, most = [], 0
    begun_s = time.perf_counter()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for bug in chosen:
            seeds = range(1, arguments.seeds + 1)
            found = search(bug, seeds, pool, arguments.jobs)
            where = "all kinds" if bug.aim is None else "its own kind"
            if found is None:
                missed.append(bug.name)
                print(f"{bug.name}: MISSED in {arguments.seeds} worlds of {where}", flush=True)
                continue
            most = max(most, found.seed)
            print(
                f"{bug.name}: seed {found.seed}, {found.seed} worlds of {where}; "
                f"{found.checker}: {found.words[:WORDS_MAX]}",
                flush=True,
            )
    took_s = time.perf_counter() - begun_s
    print(
        f"planted bugs {len(chosen)} found {len(chosen) - len(missed)} "
        f"missed {len(missed)}{': ' if missed else ''}{', '.join(missed)}; "
        f"at most {most} worlds for one; {took_s:.0f} s"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

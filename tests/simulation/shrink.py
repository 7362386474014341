"""Find out what of a failing world matters: fewer faults, quiet liars, no clients, same failure.

Delta debugging (Zeller and Hildebrandt, 2002): halves, quarters, and so on are left out as long as
the world still fails in the same way, until nothing more can be left out or the time is up.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.simulation.seeds import Cut, Failed, run_seed

BUDGET_S: Final = 60.0
_DETAILS: Final = re.compile(r"[0-9a-f]{8,}|\d+|\b[mojt]\d\b")


def failure_of(seed: int, cut: Cut) -> Failed | None:
    """Play a seed; return how it fails, or None."""
    try:
        run_seed(seed, cut=cut)
    except Failed as failure:
        return failure
    return None


def shrink(failed: Failed, cut: Cut, *, budget_s: float = BUDGET_S) -> Cut:
    """Return as small a part of a failing world as is found in time that still fails so."""
    deadline_s = time.monotonic() + budget_s
    wanted = _kind_of(failed)

    def fails(candidate: Cut) -> bool:
        if time.monotonic() > deadline_s:
            return False
        failure = failure_of(failed.seed, candidate)
        return failure is not None and _kind_of(failure) == wanted

    def of(events: Sequence[int]) -> Cut:
        return Cut(events=frozenset(events), mute=cut.mute, load=cut.load)

    numbers = range(len(failed.events)) if cut.events is None else sorted(cut.events)
    cut = of(minimise(numbers, lambda events: fails(of(events))))
    for name in failed.hostile:
        candidate = Cut(events=cut.events, mute=cut.mute | {name}, load=cut.load)
        if name not in cut.mute and fails(candidate):
            cut = candidate
    without_load = Cut(events=cut.events, mute=cut.mute, load=False)
    return without_load if cut.load and fails(without_load) else cut


def minimise(items: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return a part of `items` that fails, of which no single piece can be left out (ddmin)."""
    kept = list(items)
    if fails([]):
        return []
    pieces = 2
    while len(kept) > 1:
        size = -(-len(kept) // pieces)
        for start in range(0, len(kept), size):
            rest = kept[:start] + kept[start + size :]
            if fails(rest):
                kept, pieces = rest, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(kept), 2 * pieces)
    return kept


def _kind_of(failure: Failed) -> str:
    """Return what went wrong, without the numbers and names that another course changes."""
    return _DETAILS.sub("#", failure.causes)

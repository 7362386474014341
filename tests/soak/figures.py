"""What is sampled of each node, and what may be concluded from it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chain.limits import RATE_SECONDS_MAX

MIB: Final = 1024 * 1024
SLOPE_MIB_MAX: Final = 1.0
"""For each 100,000 transactions, after the warm-up."""
WARM_UP_SHARE: Final = 0.25
"""This share of the samples, from the first on, is not judged: the load begins."""
WARM_UP_TRANSACTIONS: Final = 300_000
WARM_UP_S: Final = 1.1 * RATE_SECONDS_MAX
"""Nor is memory before so many and so long: memtables and remembered signatures fill, and what
devices have sent in the longest window of a rate limit."""
SAMPLES_MIN: Final = 8
"""With fewer a line through them says nothing."""
DESCRIPTORS_MORE_MAX: Final = 64
"""LevelDB holds more tables open as there are more of them, up to its bound."""
LIMITS: Final[Mapping[str, int]] = {
    "candidates": 64,
    "fates": 20_000,
    "pooled": 50_000,
    "unadmitted": 4 * 50_000,
    "verified": 65_536,
    "watched": 100_000,
}
"""Bounds of what `securenet_held` names, where they do not depend on the load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One node at one moment.

    Parameters
    ----------
    at_s : float
        Since the load began.
    transactions : int
        Committed here since the load began.
    anonymous_bytes, mapped_bytes : int
        Resident memory: the process's own, and pages of files, which the tables of LevelDB are.
    held : mapping of str to int
        ``securenet_held``.
    """

    at_s: float
    transactions: int
    height: int
    anonymous_bytes: int
    mapped_bytes: int
    descriptors: int
    tasks: int
    threads: int
    held: Mapping[str, int]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line of least squares through `points`; 0 where all have one x."""
    n = len(points)
    mean_x = sum(x for x, _ in points) / n
    mean_y = sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def judged(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return those behind the warm-up."""
    return samples[int(len(samples) * WARM_UP_SHARE) :]


def memory_slope_mib(samples: Sequence[Sample], *, mapped: bool = False) -> float | None:
    """Return by how many MiB the memory has grown for each 100,000 transactions.

    None where the load was too short to tell.
    """
    points = [
        (
            sample.transactions / 100_000,
            (sample.anonymous_bytes + mapped * sample.mapped_bytes) / MIB,
        )
        for sample in judged(samples)
        if sample.transactions >= WARM_UP_TRANSACTIONS and sample.at_s >= WARM_UP_S
    ]
    return slope(points) if len(points) >= SAMPLES_MIN else None


def faults(name: str, samples: Sequence[Sample]) -> list[str]:
    """Return what is wrong with a node, in words; nothing where all is as it should be."""
    found = []
    behind = judged(samples)
    if len(behind) < SAMPLES_MIN:
        return [f"{name}: {len(behind)} samples are too few to judge"]
    growth = memory_slope_mib(samples)
    if growth is not None and growth > SLOPE_MIB_MAX:
        found.append(f"{name}: memory grows by {growth:.2f} MiB for 100,000 transactions")
    if _rises([sample.tasks for sample in behind]):
        found.append(f"{name}: tasks rise from {behind[0].tasks} to {behind[-1].tasks}")
    if _rises([sample.threads for sample in behind]):
        found.append(f"{name}: threads rise from {behind[0].threads} to {behind[-1].threads}")
    if behind[-1].descriptors > behind[0].descriptors + DESCRIPTORS_MORE_MAX:
        found.append(
            f"{name}: descriptors rise from {behind[0].descriptors} to {behind[-1].descriptors}"
        )
    for what, limit in LIMITS.items():
        most = max(sample.held.get(what, 0) for sample in samples)
        if most > limit:
            found.append(f"{name}: holds {most} {what}, over the bound of {limit}")
    if behind[-1].height <= behind[0].height:
        found.append(f"{name}: stands still at height {behind[0].height}")
    return found


def _rises(counts: Sequence[int]) -> bool:
    """Tell whether the least of the last third is above the most of the first.

    Requests come and go, so that single samples say little.
    """
    third = len(counts) // 3
    return min(counts[-third:]) > max(counts[:third])

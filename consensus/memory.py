"""What a miner asks of the others about its own memory (DESIGN rule 6).

Whoever has forgotten what it signed must stay silent until every height at which it may have
signed is decided; and whoever starts may have forgotten without knowing, for an older copy of a log
looks like a log. docs/spec/consensus.md, sections "Lost memory" and "Start", has the arguments.
"""

from collections.abc import Mapping

from chain.miners import MinerSet
from chain.types import Address, Height
from consensus.log import HEIGHTS_AHEAD_MAX

SILENT_HEIGHTS = 2
"""A miner without memory signs nothing until so many heights after H."""


def known_height(
    reports: Mapping[Address, Height], miners: MinerSet, me: Address, height: Height
) -> Height | None:
    """Return H, the highest height at which this miner may have signed, less one; None if unknown.

    Parameters
    ----------
    reports : mapping of Address to Height
        The heights that other members have said, since this miner started, that they work on.
    height : Height
        The height that this miner itself works on.

    Notes
    -----
    H is known once ``k = min(n - f, n - 1)`` other members have reported, and the k-th lowest of
    their reports is no further ahead than the window of next heights: a liar that names an absurd
    height is passed over, and real heights have first to be reached by synchronisation. A single
    miner has nobody to ask: only the operator's explicit floor helps.
    """
    needed = min(len(miners) - miners.f, len(miners) - 1)
    if needed == 0:
        return None
    told = sorted(
        reported for miner, reported in reports.items() if miner in miners and miner != me
    )
    if len(told) < needed or told[needed - 1] > height + HEIGHTS_AHEAD_MAX:
        return None
    return max(height, told[needed - 1])


def has_heard_enough(
    shown: Mapping[Address, Height], miners: MinerSet, me: Address, height: Height
) -> bool:
    """Tell whether a miner that has started may take its log for the latest.

    Parameters
    ----------
    shown : mapping of Address to Height
        The members that have, since this miner started, shown what they hold of its signatures,
        and the heights that they worked on meanwhile.
    height : Height
        The height that this miner itself works on.

    Notes
    -----
    It has where a quorum, itself included, has shown it at this height or below. Waiting for so
    many costs nothing: with fewer nobody decides anything. And it is behind nobody then, so that it
    signs nothing for a height that is settled.
    """
    told = [miner for miner, at in shown.items() if miner in miners and at <= height]
    return len({*told, me}) >= miners.quorum

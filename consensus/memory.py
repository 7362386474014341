"""When a miner that lost its memory knows the height H of DESIGN rule 6.

Whoever has forgotten what it signed must stay silent until every height at which it may have
signed is decided. docs/spec/consensus.md, section "Lost memory", has the argument.
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

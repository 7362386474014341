"""Moving a light client on over the headers at which the miners change.

A trusted header vouches for the miners that decide what follows it, as long as they stay; where
they change, the last header of the old ones is trusted first, for it names the new. Which header
that is, is found by halving: a node that lies about it only makes the next step fail.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chain.blocks import Header
from chain.certificate import CommitCertificate
from chain.errors import UntrustedHeader
from chain.light_client import LightClient
from chain.miners import MinerSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A header with what proves it, as a node tells it."""

    header: Header
    certificate: CommitCertificate
    miners: MinerSet


async def walk(
    light: LightClient,
    target: Decided,
    *,
    decided: Callable[[int], Awaitable[Decided]],
    now_ms: int,
) -> list[Decided]:
    """Make `light` trust `target`, a later header.

    Parameters
    ----------
    decided : callable
        Returns what a node tells of the block at a height, or of the next one that it keeps.

    Returns
    -------
    list of Decided
        The headers that were trusted on the way; of what else was told nothing is known.

    Raises
    ------
    UntrustedHeader, InvalidCertificate
        It cannot be trusted, or no header on the way to it.
    """
    steps: list[Decided] = []
    while not _is_next(light.trusted, target.header):
        # What lies at `low` was decided by the miners that the trusted header names, `high` not.
        low, high = int(light.trusted.height) + 1, int(target.header.height)
        if low >= high:
            raise UntrustedHeader("the header is not later, or the trusted one names other miners")
        step = await decided(low)
        low = max(low, int(step.header.height))
        while high - low > 1:
            middle = (low + high) // 2
            between = await decided(middle)
            if _is_next(light.trusted, between.header):
                low, step = max(middle, int(between.header.height)), between
            else:
                high = middle
        if step.header.next_miner_set_hash == step.header.miner_set_hash:
            # One after it would do, and another after that: it would never end.
            raise UntrustedHeader(f"header {step.header.height} is not the last of its miners")
        _advance(light, step, now_ms)
        steps.append(step)
    _advance(light, target, now_ms)
    return steps


def _is_next(trusted: Header, header: Header) -> bool:
    return header.miner_set_hash == trusted.next_miner_set_hash


def _advance(light: LightClient, step: Decided, now_ms: int) -> None:
    light.advance(step.header, step.certificate, step.miners, now_ms=now_ms)

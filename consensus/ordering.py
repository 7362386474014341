"""What a proposal has to look like before anybody votes on it (OSDI'99 §4.2; QBFT).

The functions compute and return; `consensus.reception` decides.
"""

from chain.blocks import Header, transaction_root
from chain.eligibility import proposer_of
from chain.types import Round, TimestampMs
from consensus.events import HeightConfig
from consensus.messages import PrePrepare, Proposal


def header_fault(header: Header, config: HeightConfig) -> str | None:
    """Return which rule a proposed header breaks by itself, or None.

    All that can be said from the parent and the height's configuration. What needs bodies or
    execution is asked of the driver later.
    """
    if header.genesis_hash != config.genesis_hash:
        return "a block of another chain"
    if header.height != config.height:
        return f"a block of height {header.height}"
    if header.parent_hash != config.parent.hash:
        return "a block with another parent"
    if header.miner_set_hash != config.miners.hash:
        return "a block of another miner set"
    if header.time_ms <= config.parent.time_ms:
        return "a block not later than its parent"
    if header.proposer != proposer_of(config.eligible, config.height, header.proposal_round):
        return "a block of another proposer than its proposal round's"
    return None


def digests_fault(proposal: Proposal) -> str | None:
    """Return why the digests are not those of the header, or None; costs two hashes for each."""
    if transaction_root(proposal.digests) != proposal.header.transaction_root:
        return "digests that do not lead to the transaction root"
    return None


def is_fresh(message: PrePrepare) -> bool:
    """Tell whether a PRE-PREPARE brings a new block, rather than one proposed again."""
    return message.justification is None or message.justification.certificate is None


def round_fault(message: PrePrepare) -> str | None:
    """Return why the block's proposal round does not fit the message's round, or None.

    A block proposed again keeps the round it was first proposed in, which is at most the one its
    certificate is of (DESIGN rule 10).
    """
    proposed = message.proposal.header.proposal_round
    if is_fresh(message):
        return None if proposed == message.round else "a fresh block of another round"
    assert message.justification is not None
    certificate = message.justification.certificate
    assert certificate is not None
    return None if proposed <= certificate.round else "proposed after it was prepared"


def clock_offset_ms(message: PrePrepare, wall_ms: TimestampMs) -> int:
    """Return how far the time of a fresh block is ahead of the clock at its arrival.

    What it was under way is in it, so that two equal clocks give a little less than 0.
    """
    return message.proposal.header.time_ms - wall_ms


def time_fault(
    message: PrePrepare, config: HeightConfig, wall_ms: TimestampMs, round: Round
) -> str | None:
    """Return why the time of a fresh block cannot be accepted, or None (DESIGN rule 13).

    Parameters
    ----------
    wall_ms : TimestampMs
        The wall clock when the PRE-PREPARE arrived, before any body is fetched.
    """
    timing = config.timing
    ahead_ms = clock_offset_ms(message, wall_ms)
    if ahead_ms > timing.precision_ms:
        return f"its time is {ahead_ms} ms ahead"
    if ahead_ms < -timing.precision_ms - timing.delay_ms(round):
        return f"its time is {-ahead_ms} ms ago"
    return None

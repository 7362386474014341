"""What the driver is asked about blocks: to fetch one, or to check one; each once in its turn."""

from chain.certificate import VoteCertificate
from chain.eligibility import proposer_of
from chain.types import Address, Digest
from consensus.height import Candidate, HeightState
from consensus.messages import Phase
from consensus.output import CheckProposal, FetchBlock


def fetch_block(
    certificate: VoteCertificate, state: HeightState, me: Address, *, committed: bool
) -> FetchBlock | None:
    """Ask for a block that is not held, once more when it is committed; None if that was done.

    Parameters
    ----------
    certificate : VoteCertificate
        The votes for it: COMMITs exactly if it is `committed`.
    """
    digest = certificate.digest
    if digest in state.fetching and state.fetching[digest] >= committed:
        return None
    state.fetching[digest] = committed
    return FetchBlock(
        height=state.config.height,
        digest=digest,
        holders=tuple(m for m in certificate.signers(state.config.miners) if m != me),
        certificate=certificate if committed else None,
    )


def check_proposal(
    candidate: Candidate, state: HeightState, me: Address, *, committed: bool
) -> CheckProposal | None:
    """Have a block checked, once a round and once more when it is committed; None if it was."""
    if candidate.asked is not None and candidate.asked[1]:
        return None
    asked = (state.round, committed)
    if candidate.asked == asked:
        return None
    candidate.asked = asked
    return CheckProposal(
        height=state.config.height,
        round=state.round,
        proposal=candidate.proposal,
        holders=holders(candidate.proposal.digest, state, me),
        committed=committed,
    )


def holders(digest: Digest, state: HeightState, me: Address) -> tuple[Address, ...]:
    """Return the members that said they hold the block, best first."""
    found: dict[Address, None] = {}
    candidate = state.candidates.get(digest)
    if candidate is not None:
        found[proposer_of(state.config.eligible, state.config.height, state.round)] = None
        found[candidate.proposal.header.proposer] = None
    for phase in (Phase.PREPARE, Phase.COMMIT):
        for votes in reversed(state.log.votes(phase)):
            if votes.digest == digest:
                found.update(dict.fromkeys(sorted(votes.votes)))
    found.pop(me, None)
    return tuple(found)

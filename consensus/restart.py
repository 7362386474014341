"""Taking up a height where the log says that it was left."""

from chain.certificate import PreparedCertificate
from consensus.draft import Draft
from consensus.durable import DurableState
from consensus.events import HeightConfig
from consensus.height import HeightState
from consensus.log import Entry
from consensus.messages import Prepare, PrePrepare


def restore(state: HeightState, durable: DurableState, draft: Draft) -> None:
    """Put into a height that begins what was signed and prepared in it, and send that again."""
    if not durable.messages or durable.messages[0].height != state.config.height:
        return
    state.enter(durable.last.round, draft.now, "restart")
    # Something was begun here, so the timer has to run.
    state.work = True
    state.prepared = durable.prepared
    for vote in _prepares(durable.prepared, state.config):
        # Verified before they were kept; those who have sent them may have to be shown them.
        state.log.put(Entry(vote))
    for proposal in durable.proposals:
        state.add_candidate(proposal)
    for message in durable.messages:
        state.log.put(Entry(message))
        draft.send(message)
        if isinstance(message, PrePrepare):
            state.accepted = message.digest
            state.add_candidate(message.proposal)
        elif isinstance(message, Prepare):
            state.accepted = message.digest
            # It was stored durably before it was signed for (DESIGN rule 5).
            state.candidates[message.digest].valid = True


def _prepares(certificate: PreparedCertificate | None, config: HeightConfig) -> list[Prepare]:
    """Return the messages of which a prepared certificate of this height is made."""
    if certificate is None or certificate.height != config.height:
        return []
    signers = certificate.signers(config.miners)
    return [
        Prepare(
            sender=sender,
            height=certificate.height,
            round=certificate.round,
            digest=certificate.digest,
            signature=vote.signature,
        )
        for sender, vote in zip(signers, certificate.votes, strict=True)
    ]

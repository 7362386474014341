"""Proposals and votes: how the miners change what only they together may change.

A proposal is decided by a quorum of the miners of the height. It is counted afresh at every vote
and at the end of every block, so that votes of miners that have left or were demoted do not count,
a smaller set decides what a larger one could not, and what had to wait for an earlier change gets
its turn. docs/spec/state.md, section "Governance", is normative.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chain.blocks import Event
from chain.eligibility import counted
from chain.errors import Rejection
from chain.kinds.base import BlockContext, Kind, require
from chain.records.proposals import (
    CLOSED_PROPOSALS,
    CLOSED_PROPOSALS_MAX,
    OPEN_PROPOSALS,
    OPEN_PROPOSALS_MAX,
    PROPOSAL_TABLE,
    ClosedProposals,
    OpenProposals,
    ProposalRecord,
)
from chain.state import View
from chain.transactions import Transaction
from chain.types import Address, Digest, Height


def open_proposal(
    kind: Kind, body: Any, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    """Open the proposal that a governance transaction makes; its sender approves it thereby.

    That an earlier change is in the way does not matter yet: votes are collected meanwhile.

    Raises
    ------
    Rejection
        The sender does not decide this height, the change is not possible, or too many are open.
    """
    assert kind.check is not None, "a governance kind says what is possible"
    sender = transaction.payload.sender
    require(sender in block.miners, "not_permitted", "the sender is no miner of this height")
    kind.check(body, block.state, block)
    ids = _open_ids(block.state)
    require(
        len(ids) < OPEN_PROPOSALS_MAX, "limit_reached", f"{OPEN_PROPOSALS_MAX} proposals are open"
    )
    # One miner cannot take up the room of the others, and so keep them from governing.
    share = OPEN_PROPOSALS_MAX // len(block.miners)
    own = sum([_proposal(id, block.state).proposer == sender for id in ids])
    require(own < share, "limit_reached", f"{own} proposals of the sender are open")
    proposal = ProposalRecord(
        kind=kind.name,
        body=transaction.payload.body,
        proposer=sender,
        opened_height=block.height,
        deadline_ms=block.time_ms + block.parameters.proposal_lifetime_ms,
        approvals=(sender,),
        refusals=(),
        status="open",
        closed_height=None,
    )
    block.state.put(OPEN_PROPOSALS, OpenProposals(ids=(*ids, transaction.id)))
    block.state.put(PROPOSAL_TABLE, proposal, transaction.id)
    opened = Event(name="proposal_opened", values=(transaction.id.hex(), kind.name))
    return (opened, *_settle(transaction.id, proposal, kind, block))


def vote(
    proposal_id: Digest,
    approve: bool,
    voter: Address,
    kinds: Mapping[str, Kind],
    block: BlockContext,
) -> tuple[Event, ...]:
    """Count a vote; a proposal that reaches a quorum is enacted, or waits for its turn.

    Raises
    ------
    Rejection
        No such proposal, it is closed, or the voter has voted or may not vote.
    """
    require(voter in block.miners, "not_permitted", "the sender is no miner of this height")
    proposal = block.state.get(PROPOSAL_TABLE, proposal_id)
    if proposal is None:
        raise Rejection("not_found", f"there is no proposal {proposal_id.hex()}")
    require(proposal.status == "open", "proposal_closed", f"the proposal is {proposal.status}")
    require(
        proposal.deadline_ms > block.time_ms, "proposal_closed", "the proposal's deadline is past"
    )
    require(
        voter not in proposal.approvals and voter not in proposal.refusals,
        "already_voted",
        "the sender has voted on this proposal",
    )
    # Members only, so that the lists stay bounded however often the set changes.
    approvals = tuple(id for id in proposal.approvals if id in block.miners)
    refusals = tuple(id for id in proposal.refusals if id in block.miners)
    if approve:
        approvals = (*approvals, voter)
    else:
        refusals = (*refusals, voter)
    proposal = replace(proposal, approvals=approvals, refusals=refusals)
    block.state.put(PROPOSAL_TABLE, proposal, proposal_id)
    return _settle(proposal_id, proposal, kinds[proposal.kind], block)


def settle_proposals(kinds: Mapping[str, Kind], block: BlockContext) -> tuple[Event, ...]:
    """Do what the end of a block does to the open proposals, and return what happened.

    Those whose deadline the block's time has reached are closed. The others are counted again,
    the oldest first: the miners may have changed, or the change that one has waited for may be in
    effect, and nobody who could still vote may be left to bring it to a decision.
    """
    events: list[Event] = []
    for proposal_id in _open_ids(block.state):
        proposal = _proposal(proposal_id, block.state)
        if proposal.deadline_ms <= block.time_ms:
            events += _close(proposal_id, proposal, "expired", block)
        else:
            events += _settle(proposal_id, proposal, kinds[proposal.kind], block)
    return tuple(events)


def _settle(
    proposal_id: Digest, proposal: ProposalRecord, kind: Kind, block: BlockContext
) -> tuple[Event, ...]:
    miners = block.miners
    if counted(proposal.approvals, miners, block.state) >= miners.quorum:
        return _enact(proposal_id, proposal, kind, block)
    if counted(proposal.refusals, miners, block.state) > len(miners) - miners.quorum:
        return _close(proposal_id, proposal, "rejected", block)
    return ()


def _enact(
    proposal_id: Digest, proposal: ProposalRecord, kind: Kind, block: BlockContext
) -> tuple[Event, ...]:
    assert kind.check is not None, "a governance kind says what is possible"
    assert kind.enact is not None, "a governance kind says what it does"
    body = kind.decode_bytes(proposal.body)
    if kind.must_wait is not None and kind.must_wait(body, block):
        # It stays open and is tried again. Whether it is possible is asked when its turn comes,
        # so that however many wait, a block does the work of the one that is enacted.
        return ()
    try:
        kind.check(body, block.state, block)
    except Rejection:
        # The world has changed since it was opened; the vote stands, the change does not.
        return _close(proposal_id, proposal, "void", block)
    events = kind.enact(body, block)
    return (*_close(proposal_id, proposal, "enacted", block), *events)


def _close(
    proposal_id: Digest, proposal: ProposalRecord, status: str, block: BlockContext
) -> tuple[Event, ...]:
    closed = replace(proposal, status=status, closed_height=Height(block.height))
    block.state.put(PROPOSAL_TABLE, closed, proposal_id)
    ids = tuple(id for id in _open_ids(block.state) if id != proposal_id)
    block.state.put(OPEN_PROPOSALS, OpenProposals(ids=ids))
    _forget_oldest(proposal_id, block)
    return (Event(name=f"proposal_{status}", values=(proposal_id.hex(), proposal.kind)),)


def _forget_oldest(closed: Digest, block: BlockContext) -> None:
    """Make room for one more closed proposal, so that the state does not grow with every vote."""
    record = block.state.get(CLOSED_PROPOSALS)
    ids = (*(() if record is None else record.ids), closed)
    for past in ids[:-CLOSED_PROPOSALS_MAX]:
        block.state.remove(PROPOSAL_TABLE, past)
    block.state.put(CLOSED_PROPOSALS, ClosedProposals(ids=ids[-CLOSED_PROPOSALS_MAX:]))


def _proposal(id: Digest, view: View) -> ProposalRecord:
    proposal = view.get(PROPOSAL_TABLE, id)
    assert proposal is not None, "an open proposal is on record"
    return proposal


def _open_ids(view: View) -> tuple[Digest, ...]:
    record = view.get(OPEN_PROPOSALS)
    return () if record is None else record.ids

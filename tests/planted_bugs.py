"""Bugs on purpose: what the worlds have to find, each as a patch of the code under test."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chain.miners import MinerSet
from chain.miners import quorum as true_quorum
from chain.types import Round
from consensus import durable, round_change
from consensus.log import MessageLog
from consensus.messages import Phase, PrePrepare
from consensus.replica import Replica

Patch = Callable[[Any], None]


def quorum_off_by_one(patch):
    """Count one vote less than a quorum."""
    patch.setattr(MinerSet, "quorum", property(lambda miners: true_quorum(len(miners)) - 1))


def justification_unchecked(patch):
    """Believe every proposer of a later round."""
    patch.setattr(round_change, "justification_shape_fault", lambda *arguments: None)
    patch.setattr(round_change, "justification_fault", lambda *arguments: None)


def certificate_lost_at_restart(patch):
    """Forget, with a crash, that a block was prepared."""
    apply = durable.DurableState.apply

    def forgetful(state, record):
        return state if isinstance(record, durable.Prepared) else apply(state, record)

    patch.setattr(durable.DurableState, "apply", forgetful)


def votes_lost_at_restart(patch):
    """Forget, with a crash, what was signed."""
    apply = durable.DurableState.apply

    def forgetful(records):
        state = durable.DurableState()
        for record in records:
            if isinstance(record, durable.Floor):
                state = apply(state, record)
        return state

    patch.setattr("tests.interaction.cluster.recover", forgetful)


def prepared_not_reported(patch):
    """Leave a round without saying what was prepared in it."""
    leave = Replica._leave_for

    def silent(replica, round, cause, state):
        prepared, state.prepared = state.prepared, None
        leave(replica, round, cause, state)
        state.prepared = prepared

    patch.setattr(Replica, "_leave_for", silent)


def highest_certificate_ignored(patch):
    """Propose again what was prepared in the lowest round, and accept that."""
    justify = round_change.justify

    def lowest(round_changes, miners):
        plain = [replace(m, prepared_round=None, certificate=None) for m in round_changes]
        return justify(plain, miners)

    patch.setattr(round_change, "justify", lowest)
    patch.setattr(round_change, "justification_shape_fault", lambda *arguments: None)
    patch.setattr(round_change, "justification_fault", lambda *arguments: None)


def no_resend(patch):
    """Send a ROUND-CHANGE once."""

    def silent(replica, state):
        state.resend_ns = None

    patch.setattr(Replica, "_resend", silent)


def lock_as_a_veto(patch):
    """Refuse every other block once prepared, as IBFT 1 did."""
    vote = Replica._try_vote_prepare

    def stubborn(replica, state):
        if state.prepared is not None and state.accepted not in (None, state.prepared.digest):
            return False
        return vote(replica, state)

    patch.setattr(Replica, "_try_vote_prepare", stubborn)


def commits_added_up_over_rounds(patch):
    """Count as one quorum the COMMITs for whatever block, as if a height had one block only."""
    votes = MessageLog.votes

    def added_up(log, phase):
        found = votes(log, phase)
        if phase is Phase.COMMIT and found:
            for other in found[1:]:
                for miner, signature in other.votes.items():
                    found[0].add(miner, signature)
        return found

    patch.setattr(MessageLog, "votes", added_up)


def any_round_changes_justify(patch):
    """Count ROUND-CHANGEs for other rounds as well."""
    of_round = MessageLog.round_changes

    def of_any(log, round):
        newest = {m.sender: m for r in range(1, round + 1) for m in of_round(log, Round(r))}
        return [newest[sender] for sender in sorted(newest)]

    patch.setattr(MessageLog, "round_changes", of_any)
    patch.setattr(round_change, "justification_shape_fault", lambda *arguments: None)


def second_vote_in_a_round(patch):
    """Follow the proposal that came last, and vote again."""
    accept = Replica._on_second

    def fickle(replica, known, message, state):
        accept(replica, known, message, state)
        if isinstance(message, PrePrepare) and message.round == state.round:
            state.accepted = message.digest
            state.add_candidate(message.proposal)
            for phase in (Phase.PREPARE, Phase.COMMIT):
                state.log._slots.pop((replica._me, phase), None)
            durable_state = replica._signer.durable
            replica._signer.durable = replace(durable_state, messages=durable_state.messages[:0])

    patch.setattr(Replica, "_on_second", fickle)

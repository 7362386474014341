"""Bugs on purpose: what the worlds have to find, each as a patch of the code under test."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chain.miners import MinerSet
from chain.miners import quorum as true_quorum
from consensus import durable, round_change
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

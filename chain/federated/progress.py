"""What the end of a block does to the open rounds.

Transactions only put on record what members and miners have done; here, and nowhere else, a round
goes from one phase to the next: as soon as nothing is left to wait for, or at the phase's deadline.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from chain.blocks import Event
from chain.eligibility import counted
from chain.federated.draw import draw_groups
from chain.federated.records import (
    CLOSED_ROUNDS,
    CLOSED_ROUNDS_MAX,
    OPEN_ROUNDS,
    REVEAL_TABLE,
    ROUND_TABLE,
    SHARES_TABLE,
    FederatedRound,
    Member,
    RoundIds,
    threshold,
)
from chain.state import View
from chain.table import Table
from chain.types import Digest

if TYPE_CHECKING:
    # The kinds of transactions use this module.
    from chain.kinds.base import BlockContext


def open_round_ids(view: View) -> tuple[Digest, ...]:
    """Return the ids of the open rounds, oldest first."""
    return _ids(OPEN_ROUNDS, view)


def round_ids(view: View) -> tuple[Digest, ...]:
    """Return the ids of all rounds that the state has."""
    return (*_ids(OPEN_ROUNDS, view), *_ids(CLOSED_ROUNDS, view))


def _ids(table: Table[RoundIds], view: View) -> tuple[Digest, ...]:
    rounds = view.get(table)
    return () if rounds is None else rounds.ids


def settle_rounds(block: "BlockContext") -> tuple[Event, ...]:
    """Move on every open round that has nothing left to wait for, or is out of time."""
    events: list[Event] = []
    for round_id in open_round_ids(block.state):
        before = block.state.get(ROUND_TABLE, round_id)
        assert before is not None, "an open round is on record"
        after = _STEPS[before.phase](round_id, before, block)
        if after is None:
            continue
        after = replace(after, phase_height=block.height)
        if after.is_open:
            block.state.put(ROUND_TABLE, after, round_id)
            events.append(Event(name="round_phase", values=(round_id.hex(), after.phase)))
        else:
            events += close_round(round_id, after, block)
    return tuple(events)


def close_round(
    round_id: Digest, closed: FederatedRound, block: "BlockContext"
) -> tuple[Event, ...]:
    """Put a closed round on record, forget what only an open one needs, and say how it ended."""
    for member in closed.members:
        block.state.remove_if_present(SHARES_TABLE, round_id + member.device)
        block.state.remove_if_present(REVEAL_TABLE, round_id + member.device)
    block.state.put(ROUND_TABLE, replace(closed, phase_height=block.height), round_id)
    ids = tuple(id for id in open_round_ids(block.state) if id != round_id)
    block.state.put(OPEN_ROUNDS, RoundIds(ids=ids))
    closed_ids = (*_ids(CLOSED_ROUNDS, block.state), round_id)
    for forgotten in closed_ids[:-CLOSED_ROUNDS_MAX]:
        block.state.remove(ROUND_TABLE, forgotten)
    block.state.put(CLOSED_ROUNDS, RoundIds(ids=closed_ids[-CLOSED_ROUNDS_MAX:]))
    result = closed.reason if closed.aggregate is None else closed.aggregate.hex()
    values = (round_id.hex(),) if result is None else (round_id.hex(), result)
    overruled = [
        Event(name="aggregate_overruled", values=(round_id.hex(), vote.miner.hex()))
        for vote in closed.votes
        if closed.aggregate is not None and vote.digest != closed.aggregate
    ]
    return (Event(name=f"round_{closed.phase}", values=values), *overruled)


def awaited(found: FederatedRound) -> tuple[Member, ...]:
    """Return the members that have not done yet what a round is waiting for.

    Of those that can still reveal, some are enough.
    """
    match found.phase:
        case "join":
            waiting = [member for member in found.members if not member.has_joined]
        case "share":
            waiting = _at("joined", found)
        case "commit":
            waiting = _at("shared" if found.terms.is_masked else "joined", found)
        case "reveal":
            hidden = set(found.groups).difference(found.revealed)
            waiting = [member for member in _at("included", found) if member.group in hidden]
        case _:
            waiting = []
    return tuple(waiting)


def _at(status: str, found: FederatedRound) -> list[Member]:
    """Return who has a status, in the groups that count."""
    groups = found.groups
    return [
        member for member in found.members if member.status == status and member.group in groups
    ]


# --- one step for each phase: the round in its next phase, or None while it has to wait -----------


def _join(round_id: Digest, found: FederatedRound, block: "BlockContext") -> FederatedRound | None:
    if awaited(found) and block.height < found.terms.deadlines.join:
        return None
    joined = sum([member.has_joined for member in found.members])
    if joined < found.terms.group_size * found.terms.groups_min:
        return replace(found, phase="failed", reason="too_few_joined")
    return replace(found, phase="draw")


def _draw(round_id: Digest, found: FederatedRound, block: "BlockContext") -> FederatedRound:
    """Draw the groups at the end of the block behind the one that closed joining."""
    groups = draw_groups(
        [member.device for member in found.members if member.has_joined],
        group_size=found.terms.group_size,
        round_id=round_id,
        seed=block.parent_hash,
    )
    members = [replace(member, group=groups.get(member.device)) for member in found.members]
    phase = "share" if found.terms.is_masked else "commit"
    return replace(found, members=tuple(members), phase=phase)


def _share(round_id: Digest, found: FederatedRound, block: "BlockContext") -> FederatedRound | None:
    if awaited(found) and block.height < found.terms.deadlines.share:
        return None
    return _without_weak_groups(replace(found, phase="commit"), "shared")


def _commit(
    round_id: Digest, found: FederatedRound, block: "BlockContext"
) -> FederatedRound | None:
    if awaited(found) and block.height < found.terms.deadlines.commit:
        return None
    return _without_weak_groups(replace(found, phase="attest"), "committed")


def _attest(
    round_id: Digest, found: FederatedRound, block: "BlockContext"
) -> FederatedRound | None:
    groups = found.groups
    held = {
        position: _is_held(found, position, block)
        for position, member in enumerate(found.members)
        if member.status == "committed" and member.group in groups
    }
    if not all(held.values()) and block.height < found.terms.deadlines.attest:
        return None
    members = list(found.members)
    for position, is_held in held.items():
        status = "included" if is_held else "withheld"
        members[position] = replace(members[position], status=status)
    phase = "reveal" if found.terms.is_masked else "aggregate"
    return _without_weak_groups(replace(found, members=tuple(members), phase=phase), "included")


def _reveal(
    round_id: Digest, found: FederatedRound, block: "BlockContext"
) -> FederatedRound | None:
    hidden = set(found.groups).difference(found.revealed)
    if hidden and block.height < found.terms.deadlines.reveal:
        return None
    return _without(replace(found, phase="aggregate"), hidden)


def _aggregate(
    round_id: Digest, found: FederatedRound, block: "BlockContext"
) -> FederatedRound | None:
    for digest in sorted({vote.digest for vote in found.votes}):
        voters = tuple([vote.miner for vote in found.votes if vote.digest == digest])
        if counted(voters, block.miners, block.state) >= block.miners.quorum:
            return replace(found, phase="finished", aggregate=digest)
    if block.height < found.terms.deadlines.aggregate:
        return None
    return replace(found, phase="failed", reason="no_aggregate")


_STEPS: Final[
    dict[str, Callable[[Digest, FederatedRound, "BlockContext"], FederatedRound | None]]
] = {
    "join": _join,
    "draw": _draw,
    "share": _share,
    "commit": _commit,
    "attest": _attest,
    "reveal": _reveal,
    "aggregate": _aggregate,
}


def _is_held(found: FederatedRound, position: int, block: "BlockContext") -> bool:
    """Tell whether an honest miner is sure to hold an update, and so whoever asks for it."""
    miners = [entry.miner for entry in found.attestations if entry.holds(position)]
    return counted(tuple(miners), block.miners, block.state) >= block.miners.weak_quorum


def _without_weak_groups(found: FederatedRound, status: str) -> FederatedRound:
    """Void the groups in which fewer than the threshold have this status."""
    sizes = Counter([member.group for member in found.members])
    able = Counter([member.group for member in found.members if member.status == status])
    weak = {group for group in found.groups if able[group] < threshold(sizes[group])}
    return _without(found, weak)


def _without(found: FederatedRound, weak: set[int]) -> FederatedRound:
    """Void groups; with too few left the round fails."""
    found = replace(found, void=tuple(sorted({*found.void, *weak})))
    if len(found.groups) < found.terms.groups_min:
        return replace(found, phase="failed", reason="too_few_groups")
    return found

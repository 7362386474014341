"""Who proposes: rotation over the eligible miners, and passing over those that failed.

Everything follows from committed headers and from the state, so that every node agrees on it.
DESIGN rule 10; docs/spec/consensus.md, section "Proposers", is normative.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from chain.blocks import Event
from chain.miners import MinerSet, quorum
from chain.records.miners import MINER_TABLE, PASSED_OVER, Passed, PassedOver
from chain.state import Overlay, View, passed_over_of
from chain.types import Address, Height, Round

PASS_HEIGHTS_BASE: Final = 8
PASS_HEIGHTS_MAX: Final = 1_024
"""A miner is passed over for `PASS_HEIGHTS_BASE` heights at first, twice as long each further
time, and never longer than `PASS_HEIGHTS_MAX`."""


def proposer_of(eligible: Sequence[Address], height: Height, round: Round) -> Address:
    """Return the miner that may propose at (`height`, `round`): ``E[(h + r) mod |E|]``."""
    return eligible[(height + round) % len(eligible)]


def eligible_miners(view: View, miners: MinerSet, height: Height) -> tuple[Address, ...]:
    """Return E for `height`: active members that are not passed over, in ascending order.

    Parameters
    ----------
    view : View
        The state before `height`.
    miners : MinerSet
        The set of `height`.

    Notes
    -----
    Passed over and demoted members together are at most f; beyond that the ones passed over
    longest return first. If every member is demoted, all are eligible, for someone has to propose.
    """
    active = [member.id for member in miners if is_active(view, member.id)]
    if not active:
        return tuple(member.id for member in miners)
    room = max(0, miners.f - (len(miners) - len(active)))
    passed = [
        entry.miner
        for entry in passed_over_of(view).entries
        if entry.until_height > height and entry.miner in active
    ]
    skipped = set(passed[len(passed) - room :]) if room else set()
    return tuple(id for id in active if id not in skipped) or tuple(active)


def record_proposers(
    state: Overlay,
    *,
    height: Height,
    proposer: Address,
    proposal_round: Round,
    eligible: Sequence[Address],
    miners: MinerSet,
) -> tuple[Event, ...]:
    """Write down what the block of `height` says of those who had to propose it.

    Returns the events that name those blamed.

    Its proposer is cleared. With 1 ≤ proposal_round ≤ f, the proposers of the earlier rounds are
    blamed; more failed rounds are an outage of the network and nobody's fault.
    """
    before = passed_over_of(state)
    entries = {entry.miner: entry for entry in before.entries if entry.miner in miners}
    entries.pop(proposer, None)
    events: list[Event] = []
    if 1 <= proposal_round <= miners.f:
        for round in range(proposal_round):
            blamed = proposer_of(eligible, height, Round(round))
            if blamed == proposer:
                continue
            known = entries.pop(blamed, None)
            failures = 1 if known is None else min(known.failures + 1, 64)
            heights = min(PASS_HEIGHTS_BASE << (failures - 1), PASS_HEIGHTS_MAX)
            until = Height(height + 1 + heights)
            entries[blamed] = Passed(miner=blamed, failures=failures, until_height=until)
            events.append(Event(name="miner_passed_over", values=(blamed.hex(), str(until))))
    after = PassedOver(entries=tuple(entries.values()))
    if after != before:
        state.put(PASSED_OVER, after)
    return tuple(events)


def keeps_quorum(view: View, members: Iterable[Address], *, without: Address | None = None) -> bool:
    """Tell whether a quorum of `members` is active, so that they can go on governing themselves.

    The one limit of all that takes miners away: demotion (`without` names whom it would be), and
    removal. Below it nobody could be restored, added or removed any more. Whoever is added is
    active, and the quorum grows by one at most, so that an addition never reaches it.

    Notes
    -----
    It may bar more than f: of six, two; of three, one. Those are proven liars, and what is left is
    a quorum, which holds f + 1 honest miners as every quorum does. Passing over is another thing:
    that is no proof, so together with the demoted it ends at f (`eligible_miners`). Since at most f
    are passed over, a change of the set cannot cost the rest its quorum of votes on blocks.
    """
    ids = tuple(members)
    active = [id for id in ids if id != without and is_active(view, id)]
    return len(active) >= quorum(len(ids))


def is_active(view: View, miner: Address) -> bool:
    """Tell whether a miner is approved and not demoted, as it has to be to act."""
    record = view.get(MINER_TABLE, miner)
    return record is not None and record.status == "active"


def counted(voters: tuple[Address, ...], miners: MinerSet, view: View) -> int:
    """Count the voters that are active miners of this height."""
    return sum([voter in miners and is_active(view, voter) for voter in voters])

"""What a replica is waiting for, as a value for operators (``consensus why``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chain.eligibility import proposer_of
from chain.types import Address, Digest, Height, Round
from consensus.height import HeightState, RoundEntry
from consensus.messages import Phase

_AWAITED: Final = {
    "round-change": Phase.ROUND_CHANGE,
    "prepare": Phase.PREPARE,
    "commit": Phase.COMMIT,
}
"""What every member is waited for in a phase; in other phases it is one member, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """What was seen of one member in the current round.

    Parameters
    ----------
    round : Round
        The highest round the member is known to have reached.
    missing_since_ns : int, optional
        Monotonic time since when the vote that the current phase needs of it is awaited; None
        where nothing is.
    height_reported : Height, optional
        What it last said that it works on.
    """

    miner: Address
    round: Round
    pre_prepare: bool
    prepare: bool
    commit: bool
    round_change: bool
    missing_since_ns: int | None
    height_reported: Height | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of agreement at one moment.

    Parameters
    ----------
    phase : str
        ``idle`` (no work), ``proposal`` (awaited), ``building`` (own block), ``checking``,
        ``prepare`` (quorum awaited), ``commit`` (quorum awaited), ``fetching`` (a block that is
        committed or has to be proposed again), ``committed``, or ``round-change`` (too few members
        have reached this round).
    signing : str
        ``yes``, or why this miner signs nothing: ``observer``, ``lost-memory``, ``awaiting-peers``,
        ``floor``.
    """

    height: Height
    round: Round
    phase: str
    signing: str
    proposer: Address
    proposal: Digest | None
    prepared_round: Round | None
    quorum: int
    members: tuple[MemberView, ...]
    deadline_ns: int | None
    rounds: tuple[RoundEntry, ...]


def take_snapshot(
    state: HeightState, me: Address, silence: str | None, reports: Mapping[Address, Height]
) -> Snapshot:
    """Return what the replica of `me` waits for.

    Parameters
    ----------
    silence : str, optional
        Why it signs nothing.
    reports : mapping of Address to Height
        What members have said that they work on.
    """
    config = state.config
    reached = state.log.reached()
    proposer = proposer_of(config.eligible, config.height, state.round)
    members = []
    for miner in config.miners:
        seen = {phase: state.log.get(miner.id, phase, state.round) is not None for phase in Phase}
        awaited = _AWAITED.get(state.phase)
        if awaited is not None:
            missing = not seen[awaited]
        else:
            missing = state.phase == "proposal" and miner.id == proposer
        members.append(
            MemberView(
                miner=miner.id,
                round=reached.get(miner.id, Round(0)),
                pre_prepare=seen[Phase.PRE_PREPARE],
                prepare=seen[Phase.PREPARE],
                commit=seen[Phase.COMMIT],
                round_change=seen[Phase.ROUND_CHANGE],
                missing_since_ns=state.phase_since_ns if missing else None,
                height_reported=config.height if miner.id == me else reports.get(miner.id),
            )
        )
    return Snapshot(
        height=config.height,
        round=state.round,
        phase=state.phase,
        signing=silence or "yes",
        proposer=proposer,
        proposal=state.accepted,
        prepared_round=None if state.prepared is None else state.prepared.round,
        quorum=config.miners.quorum,
        members=tuple(members),
        deadline_ns=state.next_deadline(),
        rounds=tuple(state.rounds),
    )

"""What a replica is waiting for, as a value for operators (``consensus why``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chain.eligibility import proposer_of
from chain.types import Address, Digest, Height, Round
from consensus.height import HeightState, Refusal, RoundEntry
from consensus.messages import Phase
from consensus.timers import Timing

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
    clock_offset_ms : int, optional
        How far the time of its last fresh proposal was ahead of this node's clock.
    """

    miner: Address
    round: Round
    pre_prepare: bool
    prepare: bool
    commit: bool
    round_change: bool
    missing_since_ns: int | None
    height_reported: Height | None
    clock_offset_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of agreement at one moment.

    Parameters
    ----------
    me : Address
        The miner of this node.
    fault : str
        Why the proposal of this round was found invalid here; empty where it was not.
    refusal : Refusal, optional
        The last proposal of this height that was not accepted.
    phase : str
        ``idle`` (no work), ``proposal`` (awaited), ``building`` (own block), ``checking``,
        ``prepare`` (quorum awaited), ``commit`` (quorum awaited), ``fetching`` (a block that is
        committed or has to be proposed again), ``committed``, or ``round-change`` (too few members
        have reached this round).
    signing : str
        ``yes``, or why this miner signs nothing: ``observer``, ``lost-memory``, ``awaiting-peers``,
        ``floor``, ``key-replaced`` (the set has a key of this miner that the node, or its signer,
        does not have), ``signer-unreachable``.
    """

    me: Address
    height: Height
    round: Round
    phase: str
    phase_since_ns: int
    signing: str
    proposer: Address
    proposal: Digest | None
    fault: str
    refusal: Refusal | None
    prepared_round: Round | None
    quorum: int
    members: tuple[MemberView, ...]
    deadline_ns: int | None
    timing: Timing
    rounds: tuple[RoundEntry, ...]


def take_snapshot(
    state: HeightState,
    me: Address,
    silence: str | None,
    reports: Mapping[Address, Height],
    offsets: Mapping[Address, int],
) -> Snapshot:
    """Return what the replica of `me` waits for.

    Parameters
    ----------
    silence : str, optional
        Why it signs nothing.
    reports : mapping of Address to Height
        What members have said that they work on.
    offsets : mapping of Address to int
        How far their clocks were found to be ahead, in milliseconds.
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
                clock_offset_ms=offsets.get(miner.id),
            )
        )
    candidate = state.accepted_candidate()
    return Snapshot(
        me=me,
        height=config.height,
        round=state.round,
        phase=state.phase,
        phase_since_ns=state.phase_since_ns,
        signing=silence or "yes",
        proposer=proposer,
        proposal=state.accepted,
        fault="" if candidate is None else candidate.fault,
        refusal=state.refusal,
        prepared_round=None if state.prepared is None else state.prepared.round,
        quorum=config.miners.quorum,
        members=tuple(members),
        deadline_ns=state.next_deadline(),
        timing=config.timing,
        rounds=tuple(state.rounds),
    )

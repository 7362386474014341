"""Why the chain does not go on, in a word that scripts may rely on and a sentence for people.

A pure function of what a node knows: what agreement waits for, which members it hears, and how its
disk and clock do. What a node knows is its own side; ``securenet consensus why --all`` compares
several. docs/operating.md, section "When the chain stands still", explains the codes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from chain.types import Address
from consensus.snapshot import MemberView, Snapshot
from node.p2p.errors import Reason

NS_PER_S: Final = 1_000_000_000
SILENT_NS: Final = 3 * NS_PER_S
"""A vote that is awaited for so long from a member with a session is missing, not late."""
SLOW_DISK_NS: Final = NS_PER_S // 2
"""A write to the log that takes so long is slow: each round needs several, one behind the other."""

CODES: Final = (
    "idle",
    "working",
    "not_in_sync",
    "signing_nothing",
    "root_mismatch",
    "slow_disk",
    "clock_skew",
    "quorum_lost",
    "partition",
    "proposer_silent",
    "proposal_refused",
)
"""Every code; the first two are of a chain in good health."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a node knows of itself.

    Parameters
    ----------
    heard : collection of Address
        The other members with a standing session.
    troubles : mapping of Address to str
        Why the last try to reach a member without session failed, where one was made.
    is_behind : bool
        Whether peers are known to be ahead.
    write_ns : int
        How long a write to the consensus log takes at present; one under way counts.
    clock_offsets_ms : sequence of int
        How far this node's clock is ahead of that of each proposer it has heard, as it is now.
    """

    snapshot: Snapshot
    now_ns: int
    heard: Collection[Address]
    troubles: Mapping[Address, str]
    is_behind: bool
    write_ns: int
    clock_offsets_ms: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One of `CODES`, and what it means here.

    Parameters
    ----------
    heard : int
        How many of the members this node hears, itself included.
    """

    code: str
    text: str
    heard: int = 0


def diagnose(facts: Facts) -> Diagnosis:
    """Return the first of these that holds: own troubles, then those with others, then waiting.

    Without a quorum of sessions nothing goes on, whatever a clock or a disk does. With one, it is
    they that keep members from voting.
    """
    found = (
        _own_trouble(facts)
        or _lost_members(facts)
        or _own_disk_or_clock(facts)
        or _mute_members(facts)
        or _memory_unshown(facts.snapshot)
        or _failed_rounds(facts.snapshot)
        or _health(facts.snapshot)
    )
    return replace(found, heard=len(_heard(facts)))


def _memory_unshown(snapshot: Snapshot) -> Diagnosis | None:
    """Say that a started miner waits for the others, once it is sure that they are there."""
    if snapshot.signing != _AWAITING_PEERS:
        return None
    return Diagnosis(
        code="signing_nothing",
        text="this miner has started, and signs nothing until a quorum has shown it what it signed",
    )


def _health(snapshot: Snapshot) -> Diagnosis:
    if snapshot.phase == "idle":
        return Diagnosis(code="idle", text="there is nothing to agree on")
    return Diagnosis(
        code="working",
        text=f"height {snapshot.height} is being agreed on, round {snapshot.round}",
    )


def _heard(facts: Facts) -> list[MemberView]:
    """Return the members that this node hears, itself among them."""
    me = facts.snapshot.me
    return [m for m in facts.snapshot.members if m.miner == me or m.miner in facts.heard]


def _own_trouble(facts: Facts) -> Diagnosis | None:
    snapshot = facts.snapshot
    if facts.is_behind:
        return Diagnosis(
            code="not_in_sync", text="this node is behind its peers and fetches their blocks"
        )
    if snapshot.signing not in ("yes", "observer", _AWAITING_PEERS):
        return Diagnosis(
            code="signing_nothing", text=f"this miner signs nothing: {snapshot.signing}"
        )
    if snapshot.fault.startswith("wrong_root"):
        return Diagnosis(
            code="root_mismatch",
            text=f"this node computes another root than the proposer ({snapshot.fault}); if others "
            "accept the block, this node's software or database is not theirs",
        )
    return None


def _own_disk_or_clock(facts: Facts) -> Diagnosis | None:
    if facts.write_ns >= SLOW_DISK_NS:
        return Diagnosis(
            code="slow_disk",
            text=f"a write to this node's consensus log takes {facts.write_ns / NS_PER_S:.1f} s",
        )
    snapshot = facts.snapshot
    limit_ms = snapshot.timing.precision_ms
    # A proposal may have been late on its way, which looks like a clock ahead of its proposer's.
    offsets = facts.clock_offsets_ms
    late_ms = limit_ms + snapshot.timing.message_delay_ms
    middle = median(offsets) if len(offsets) > 1 else 0
    if middle < -limit_ms or middle > late_ms:
        way = "behind" if middle < 0 else "ahead of"
        return Diagnosis(
            code="clock_skew",
            text=f"this node's clock is {abs(middle) / 1000:.1f} s {way} those of the others",
        )
    refusal = snapshot.refusal
    if refusal is not None and refusal.untimely and refusal.round + 1 >= snapshot.round:
        return Diagnosis(
            code="clock_skew",
            text=f"the proposal of {_short(refusal.proposer)} in round {refusal.round} was refused:"
            f" {refusal.reason}; its clock or this node's is wrong",
        )
    return None


def _lost_members(facts: Facts) -> Diagnosis | None:
    snapshot = facts.snapshot
    heard = _heard(facts)
    count, n = len(heard), len(snapshot.members)
    if count < snapshot.quorum:
        lost = [member.miner for member in snapshot.members if member not in heard]
        silent = [id for id in lost if facts.troubles.get(id) != Reason.UNREACHABLE]
        names = ", ".join(map(_short, lost))
        if silent and count + len(silent) >= snapshot.quorum and _is_tried(silent, facts):
            return Diagnosis(
                code="partition",
                text=f"this node hears {count} of {n} miners and needs {snapshot.quorum}; nothing "
                f"comes back from {names}: cut off, or stopped",
            )
        return Diagnosis(
            code="quorum_lost",
            text=f"this node hears {count} of {n} miners and needs {snapshot.quorum}; "
            f"without a session: {names}",
        )
    return None


def _mute_members(facts: Facts) -> Diagnosis | None:
    snapshot = facts.snapshot
    heard = _heard(facts)
    mute = [member.miner for member in heard if _is_silent(member, facts)]
    if len(heard) - len(mute) < snapshot.quorum and snapshot.phase in _VOTING:
        return Diagnosis(
            code="quorum_lost",
            text=f"of {len(heard)} miners that this node hears, these do not vote: "
            f"{', '.join(map(_short, mute))}",
        )
    return None


_AWAITING_PEERS: Final = "awaiting-peers"
_VOTING: Final = ("prepare", "commit", "round-change")


def _is_tried(silent: list[Address], facts: Facts) -> bool:
    """Tell whether a try to reach one of them has timed out: before, nobody knows yet."""
    return any(facts.troubles.get(id) == Reason.HANDSHAKE_TIMEOUT for id in silent)


def _is_silent(member: MemberView, facts: Facts) -> bool:
    since_ns = member.missing_since_ns
    return since_ns is not None and facts.now_ns - since_ns >= SILENT_NS


def _failed_rounds(snapshot: Snapshot) -> Diagnosis | None:
    """Say why the last round failed, if one did."""
    lacked = next((entry.lacked for entry in reversed(snapshot.rounds) if entry.lacked), None)
    if snapshot.round == 0 or lacked is None:
        return None
    if lacked == "proposal":
        return Diagnosis(
            code="proposer_silent",
            text=f"no proposal came in time in the round before {snapshot.round}; "
            f"{_short(snapshot.proposer)} is to propose now",
        )
    if lacked in ("proposal-refused", "proposal-invalid"):
        reason = snapshot.refusal.reason if snapshot.refusal is not None else snapshot.fault
        return Diagnosis(
            code="proposal_refused",
            text=f"the proposal of the round before {snapshot.round} was not accepted"
            + (f": {reason}" if reason else ""),
        )
    return None


def _short(miner: Address) -> str:
    return miner.hex()[:12]

"""node.diagnosis: each stall has its code."""

from dataclasses import replace
from typing import Any

import pytest

from chain.types import Round
from consensus.height import Refusal, RoundEntry
from consensus.snapshot import MemberView, Snapshot
from consensus.timers import Timing
from node.diagnosis import CODES, NS_PER_S, Facts, diagnose
from node.p2p.errors import Reason

NOW_NS = 100 * NS_PER_S
IDS: Any = [bytes([number]) * 32 for number in range(4)]
ME, *OTHERS = IDS


def member(id, **fields) -> MemberView:
    values: dict[str, Any] = {
        "miner": id,
        "round": Round(0),
        "pre_prepare": False,
        "prepare": False,
        "commit": False,
        "round_change": False,
        "missing_since_ns": None,
        "height_reported": None,
    }
    return MemberView(**(values | fields))


def snapshot(**fields) -> Snapshot:
    values: dict[str, Any] = {
        "me": ME,
        "height": 7,
        "round": Round(0),
        "phase": "idle",
        "phase_since_ns": 0,
        "signing": "yes",
        "proposer": OTHERS[0],
        "proposal": None,
        "fault": "",
        "refusal": None,
        "prepared_round": None,
        "quorum": 3,
        "members": tuple(member(id) for id in IDS),
        "deadline_ns": None,
        "timing": Timing(),
        "rounds": (RoundEntry(round=Round(0), at_ns=0, cause="height"),),
    }
    return Snapshot(**(values | fields))


def facts(known: Snapshot | None = None, **fields) -> Facts:
    values: dict[str, Any] = {
        "snapshot": known or snapshot(),
        "now_ns": NOW_NS,
        "heard": set(OTHERS),
        "troubles": {},
        "is_behind": False,
        "write_ns": 1_000_000,
        "clock_offsets_ms": (),
    }
    return Facts(**(values | fields))


def failed(lacked: str, **fields) -> Snapshot:
    """Return a snapshot of round 1, before which a round lacked something."""
    rounds = (
        RoundEntry(round=Round(0), at_ns=0, cause="height"),
        RoundEntry(round=Round(1), at_ns=1, cause="timeout", lacked=lacked),
    )
    return snapshot(round=Round(1), phase="proposal", rounds=rounds, **fields)


def refused(*, untimely: bool) -> Refusal:
    return Refusal(round=Round(0), proposer=OTHERS[0], untimely=untimely, reason="because")


def mute(*silent) -> tuple[MemberView, ...]:
    return tuple(member(id, missing_since_ns=0 if id in silent else None) for id in IDS)


DOWN = {OTHERS[1]: Reason.UNREACHABLE, OTHERS[2]: Reason.UNREACHABLE}
CUT = {OTHERS[1]: Reason.HANDSHAKE_TIMEOUT, OTHERS[2]: Reason.HANDSHAKE_TIMEOUT}

STALLS = {
    "idle": facts(),
    "working": facts(snapshot(phase="prepare")),
    "not_in_sync": facts(is_behind=True),
    "signing_nothing": facts(snapshot(signing="floor")),
    "root_mismatch": facts(snapshot(phase="checking", fault="wrong_root: its state_root is not")),
    "slow_disk": facts(write_ns=NS_PER_S),
    "clock_skew": facts(failed("proposal-untimely", refusal=refused(untimely=True))),
    "quorum_lost": facts(heard={OTHERS[0]}, troubles=DOWN),
    "partition": facts(heard={OTHERS[0]}, troubles=CUT),
    "proposer_silent": facts(failed("proposal")),
    "proposal_refused": facts(failed("proposal-refused", refusal=refused(untimely=False))),
}


def test_there_is_a_stall_of_every_code():
    assert tuple(STALLS) == CODES


@pytest.mark.parametrize("code", CODES)
def test_a_stall_is_named(code):
    found = diagnose(STALLS[code])

    assert found.code == code
    assert found.text


def test_members_with_a_session_that_do_not_vote_are_missing_as_well():
    known = snapshot(phase="round-change", round=Round(2), members=mute(*OTHERS[1:]))
    assert diagnose(facts(known)).code == "quorum_lost"

    early = replace(facts(known), now_ns=NS_PER_S)
    assert diagnose(early).code == "working", "late is not missing"
    one = snapshot(phase="round-change", round=Round(2), members=mute(OTHERS[2]))
    assert diagnose(facts(one)).code == "working", "three are a quorum"


def test_a_miner_that_awaits_the_others_says_first_that_they_are_not_there():
    known = snapshot(signing="awaiting-peers")

    assert diagnose(facts(known)).code == "signing_nothing"
    assert diagnose(facts(known, heard={OTHERS[0]}, troubles=DOWN)).code == "quorum_lost"


def test_before_a_try_has_timed_out_nobody_speaks_of_a_partition():
    assert diagnose(facts(heard={OTHERS[0]})).code == "quorum_lost"


@pytest.mark.parametrize(
    ("ms", "code"),
    [
        ((-900, -1_000, -1_100), "clock_skew"),
        ((9_000, 9_000, 9_000), "clock_skew"),
        ((100, -5_000, 80), "idle"),
        ((100, 2_000, 80), "idle"),
        ((-9_000,), "idle"),
    ],
)
def test_a_clock_is_wrong_when_most_others_say_so(ms, code):
    assert diagnose(facts(clock_offsets_ms=ms)).code == code


@pytest.mark.parametrize(
    "known",
    [
        STALLS["clock_skew"],
        STALLS["slow_disk"],
        facts(clock_offsets_ms=(9_000, 9_000, 9_000)),
    ],
)
def test_without_a_quorum_of_sessions_neither_a_clock_nor_a_disk_is_the_cause(known):
    assert diagnose(replace(known, heard={OTHERS[0]}, troubles=DOWN)).code == "quorum_lost"
    assert diagnose(replace(known, heard={OTHERS[0]}, troubles=CUT)).code == "partition"


def test_a_proposal_that_was_untimely_long_ago_is_not_named():
    known = failed("proposal", refusal=refused(untimely=True))
    assert diagnose(facts(known)).code == "clock_skew"
    assert diagnose(facts(replace(known, round=Round(2)))).code == "proposer_silent"


def test_how_many_are_heard_is_told():
    assert diagnose(facts()).heard == 4
    assert diagnose(STALLS["partition"]).heard == 2
    assert diagnose(facts(snapshot(me=b"o" * 32))).heard == 3

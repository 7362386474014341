"""Leaving a round and proposing in the next: DESIGN rules 3, 8 and 10."""

from dataclasses import replace
from typing import Any

import pytest

from chain.certificate import VoteType
from chain.types import Round
from consensus.errors import InvalidMessage, Unjustified, UntimelyProposal
from consensus.output import BuildBlock, CheckProposal, FetchBlock, GossipPending
from tests.interaction.cluster import EMPTY, WALL_START_MS, sign
from tests.unit.consensus.bench import TIMING, Bench, asked, sent
from tests.unit.consensus.plain import BlockFetched, Commit, Prepare, PrePrepare, RoundChange


def test_no_timer_runs_while_there_is_nothing_to_do():
    assert Bench().outputs[-1].deadline_ns is None


@pytest.mark.parametrize("trigger", ["work", "pre-prepare", "round-change"])
def test_round_0_timer_starts_on(trigger):
    bench = Bench()
    if trigger == "work":
        output = bench.work()
    elif trigger == "pre-prepare":
        output = bench.receive(bench.pre_prepare(bench.proposal()))
    else:
        output = bench.receive(bench.round_change(2, 1))
    assert output.deadline_ns == TIMING.round_timeout_ns(Round(0))


@pytest.mark.attack("A1")
def test_time_out_gossips_pending_transactions_and_sends_round_change():
    bench = Bench()
    bench.work()
    output = bench.time_out()
    assert asked(output, GossipPending)
    (message,) = sent(output, RoundChange)
    assert (message.round, message.prepared_round, message.certificate) == (1, None, None)


@pytest.mark.attack("A8")
def test_round_change_is_sent_again_until_the_height_moves():
    """A VIEW-CHANGE sent once and lost (ATTACKS A8)."""
    bench = Bench()
    bench.work()
    bench.time_out()
    for _ in range(5):
        assert sent(bench.wait(TIMING.resend_ms), RoundChange)
    assert bench.snapshot.round == 1


def test_the_timer_of_a_later_round_waits_until_a_quorum_has_reached_it():
    """Nobody runs ahead alone, so rounds meet again (OSDI'99 §4.5.2; ATTACKS A5)."""
    bench = Bench()
    bench.work()
    bench.time_out()
    for _ in range(50):
        bench.wait(TIMING.round_timeout_max_ms)
    assert bench.snapshot.round == 1
    bench.receive(bench.round_change(1, 1))
    bench.receive(bench.round_change(3, 1))
    bench.wait(TIMING.round_timeout_ms + TIMING.round_timeout_increment_ms)
    assert bench.snapshot.round == 2


@pytest.mark.attack("A4")
def test_timeouts_grow_linearly_up_to_a_bound():
    """Uncapped doubling freezes networks (ATTACKS A4)."""
    waits = [TIMING.round_timeout_ns(Round(round)) // 1_000_000 for round in (0, 1, 2, 6, 7, 10**6)]
    assert waits == [1_000, 1_500, 2_000, 4_000, 4_000, 4_000]


@pytest.mark.attack("A5")
def test_replica_jumps_to_the_largest_round_that_a_weak_quorum_has_reached():
    bench = Bench()
    assert not sent(bench.receive(bench.round_change(1, 57)), RoundChange)
    (message,) = sent(bench.receive(bench.round_change(2, 10)), RoundChange)
    assert message.round == 10
    assert bench.snapshot.round == 10


def test_one_member_alone_makes_nobody_jump():
    bench = Bench()
    for round in (1, 5, 9, 1_000):
        bench.receive(bench.round_change(1, round))
    assert bench.snapshot.round == 0


def test_round_change_reports_the_prepared_block_with_its_certificate():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.receive(bench.prepare(1, proposal), bench.prepare(2, proposal))
    (message,) = sent(bench.time_out(), RoundChange)
    assert (message.prepared_round, message.prepared_digest) == (0, proposal.digest)
    assert message.certificate == bench.certificate(proposal)


def test_proposer_of_a_later_round_builds_a_smaller_block_if_nobody_was_prepared():
    bench = Bench(me=2)
    bench.work()
    bench.time_out()
    assert not asked(bench.receive(bench.round_change(0)), BuildBlock)
    (request,) = asked(bench.receive(bench.round_change(1)), BuildBlock)
    assert (request.round, request.limit_shift) == (1, 1)
    (message,) = sent(bench.built(bench.proposal(round=1), round=1), PrePrepare)
    assert [m.sender for m in message.justification.round_changes] == [
        bench.ids[i] for i in (0, 1, 2)
    ]
    assert message.justification.certificate is None


def test_a_block_built_too_late_for_its_round_is_dropped():
    bench = Bench(me=1)
    bench.work()
    bench.time_out()
    assert not bench.built(bench.proposal()).sends


@pytest.mark.attack("B2")
def test_proposer_proposes_the_highest_prepared_block_again():
    """IBFT-1 lost what was prepared (ATTACKS B2)."""
    bench = Bench(me=3)
    low, high = bench.proposal(content=b"low"), bench.proposal(round=1, content=b"high")
    bench.receive(bench.round_change(0, 2, prepared=bench.certificate(low, 0)))
    bench.receive(bench.round_change(1, 2, prepared=bench.certificate(high, 1)))
    output = bench.outputs[-1]
    (fetch,) = asked(output, FetchBlock)
    assert (fetch.digest, fetch.certificate) == (high.digest, None)
    assert fetch.holders == (bench.ids[0], bench.ids[1], bench.ids[2])
    output = bench.step(BlockFetched(height=1, proposal=high))
    (message,) = sent(output, PrePrepare)
    assert message.proposal == high
    assert message.justification.certificate == bench.certificate(high, 1)
    assert asked(output, CheckProposal)
    assert not sent(output, Prepare)


def justified(bench, round, *, prepared=None, proposal=None, by=(1, 2, 3)):
    """Return a PRE-PREPARE of `round` in which the first of `by` is prepared."""
    changes = [
        bench.round_change(index, round, prepared=prepared if index == by[0] else None)
        for index in by
    ]
    proposal = bench.proposal(round=round) if proposal is None else proposal
    justification = bench.justification(*changes, certificate=prepared)
    return bench.pre_prepare(proposal, round, justification)


def test_a_justified_proposal_of_a_future_round_is_accepted_and_followed():
    bench = Bench()
    message = justified(bench, 6)
    output = bench.receive(message)
    assert bench.snapshot.round == 6
    assert asked(output, CheckProposal)
    assert output.deadline_ns is not None


@pytest.mark.attack("B5")
def test_a_prepared_miner_accepts_another_block_that_is_justified():
    """There is no veto by a lock (DESIGN rule 3)."""
    bench = Bench()
    old = bench.proposal(content=b"old")
    bench.receive(bench.pre_prepare(old))
    bench.checked(old)
    bench.receive(bench.prepare(1, old), bench.prepare(2, old))
    assert bench.snapshot.prepared_round == 0
    new = bench.proposal(round=1, content=b"new")
    bench.receive(justified(bench, 1, proposal=new))
    (prepare,) = sent(bench.checked(new), Prepare)
    assert (prepare.round, prepare.digest) == (1, new.digest)


@pytest.mark.attack("A12")
def test_a_block_proposed_again_keeps_its_round_and_its_time_is_not_judged_again():
    """A re-proposed block too old by now (ATTACKS A12)."""
    bench = Bench()
    old = bench.proposal()
    message = justified(bench, 1, prepared=bench.certificate(old), proposal=old)
    assert asked(bench.receive(message, wall_ms=WALL_START_MS + 1_800_000), CheckProposal)


def test_a_block_is_not_proposed_again_that_was_first_proposed_after_it_was_prepared():
    """DESIGN rule 10: its proposal round blames the proposers before, so it cannot be made up."""
    bench = Bench()
    late = bench.proposal(round=1)
    with pytest.raises(InvalidMessage, match="after it was prepared"):
        bench.receive(justified(bench, 2, prepared=bench.certificate(late, 0), proposal=late))


def test_a_fresh_block_of_a_later_round_is_judged():
    bench = Bench()
    with pytest.raises(UntimelyProposal):
        bench.receive(justified(bench, 1), wall_ms=WALL_START_MS + 1_800_000)


@pytest.mark.parametrize(
    ("round", "late_ms"), [(1, 2_500), (2, 3_500), (4, 4_500), (9, 4_500)], ids=str
)
def test_a_later_round_allows_more_delay_up_to_a_bound(round, late_ms):
    """DESIGN rule 13; precision 500 ms, delay 1,000 ms for each round, at most 4,000 ms."""
    message = justified(Bench(), round)

    with pytest.raises(UntimelyProposal):
        Bench().receive(message, wall_ms=WALL_START_MS + late_ms + 1)
    assert asked(Bench().receive(message, wall_ms=WALL_START_MS + late_ms), CheckProposal)


def test_the_large_message_is_sent_again_to_those_only_that_show_no_vote():
    bench = Bench()
    changes = [bench.round_change(by, 3) for by in (1, 2, 3)]
    bench.receive(*changes)
    proposal = bench.proposal(round=3)
    bench.built(proposal, 3)
    bench.receive(bench.prepare(1, proposal, 3))

    again = bench.wait(TIMING.resend_ms)

    to = [send.to for send in again.sends if isinstance(send.message, PrePrepare)]
    assert to == [bench.ids[2], bench.ids[3]]
    assert [send.to for send in again.sends if isinstance(send.message, RoundChange)] == [None]


def bad_justifications():
    """Yield name, and a function that makes a PRE-PREPARE nobody may accept."""

    def case(function):
        cases.append(pytest.param(function, id=function.__name__))
        return function

    cases: list[Any] = []

    @case
    def without(bench):
        return bench.pre_prepare(bench.proposal(round=1), 1, None)

    @case
    def below_a_quorum(bench):
        return justified(bench, 1, by=(1, 2))

    @case
    def one_member_three_times(bench):
        return justified(bench, 1, by=(1, 1, 1))

    @case
    def of_another_round(bench):
        changes = [bench.round_change(by, 2) for by in (1, 2, 3)]
        return bench.pre_prepare(bench.proposal(round=1), 1, bench.justification(*changes))

    @case
    def of_another_height(bench):
        changes = [bench.round_change(by, 1, height=2) for by in (1, 2, 3)]
        return bench.pre_prepare(bench.proposal(round=1), 1, bench.justification(*changes))

    @case
    def unsigned(bench):
        changes = [
            replace(bench.round_change(1), signature=bytes(64)),
            bench.round_change(2),
            bench.round_change(3),
        ]
        return bench.pre_prepare(bench.proposal(round=1), 1, bench.justification(*changes))

    @case
    def prepared_in_its_own_round(bench):
        old = bench.proposal()
        return justified(bench, 1, prepared=bench.certificate(old, 1), proposal=old)

    @case
    def a_lower_prepared_round(bench):
        low, high = bench.proposal(content=b"low"), bench.proposal(round=1, content=b"high")
        changes = [
            bench.round_change(1, 2, prepared=bench.certificate(low, 0)),
            bench.round_change(2, 2, prepared=bench.certificate(high, 1)),
            bench.round_change(3, 2),
        ]
        justification = bench.justification(*changes, certificate=bench.certificate(low, 0))
        return bench.pre_prepare(low, 2, justification)

    @case
    def another_block_than_prepared(bench):
        old = bench.proposal(content=b"old")
        return justified(
            bench, 1, prepared=bench.certificate(old), proposal=bench.proposal(content=b"new")
        )

    @case
    def a_fresh_block_though_one_is_prepared(bench):
        old = bench.proposal(content=b"old")
        changes = [
            bench.round_change(1, 1, prepared=bench.certificate(old)),
            bench.round_change(2),
            bench.round_change(3),
        ]
        return bench.pre_prepare(bench.proposal(round=1), 1, bench.justification(*changes))

    @case
    def a_certificate_of_commits(bench):
        old = bench.proposal()
        commits = bench.certificate(old, type=VoteType.COMMIT)
        return justified(bench, 1, prepared=commits, proposal=old)

    @case
    def a_certificate_below_a_quorum(bench):
        old = bench.proposal()
        return justified(bench, 1, prepared=bench.certificate(old, by=(1, 2)), proposal=old)

    @case
    def a_certificate_nobody_claims(bench):
        old = bench.proposal()
        changes = [bench.round_change(by) for by in (1, 2, 3)]
        justification = bench.justification(*changes, certificate=bench.certificate(old))
        return bench.pre_prepare(old, 1, justification)

    @case
    def more_certificates_than_the_one_that_matters(bench):
        old = bench.proposal()
        certificate = bench.certificate(old)
        message = justified(bench, 1, prepared=certificate, proposal=old)
        first, *others = message.justification.round_changes
        changes = (replace(first, certificate=certificate), *others)
        return replace(message, justification=replace(message.justification, round_changes=changes))

    @case
    def a_certificate_above_every_claim(bench):
        old = bench.proposal()
        changes = [
            bench.round_change(1, 2, prepared=bench.certificate(old)),
            bench.round_change(2, 2),
            bench.round_change(3, 2),
        ]
        justification = bench.justification(*changes, certificate=bench.certificate(old, 1))
        return bench.pre_prepare(old, 2, justification)

    @case
    def two_blocks_in_one_round(bench):
        old, other = bench.proposal(content=b"old"), bench.proposal(content=b"other")
        changes = [
            bench.round_change(1, 1, prepared=bench.certificate(old)),
            bench.round_change(2, 1, prepared=bench.certificate(other)),
            bench.round_change(3),
        ]
        justification = bench.justification(*changes, certificate=bench.certificate(old))
        return bench.pre_prepare(old, 1, justification)

    return cases


@pytest.mark.attack("B2", "B3", "B5")
@pytest.mark.parametrize("make", bad_justifications())
def test_a_proposal_is_refused_whose_justification_is(make):
    """ATTACKS B2, B3, B5."""
    bench = Bench()
    with pytest.raises(Unjustified):
        bench.receive(make(bench))
    assert bench.snapshot.round == 0


@pytest.mark.attack("B3")
@pytest.mark.parametrize(
    "change",
    [
        {"certificate": None},
        {"prepared_digest": EMPTY},
        {"prepared_digest": None},
        {"prepared_round": None},
        {"prepared_round": 1},
        {"prepared_round": 7},
        {"round": 0},
    ],
    ids=str,
)
def test_a_round_change_that_does_not_prove_what_it_says_is_discarded(change):
    bench = Bench()
    good = bench.round_change(1, 1, prepared=bench.certificate(bench.proposal()))
    with pytest.raises(Unjustified):
        bench.receive(sign(bench.keys[1], replace(good, **change)))
    assert bench.receive(good).deadline_ns is not None


def test_two_different_round_changes_for_one_round_are_evidence():
    bench = Bench()
    bench.receive(bench.round_change(1, 3))
    prepared = bench.certificate(bench.proposal())
    (proof,) = bench.receive(bench.round_change(1, 3, prepared=prepared)).evidence
    assert proof.type == "round-change"


@pytest.mark.attack("A10")
def test_nothing_is_signed_in_a_round_that_was_given_up():
    """DESIGN rule 4; the decision and the time-out may come in either order (ATTACKS A10)."""
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.receive(bench.prepare(1, proposal), bench.prepare(2, proposal))
    bench.time_out()
    output = bench.checked(proposal)
    assert not sent(output, Prepare)
    assert not sent(output, Commit)
    assert bench.receive(*(bench.commit(by, proposal) for by in (1, 2, 3))).commits


def test_proposer_justifies_with_those_prepared_highest_when_it_may_choose():
    bench = Bench(me=2)
    old = bench.proposal()
    bench.receive(bench.pre_prepare(old))
    bench.checked(old)
    bench.time_out()
    bench.receive(bench.round_change(0))
    bench.receive(bench.round_change(3, 1, prepared=bench.certificate(old)))
    (message,) = sent(bench.outputs[-1], PrePrepare)
    assert message.proposal == old

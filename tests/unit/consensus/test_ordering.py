"""The normal case: DESIGN rules 1, 2, 5, 10 and 13."""

from dataclasses import replace

import pytest

from chain.types import Address
from consensus.durable import Accepted, Prepared, Signed, recover
from consensus.errors import (
    BadSignature,
    InvalidMessage,
    NotAMember,
    SafetyViolation,
    Unjustified,
    UntimelyProposal,
)
from consensus.output import BuildBlock, CheckProposal, FetchBlock
from consensus.replica import Replica
from tests.interaction.cluster import EMPTY, WALL_START_MS, sign
from tests.unit.consensus.bench import FRESH_LOG, Bench, asked, sent, written
from tests.unit.consensus.plain import BlockFetched, Commit, Prepare, PrePrepare


def test_proposer_asks_for_a_block_only_when_there_is_work():
    bench = Bench(me=1)
    assert not asked(bench.outputs[0], BuildBlock)
    (request,) = asked(bench.work(), BuildBlock)
    assert (request.height, request.round, request.limit_shift) == (1, 0, 0)
    assert not asked(bench.work(), BuildBlock)


def test_proposer_sends_its_prepare_with_its_pre_prepare():
    bench = Bench(me=1)
    bench.work()
    output = bench.built(bench.proposal())
    assert [type(send.message) for send in output.sends] == [PrePrepare, Prepare]
    assert [type(record) for record in output.writes] == [Accepted, Signed, Signed]


def test_pre_prepare_alone_is_no_vote():
    bench = Bench()
    output = bench.receive(bench.pre_prepare(bench.proposal()))
    assert not output.sends
    (request,) = asked(output, CheckProposal)
    assert request.holders == (bench.ids[1],)
    assert not request.committed


@pytest.mark.attack("B8")
def test_prepare_waits_for_the_check_and_is_written_before_it_is_sent():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    output = bench.checked(proposal)
    (prepare,) = sent(output, Prepare)
    assert prepare.digest == proposal.digest
    assert output.writes == (Accepted(proposal=proposal), Signed(message=prepare))


def test_no_prepare_for_a_block_found_invalid():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    assert not bench.checked(proposal, valid=False).sends


def test_commit_follows_a_quorum_of_prepares_and_the_certificate_is_written_first():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    assert not sent(bench.receive(bench.prepare(1, proposal)), Commit)
    output = bench.receive(bench.prepare(2, proposal))
    (commit,) = sent(output, Commit)
    prepared, signed = output.writes
    assert prepared == Prepared(certificate=bench.certificate(proposal))
    assert signed == Signed(message=commit)


@pytest.mark.attack("B8")
def test_no_commit_for_a_block_that_was_not_found_valid_here_whoever_has_prepared_it():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    output = bench.receive(*(bench.prepare(by, proposal) for by in (1, 2, 3)))
    assert not output.sends
    assert not output.writes

    output = bench.checked(proposal)
    assert len(sent(output, Prepare)) == len(sent(output, Commit)) == 1


def test_quorum_of_commits_commits():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.receive(bench.prepare(1, proposal), bench.prepare(2, proposal))
    assert not bench.receive(bench.commit(1, proposal)).commits
    (committed,) = bench.receive(bench.commit(3, proposal)).commits
    assert committed.proposal == proposal
    assert [vote.index for vote in committed.certificate.votes] == [0, 1, 3]


@pytest.mark.attack("A15")
def test_votes_that_come_before_the_proposal_count():
    bench = Bench()
    proposal = bench.proposal()
    for by in (1, 2, 3):
        bench.receive(bench.prepare(by, proposal), bench.commit(by, proposal))
    bench.receive(bench.pre_prepare(proposal))
    assert bench.checked(proposal).commits


def test_one_member_counts_once_however_often_it_votes():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.receive(*[bench.prepare(1, proposal)] * 5)
    assert not any(sent(output, Commit) for output in bench.outputs)


@pytest.mark.attack("A9")
def test_commits_of_a_past_round_commit():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.time_out()
    assert bench.snapshot.round == 1
    output = bench.receive(*(bench.commit(by, proposal) for by in (1, 2, 3)))
    assert output.commits[0].certificate.round == 0


def test_commits_of_different_rounds_do_not_add_up():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    output = bench.receive(
        bench.commit(1, proposal, 0), bench.commit(2, proposal, 0), bench.commit(3, proposal, 1)
    )
    assert not output.commits


@pytest.mark.attack("A9")
def test_a_committed_block_that_is_not_held_is_fetched_checked_and_committed():
    bench = Bench()
    proposal = bench.proposal()
    output = bench.receive(*(bench.commit(by, proposal) for by in (1, 2, 3)))
    (request,) = asked(output, FetchBlock)
    assert request.certificate is not None
    assert set(request.holders) == {bench.ids[1], bench.ids[2], bench.ids[3]}
    output = bench.step(BlockFetched(height=1, proposal=proposal))
    (request,) = asked(output, CheckProposal)
    assert request.committed
    assert bench.checked(proposal).commits


def test_another_block_than_the_one_asked_for_is_not_taken():
    bench = Bench()
    bench.receive(*(bench.commit(by, bench.proposal()) for by in (1, 2, 3)))
    output = bench.step(BlockFetched(height=1, proposal=bench.proposal(content=b"other")))
    assert not output.requests


def test_a_block_with_false_digests_is_asked_for_again():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(*(bench.commit(by, proposal) for by in (1, 2, 3)))
    false = type(proposal)(header=proposal.header, digests=())
    assert asked(bench.step(BlockFetched(height=1, proposal=false)), FetchBlock)


def test_replica_stops_when_a_quorum_commits_what_it_found_invalid():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal, valid=False)
    bench.receive(bench.commit(1, proposal), bench.commit(2, proposal))
    with pytest.raises(SafetyViolation):
        bench.receive(bench.commit(3, proposal))


def test_replica_stops_when_two_blocks_have_a_quorum():
    bench = Bench()
    one, other = bench.proposal(content=b"one"), bench.proposal(round=1, content=b"other")
    bench.receive(*(bench.commit(by, one) for by in (1, 2, 3)))
    bench.receive(*(bench.commit(by, other, 1) for by in (1, 2)))
    with pytest.raises(SafetyViolation, match="two blocks"):
        bench.receive(bench.commit(3, other, 1))


@pytest.mark.attack("A11")
def test_nothing_is_committed_twice():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.receive(*(bench.commit(by, proposal) for by in (1, 2)))
    assert bench.receive(bench.commit(3, proposal)).commits
    again = bench.receive(bench.prepare(3, proposal), bench.commit(3, proposal))
    assert not again.commits
    assert again.deadline_ns is None


@pytest.mark.attack("B4")
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sender": b"\x07" * 32}, NotAMember),
        ({"digest": EMPTY}, BadSignature),
        ({"round": 1}, BadSignature),
        ({"signature": bytes(64)}, BadSignature),
    ],
)
def test_a_vote_that_its_sender_did_not_sign_is_refused(change, error):
    bench = Bench()
    vote = bench.prepare(1, bench.proposal())
    fields = {"sender": vote.sender, "height": 1, "round": 0, "digest": vote.digest}
    forged = Prepare(**{**fields, "signature": vote.signature, **change})
    with pytest.raises(error):
        bench.receive(forged)


@pytest.mark.attack("B4", "B16")
def test_a_prepare_cannot_be_turned_into_a_commit():
    """The type is signed (ATTACKS B4, B16)."""
    bench = Bench()
    vote = bench.prepare(1, bench.proposal())
    forged = Commit(
        sender=vote.sender, height=1, round=0, digest=vote.digest, signature=vote.signature
    )
    with pytest.raises(BadSignature):
        bench.receive(forged)


@pytest.mark.attack("B16")
def test_a_vote_of_another_chain_is_refused():
    bench = Bench()
    vote = Prepare(sender=bench.ids[1], height=1, round=0, digest=EMPTY)
    with pytest.raises(BadSignature):
        bench.receive(sign(bench.keys[1], vote, genesis_hash=EMPTY))


@pytest.mark.parametrize("by", [0, 2, 3])
def test_only_the_proposer_of_the_round_may_propose(by):
    bench = Bench(me=(by + 1) % 4 if by != 0 else 2)
    with pytest.raises(InvalidMessage, match="not the proposer"):
        bench.receive(bench.pre_prepare(bench.proposal(), by=by))


@pytest.mark.parametrize(
    "change",
    [
        {"genesis_hash": EMPTY},
        {"height": 2},
        {"parent_hash": EMPTY},
        {"miner_set_hash": EMPTY},
        {"transaction_root": EMPTY},
        {"time_ms": WALL_START_MS - 1_000},
        {"proposal_round": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_header_that_does_not_fit_the_height_is_refused(change):
    bench = Bench()
    good = bench.proposal()
    bad = replace(good, header=replace(good.header, **change))
    with pytest.raises(InvalidMessage):
        bench.receive(bench.pre_prepare(bad))


def test_a_header_naming_another_proposer_is_refused():
    bench = Bench()
    good = bench.proposal()
    bad = replace(good, header=replace(good.header, proposer=bench.ids[2]))
    with pytest.raises(InvalidMessage, match="another proposer"):
        bench.receive(bench.pre_prepare(bad))


def test_round_0_takes_no_justification():
    bench = Bench()
    justification = bench.justification(*(bench.round_change(by) for by in (1, 2, 3)))
    with pytest.raises(Unjustified):
        bench.receive(bench.pre_prepare(bench.proposal(), justification=justification))


@pytest.mark.attack("C2")
@pytest.mark.parametrize(
    ("offset_ms", "timely"), [(500, True), (501, False), (-1_500, True), (-1_501, False)]
)
def test_a_fresh_block_is_timely_within_precision_and_delay(offset_ms, timely):
    """DESIGN rule 13, ATTACKS C2; precision 500 ms, delay 1,000 ms in round 0."""
    bench = Bench()
    parent_ms = bench.config.parent.time_ms
    receipt_ms = parent_ms + 10_000
    message = bench.pre_prepare(bench.proposal(time_ms=receipt_ms + offset_ms))
    if timely:
        assert asked(bench.receive(message, wall_ms=receipt_ms), CheckProposal)
    else:
        with pytest.raises(UntimelyProposal):
            bench.receive(message, wall_ms=receipt_ms)


@pytest.mark.attack("B1")
def test_two_signed_proposals_for_one_round_are_evidence_and_the_first_stands():
    bench = Bench()
    first, second = bench.proposal(content=b"1"), bench.proposal(content=b"2")
    bench.receive(bench.pre_prepare(first))
    (proof,) = bench.receive(bench.pre_prepare(second)).evidence
    assert (proof.miner, proof.type, proof.round) == (bench.ids[1], "pre-prepare", 0)
    assert bench.snapshot.proposal == first.digest


@pytest.mark.attack("B1")
def test_two_different_votes_are_evidence_once_and_equal_ones_are_none():
    bench = Bench()
    one, two, three = (bench.proposal(content=bytes([i])) for i in range(3))
    bench.receive(bench.commit(1, one))
    assert not bench.receive(bench.commit(1, one)).evidence
    (proof,) = bench.receive(bench.commit(1, two)).evidence
    assert proof.first < proof.second
    assert not bench.receive(bench.commit(1, three)).evidence


@pytest.mark.attack("B9")
def test_an_unsigned_second_vote_frames_nobody():
    bench = Bench()
    one, two = bench.proposal(content=b"1"), bench.proposal(content=b"2")
    vote = bench.commit(1, one)
    bench.receive(vote)
    with pytest.raises(BadSignature):
        bench.receive(replace(vote, digest=two.digest))


@pytest.mark.parametrize(("n", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5)])
def test_a_block_needs_a_quorum_of_the_members(n, needed):
    bench = Bench(n=n, me=1 % n)
    bench.work()
    proposal = bench.proposal()
    output = bench.built(proposal)
    others = [index for index in range(n) if index != bench.me]
    assert bool(output.commits) == (needed == 1)
    for index in others[: needed - 1]:
        assert not output.commits
        bench.receive(bench.prepare(index, proposal))
        output = bench.receive(bench.commit(index, proposal))
    assert output.commits


def test_an_observer_follows_and_signs_nothing():
    bench = Bench()
    bench.replica = Replica(
        signer=bench.keys[0], miner_id=Address(b"\x01" * 32), durable=recover(FRESH_LOG)
    )
    bench.start()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    assert not bench.checked(proposal).sends
    bench.receive(*(bench.commit(by, proposal) for by in (1, 2)))
    assert bench.receive(bench.commit(3, proposal)).commits
    assert not written(bench.outputs[-1], Signed)

"""What a flood can do: DESIGN rules 8 and 9, ATTACKS D1, D2."""

from dataclasses import replace

import pytest

from chain.crypto import address_of
from chain.miners import Miner, MinerSet
from consensus.durable import recover
from consensus.errors import NotAMember, OtherKey
from consensus.events import Tick
from consensus.height import CANDIDATES_MAX
from consensus.log import HEIGHTS_AHEAD_MAX, ROUNDS_ABOVE_MAX, ROUNDS_KEPT_MAX
from consensus.messages import Phase
from consensus.output import AnswerOldHeight, BuildBlock, CatchUp, CheckProposal
from consensus.replica import Replica
from tests.interaction.cluster import TIMING, make_config, make_proposal, miner_keys, sign
from tests.unit.consensus.bench import Bench, asked
from tests.unit.consensus.plain import BlockFetched, Prepare, ProposalChecked


@pytest.mark.attack("D1")
def test_a_flood_of_far_rounds_displaces_only_messages_of_its_sender():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.prepare(2, proposal), bench.commit(2, proposal))
    for round in range(1, 300):
        bench.receive(bench.prepare(1, proposal, round), bench.commit(1, proposal, round))
        bench.receive(bench.round_change(1, round))
    log = bench.replica._state.log
    assert len(log.of(bench.ids[1])) <= sum(ROUNDS_KEPT_MAX.values())
    assert len(log.of(bench.ids[2])) == 2


def test_the_message_of_the_current_round_stays_whatever_its_sender_says_later():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.commit(1, proposal))
    for round in range(1, 50):
        bench.receive(bench.commit(1, proposal, round))
    assert bench.replica._state.log.get(bench.ids[1], Phase.COMMIT, 0) is not None


def test_the_highest_round_change_is_kept_at_any_distance():
    bench = Bench()
    for round in (3, 10**6, 7, 8, 9):
        bench.receive(bench.round_change(1, round))
    assert bench.replica._state.log.reached()[bench.ids[1]] == 10**6


@pytest.mark.attack("D2")
def test_rounds_without_end_cost_a_bounded_number_of_verifications(count):
    bench = Bench()
    proposal = bench.proposal()
    prepared = bench.certificate(proposal)
    for round in range(1, 100):
        bench.receive(bench.round_change(1, round, prepared=prepared))
        bench.receive(bench.prepare(1, proposal, round), bench.commit(1, proposal, round))
        bench.receive(bench.commit(1, proposal, round, height=2))
    assert count.since() == 4 * ROUNDS_ABOVE_MAX + len(prepared.votes)


def test_a_member_that_said_too_much_is_followed_and_heard_again():
    """What was not taken is sent again, and taken in the next round: liveness, DESIGN rule 8."""
    bench = Bench()
    for round in range(1, 100):
        bench.receive(bench.round_change(1, round))
    bench.receive(bench.round_change(2, 99))
    assert bench.snapshot.round == ROUNDS_ABOVE_MAX
    bench.receive(bench.round_change(1, 99))
    assert bench.snapshot.round == 99


def test_a_round_change_of_the_current_round_is_taken_whatever_its_sender_said_before():
    bench = Bench(me=2)
    bench.work()
    bench.time_out()
    for round in range(2, 100):
        bench.receive(bench.round_change(1, round))
    bench.receive(bench.round_change(0, 1), bench.round_change(1, 1))
    assert asked(bench.outputs[-1], BuildBlock)


def test_a_decided_block_stays_decided_whatever_displaces_the_commits():
    """A member that helped to decide cannot take that back while the block is fetched."""
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.round_change(1, 2), bench.round_change(2, 2))
    bench.receive(*(bench.commit(by, proposal, 1) for by in (1, 2, 3)))
    for round in range(3, 20):
        bench.receive(bench.commit(1, proposal, round))
    assert bench.replica._state.log.get(bench.ids[1], Phase.COMMIT, 1) is None
    bench.step(BlockFetched(height=1, proposal=proposal))
    (committed,) = bench.checked(proposal).commits
    assert committed.certificate.round == 1


@pytest.mark.attack("A15")
def test_messages_of_the_next_heights_wait_for_them():
    """Blocks and votes that come out of order (ATTACKS A15)."""
    bench = Bench()
    first = bench.proposal()
    config = make_config(bench.miners, first.header)
    second = make_proposal(config, proposer=bench.ids[2], time_ms=first.header.time_ms + 1)
    message = bench.pre_prepare(second, by=2)
    message = sign(bench.keys[2], replace(message, height=2))
    bench.receive(bench.prepare(1, second, height=2), message)
    output = bench.start(config)
    assert asked(output, CheckProposal)
    assert bench.snapshot.members[1].prepare


@pytest.mark.attack("D1")
def test_a_flood_of_far_heights_is_not_kept():
    bench = Bench()
    proposal = bench.proposal()
    for height in range(2, 1_000):
        bench.receive(bench.prepare(1, proposal, height=height * 1_000))
        bench.receive(bench.prepare(1, proposal, height=height))
    assert sorted(bench.replica._others.ahead) == list(range(2, 2 + HEIGHTS_AHEAD_MAX))
    assert all(len(log) <= 4 for log in bench.replica._others.ahead.values())


@pytest.mark.attack("D1")
@pytest.mark.parametrize("height", [2, 3, 4, 1_000_000])
def test_forged_messages_of_next_heights_displace_nothing_and_are_refused(height):
    bench = Bench()
    forged = Prepare(sender=bench.ids[1], height=height, round=5, digest=bytes(32))
    with pytest.raises(OtherKey):
        bench.receive(forged)
    assert not bench.replica._others.ahead
    assert asked(bench.outputs[-1], CatchUp) == []


def test_a_forged_message_of_an_older_height_is_refused_and_not_answered():
    bench = Bench()
    at_height_3(bench)
    with pytest.raises(OtherKey):
        bench.receive(sign(bench.keys[2], bench.round_change(1, 1, height=2)))
    assert asked(bench.receive(bench.round_change(1, 1, height=2)), AnswerOldHeight)


@pytest.mark.attack("E1")
def test_messages_of_the_next_height_count_under_the_keys_of_its_set():
    """A miner whose key is replaced, and one that joins, are heard as soon as they may speak."""
    bench = Bench()
    known = {key.public for key in bench.keys}
    new_key, joiner = [key for key in miner_keys(6) if key.public not in known]
    old = bench.miners.members
    changed = replace(old[1], key=new_key.public)
    added = Miner(id=address_of(joiner.public), key=joiner.public)
    members = {member.id: member for member in (*old, changed, added)}
    following = MinerSet(tuple(members[id] for id in sorted(members)))
    parent = replace(bench.config.parent, height=1)
    bench.start(make_config(bench.miners, parent, next_miners=following))
    header = bench.proposal().header
    after = make_config(following, replace(header, height=2), next_miners=following)
    proposal = make_proposal(after, proposer=added.id)

    votes = [
        sign(key, Prepare(sender=id, height=3, round=0, digest=proposal.digest))
        for key, id in ((new_key, changed.id), (joiner, added.id))
    ]
    bench.receive(*votes)
    with pytest.raises(OtherKey):
        bench.receive(bench.commit(1, proposal, height=3))

    bench.start(after)
    seen = {member.miner for member in bench.snapshot.members if member.prepare}
    assert seen == {changed.id, added.id}


@pytest.mark.parametrize("height", [1, 3, 4, 9])
def test_strangers_to_this_height_are_not_blamed_at_others(height):
    """They may be members there."""
    bench = Bench()
    parent = replace(bench.config.parent, height=1)
    bench.start(make_config(bench.miners, parent))
    stranger = Prepare(sender=bytes(32), height=height, round=0, digest=bytes(32))
    assert not bench.receive(stranger).requests


def test_a_member_far_ahead_makes_the_driver_catch_up_once():
    bench = Bench()
    proposal = bench.proposal()
    (request,) = asked(bench.receive(bench.prepare(1, proposal, height=9)), CatchUp)
    assert (request.miner, request.height) == (bench.ids[1], 9)
    assert not bench.receive(bench.commit(1, proposal, height=9)).requests


def test_a_member_one_height_ahead_starts_the_timer_that_finds_out():
    bench = Bench()
    assert bench.receive(bench.prepare(1, bench.proposal(), height=2)).deadline_ns is not None
    assert asked(bench.time_out(), CatchUp)


def test_all_that_show_a_next_height_are_asked_for_the_block():
    """The one asked alone might be a liar, time-out after time-out."""
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.prepare(1, proposal, height=2), bench.commit(1, proposal, height=2))
    bench.receive(bench.prepare(3, proposal, height=2), bench.prepare(2, proposal, height=3))
    requests = asked(bench.time_out(), CatchUp)
    assert [(request.miner, request.height) for request in requests] == [
        (bench.ids[1], 2),
        (bench.ids[3], 2),
        (bench.ids[2], 3),
    ]


def at_height_3(bench):
    parent = replace(bench.config.parent, height=2)
    bench.start(make_config(bench.miners, parent))


def test_a_round_change_of_an_older_height_is_answered_at_a_bounded_rate():
    bench = Bench()
    at_height_3(bench)
    (answer,) = asked(bench.receive(bench.round_change(1, 1, height=2)), AnswerOldHeight)
    assert (answer.miner, answer.height) == (bench.ids[1], 2)
    assert not bench.receive(bench.round_change(1, 2, height=2)).requests
    bench.wait(TIMING.resend_ms)
    assert bench.receive(bench.round_change(1, 3, height=2)).requests


def test_late_votes_of_the_last_height_are_not_answered():
    bench = Bench()
    at_height_3(bench)
    assert not bench.receive(bench.commit(1, bench.proposal(), height=2)).requests
    assert bench.receive(bench.commit(1, bench.proposal(), height=1)).requests


def test_nobody_is_sent_the_genesis_block():
    bench = Bench()
    assert not bench.receive(bench.round_change(1, 1, height=0)).requests


def test_strangers_are_turned_away():
    bench = Bench()
    stranger = Prepare(sender=b"\x09" * 32, height=1, round=0, digest=bytes(32))
    with pytest.raises(NotAMember):
        bench.receive(stranger)


def test_blocks_held_are_bounded_and_the_prepared_one_stays():
    bench = Bench()
    first = bench.proposal()
    bench.receive(bench.pre_prepare(first))
    bench.checked(first)
    bench.receive(bench.prepare(1, first), bench.prepare(2, first))
    for round in range(1, 12):
        if bench.proposer(round) == 0:
            continue
        changes = [bench.round_change(by, round) for by in (1, 2, 3)]
        fresh = bench.proposal(round=round, content=bytes([round]))
        bench.receive(bench.pre_prepare(fresh, round, bench.justification(*changes)))
    candidates = bench.replica._state.candidates
    assert len(candidates) <= CANDIDATES_MAX
    assert first.digest in candidates


def test_an_answer_about_an_unknown_block_is_ignored():
    bench = Bench()
    assert not bench.step(ProposalChecked(height=1, digest=bytes(32), valid=True)).sends


def test_events_before_the_first_height_do_nothing():
    bench = Bench()
    replica = Replica(signer=bench.keys[0], miner_id=bench.ids[0], durable=recover(()))
    assert replica.step(Tick(), 5).deadline_ns is None
    assert replica.snapshot() is None


def test_snapshot_names_who_is_missing_and_since_when():
    bench = Bench()
    proposal = bench.proposal()
    bench.now = 5
    bench.receive(bench.pre_prepare(proposal))
    bench.now = 7
    bench.checked(proposal)
    bench.receive(bench.prepare(1, proposal))
    snapshot = bench.snapshot
    assert (snapshot.phase, snapshot.quorum) == ("prepare", 3)
    assert [m.missing_since_ns for m in snapshot.members] == [None, None, 7, 7]
    assert [entry.cause for entry in snapshot.rounds] == ["height"]

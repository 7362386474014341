"""What is written, what a restart finds, and who may sign: DESIGN rules 4, 5 and 6."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import DecodeError
from chain.types import Address
from consensus.durable import Accepted, Prepared, Signed, decode_record, encode_record, recover
from consensus.errors import BadSignature
from consensus.events import PeerConnected
from consensus.messages import Phase, position_of
from consensus.output import BuildBlock, CheckProposal
from tests.interaction.cluster import make_config, make_proposal, sign
from tests.unit.consensus.bench import Bench, asked, sent, written
from tests.unit.consensus.plain import (
    Commit,
    Floor,
    HeightSeen,
    LostMemory,
    MemoryShown,
    Prepare,
    PrePrepare,
    RoundChange,
    TellShown,
    was_undecided,
)


def restarted(bench):
    """Return the same miner after a crash, with what it had written."""
    return Bench(n=len(bench.ids), me=bench.me, records=bench.records)


def prepared_bench():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.receive(bench.prepare(1, proposal), bench.prepare(2, proposal))
    return bench, proposal


def test_the_prepared_block_survives_a_crash_beside_one_accepted_later():
    """It may have been committed; whoever proposes it again has to have it."""
    bench, old = prepared_bench()
    changes = [bench.round_change(by) for by in (1, 2, 3)]
    new = bench.proposal(round=1, content=b"new")
    bench.receive(bench.pre_prepare(new, 1, bench.justification(*changes)))
    bench.checked(new)

    again = restarted(bench)

    assert again.replica.durable.prepared.digest == old.digest
    assert [known.digest for known in again.replica.durable.proposals] == [old.digest, new.digest]


@pytest.mark.attack("B6")
def test_a_miner_keeps_its_prepare_after_a_crash():
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    (prepare,) = sent(bench.checked(proposal), Prepare)
    again = restarted(bench)
    assert sent(again.outputs[0], Prepare) == [prepare]
    other = again.proposal(content=b"other")
    again.receive(again.pre_prepare(other))
    assert not again.checked(other).sends


def test_a_restarted_miner_counts_its_own_votes_again():
    bench, proposal = prepared_bench()
    again = restarted(bench)
    assert sent(again.outputs[0], Commit)
    again.receive(again.commit(1, proposal))
    assert again.receive(again.commit(2, proposal)).commits


@pytest.mark.attack("B1")
def test_the_prepared_certificate_survives_a_crash():
    bench, proposal = prepared_bench()
    again = restarted(bench)
    (message,) = sent(again.time_out(), RoundChange)
    assert message.certificate == bench.certificate(proposal)


def test_a_restarted_proposer_sends_the_same_proposal_and_builds_no_other():
    bench = Bench(me=1)
    bench.work()
    (message,) = sent(bench.built(bench.proposal()), PrePrepare)
    again = restarted(bench)
    assert sent(again.outputs[0], PrePrepare) == [message]
    assert not asked(again.work(), BuildBlock)


def test_a_restarted_miner_takes_up_its_last_round():
    bench = Bench()
    bench.receive(bench.round_change(1, 10), bench.round_change(2, 10))
    again = restarted(bench)
    assert again.snapshot.round == 10
    assert sent(again.outputs[0], RoundChange)


def test_a_restarted_miner_has_a_block_checked_again_that_it_had_proposed_unchecked():
    bench = Bench(me=2)
    old = bench.proposal()
    bench.receive(bench.pre_prepare(old))
    for by in (0, 1, 3):
        bench.receive(bench.round_change(by, 1, prepared=bench.certificate(old)))
    assert sent(bench.outputs[-1], PrePrepare) or sent(bench.outputs[-2], PrePrepare)
    again = restarted(bench)
    assert asked(again.outputs[0], CheckProposal)


@pytest.mark.attack("B6")
@pytest.mark.parametrize("cut", range(1, 6))
def test_a_log_cut_anywhere_never_leads_to_a_second_different_vote(cut):
    """A crash between write and write (ATTACKS B6)."""
    bench, _ = prepared_bench()
    signed = {
        (m.message.round, m.message.phase): m.message
        for m in bench.records[:cut]
        if isinstance(m, Signed)
    }
    again = Bench(records=bench.records[:cut])
    other = again.proposal(content=b"other")
    again.receive(again.pre_prepare(other))
    again.checked(other)
    again.receive(again.prepare(1, other), again.prepare(2, other))
    for record in written_all(again):
        message = record.message
        known = signed.get((message.round, message.phase))
        assert known is None or known == message


def written_all(bench):
    return [record for output in bench.outputs for record in written(output, Signed)]


def test_compaction_keeps_what_the_records_add_up_to():
    bench, _ = prepared_bench()
    bench.time_out()
    state: Any = recover(bench.records)
    assert recover(state.records()) == state
    assert len(state.records()) <= len(bench.records)
    assert state.settled(1) == bench.replica.durable


def test_what_was_prepared_at_an_earlier_height_is_not_taken_for_this_one():
    """Nothing is written between two heights, so a log may hold several."""
    bench, proposal = prepared_bench()
    vote = bench.prepare(0, proposal, height=2)

    state = recover([*bench.records, Signed(message=vote)])

    assert state.messages == (vote,)
    assert state.prepared is None
    assert state.proposals == ()


def test_the_highest_height_at_which_memory_was_lost_counts():
    """A signer that forgets again says so at this miner's height, which may be lower."""
    assert recover([LostMemory(height=5), LostMemory(height=3)]).lost_height == 5


def test_after_a_commit_one_record_is_enough():
    bench, proposal = prepared_bench()
    bench.receive(bench.commit(1, proposal), bench.commit(2, proposal))
    bench.start(make_config(bench.miners, proposal.header))
    assert bench.replica.durable.records() == (Floor(height=2),)


def test_every_record_comes_back_from_its_bytes():
    bench, _ = prepared_bench()
    records = [*bench.records, LostMemory(height=4)]
    assert {type(r) for r in records} == {Floor, Accepted, Prepared, Signed, LostMemory}
    assert [decode_record(encode_record(record)) for record in records] == records


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x92\xa5floor\x91\xff", b"\x92\xa4flor\x91\x00"])
def test_bytes_that_are_no_record_are_refused(data):
    with pytest.raises(DecodeError):
        decode_record(data)


# --- lost memory ---------------------------------------------------------------------------------


def heights_seen(bench, *heights):
    others = [miner for index, miner in enumerate(bench.ids) if index != bench.me]
    reports = zip(others, heights, strict=False)
    return [bench.step(HeightSeen(miner=miner, height=height)) for miner, height in reports][-1]


@pytest.mark.attack("A14")
def test_a_miner_with_an_empty_log_signs_nothing():
    bench = Bench(records=())
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    assert not bench.checked(proposal).sends
    bench.work()
    bench.wait(60_000)
    assert not any(output.sends for output in bench.outputs)
    assert bench.snapshot.signing == "lost-memory"


def test_a_silent_miner_still_commits():
    bench = Bench(records=())
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    assert bench.receive(*(bench.commit(by, proposal) for by in (1, 2, 3))).commits


@pytest.mark.attack("A14", "B7")
def test_a_miner_without_memory_signs_again_two_heights_after_the_one_it_finds():
    bench = Bench(records=())
    assert not heights_seen(bench, 1, 1).writes
    assert written(heights_seen(bench, 1, 1, 1), Floor) == [Floor(height=3)]
    parent = bench.proposal()
    bench.start(make_config(bench.miners, parent.header))
    assert bench.snapshot.signing == "floor"
    parent = make_proposal(make_config(bench.miners, parent.header), proposer=bench.ids[2])
    bench.start(make_config(bench.miners, parent.header))
    assert bench.snapshot.signing == "yes"


def test_a_candidate_without_memory_has_made_up_for_it_by_the_height_at_which_it_is_a_miner():
    """Where one of the five lies, the four others decide nothing unless it signs there."""
    bench = Bench(n=5, me=4, records=(), heard=False)
    before = replace(bench.miners, members=bench.miners.members[:4])
    parent = replace(bench.config.parent, height=1)
    bench.start(make_config(before, parent))
    assert not heights_seen(bench, 2, 2, 2).writes
    bench.start(make_config(before, replace(parent, height=2)))
    output = bench.start(make_config(before, replace(parent, height=3), next_miners=bench.miners))
    assert written(output, Floor) == [Floor(height=5)]
    bench.start(make_config(bench.miners, replace(parent, height=4)))
    bench.show(0, 1, 2, height=5)
    assert bench.snapshot.signing == "yes"


@pytest.mark.parametrize("n", [5, 6, 9])
def test_a_miner_without_memory_hears_enough_though_f_others_say_nothing(n):
    bench = Bench(n=n, records=())
    output = heights_seen(bench, *[1] * (n - 1 - bench.miners.f))
    assert written(output, Floor) == [Floor(height=3)]


@pytest.mark.attack("B7")
def test_miners_of_the_past_do_not_say_from_where_on_a_miner_signs():
    """They stand where they were voted out; those that came later are at height 101."""
    bench = Bench(n=7, me=6, records=(), heard=False)
    founders = replace(bench.miners, members=bench.miners.members[:3])
    bench.start(make_config(founders, replace(bench.config.parent, height=40)))
    assert not heights_seen(bench, 41, 41, 41).writes
    bench.start(make_config(bench.miners, replace(bench.config.parent, height=99)))
    for by in (3, 4, 5):
        assert not bench.step(HeightSeen(miner=bench.ids[by], height=101)).writes
    bench.start(make_config(bench.miners, replace(bench.config.parent, height=100)))
    assert written(bench.outputs[-1], Floor) == [Floor(height=103)]


def test_what_others_say_first_counts_however_far_they_go_on():
    """It was said since the start, and so since this miner had signed for the last time."""
    bench = Bench(records=())
    heights_seen(bench, 3, 3, 3)
    assert not heights_seen(bench, 9, 9, 9).writes
    output = bench.start(make_config(bench.miners, replace(bench.config.parent, height=2)))
    assert written(output, Floor) == [Floor(height=5)]


def test_a_liar_with_an_absurd_height_does_not_silence_a_miner_for_ever():
    bench = Bench(n=7, records=())
    assert written(heights_seen(bench, 10**9, 1, 1, 1, 1, 1), Floor) == [Floor(height=3)]


def test_reports_far_ahead_have_first_to_be_reached():
    bench = Bench(records=())
    assert not heights_seen(bench, 50, 51, 50).writes


@pytest.mark.attack("B7")
def test_a_miner_shown_a_later_signature_of_its_own_falls_silent():
    bench = Bench()
    output = bench.receive(bench.prepare(0, bench.proposal()))
    assert written(output, LostMemory) == [LostMemory(height=1)]
    assert bench.snapshot.signing == "lost-memory"
    assert restarted(bench).snapshot.signing == "lost-memory"
    assert written(heights_seen(bench, 1, 1, 1), Floor) == [Floor(height=3)]


@pytest.mark.attack("B7")
def test_a_later_signature_of_its_own_counts_though_nobody_else_is_so_far():
    """They may have been restarted, or be behind; two heights after it the miner signs again."""
    bench = Bench()
    bench.receive(bench.prepare(0, bench.proposal(), height=3))
    assert written(heights_seen(bench, 1, 1, 1), Floor) == [Floor(height=5)]


def test_a_forged_signature_of_its_own_silences_nobody():
    bench = Bench()
    forged = sign(bench.keys[1], bench.prepare(0, bench.proposal()))
    with pytest.raises(BadSignature):
        bench.receive(forged)
    assert bench.snapshot.signing == "yes"


def test_its_own_old_signature_silences_nobody():
    bench, proposal = prepared_bench()
    again = restarted(bench)
    again.receive(again.prepare(0, proposal))
    assert again.snapshot.signing == "yes"


def test_a_forgotten_signature_of_a_height_that_is_settled_silences_nobody():
    bench = Bench()
    bench.start(make_config(bench.miners, replace(bench.config.parent, height=1)))
    assert not bench.receive(bench.prepare(0, bench.proposal(), height=1)).writes
    assert bench.snapshot.signing == "yes"


def test_memory_is_lost_once_however_much_of_a_height_is_shown():
    """Each loss is a write to the disk, and a peer may show a message again and again."""
    bench = Bench()
    proposal = bench.proposal()
    assert bench.receive(bench.prepare(0, proposal)).writes
    assert not bench.receive(bench.prepare(0, proposal)).writes
    assert not bench.receive(bench.commit(0, proposal)).writes


def test_a_peer_that_connects_is_shown_our_messages_and_its_own():
    """DESIGN rule 6: peers return a miner's latest signatures."""
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    theirs = bench.prepare(2, proposal)
    bench.receive(theirs)
    output = bench.step(PeerConnected(miner=bench.ids[2]))
    assert all(send.to == bench.ids[2] for send in output.sends)
    assert [send.message.sender for send in output.sends] == [bench.ids[0], bench.ids[2]]
    assert output.sends[-1].message == theirs


def test_a_peer_that_connects_is_shown_what_it_has_signed_of_next_heights():
    bench = Bench()
    ahead = [bench.prepare(2, bench.proposal(), height=height) for height in (2, 3)]
    bench.receive(*ahead)
    output = bench.step(PeerConnected(miner=bench.ids[2]))
    assert [send.message for send in output.sends] == ahead


def test_a_peer_is_told_behind_its_messages_that_this_was_all():
    bench = Bench()
    output = bench.step(PeerConnected(miner=bench.ids[2]))
    assert asked(output, TellShown) == [TellShown(miner=bench.ids[2], height=1)]


def test_a_miner_is_shown_its_prepare_from_a_certificate_that_survived_a_restart():
    """A network that restarts as a whole has forgotten all messages but those in its logs."""
    bench, proposal = prepared_bench()
    theirs = bench.prepare(1, proposal)
    again = restarted(bench)
    output = again.step(PeerConnected(miner=again.ids[1]))
    assert [send.message for send in output.sends if send.message.sender == again.ids[1]] == [
        theirs
    ]


def test_a_miner_that_starts_signs_once_a_quorum_has_shown_what_it_holds():
    bench = Bench(heard=False)
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.show(1, 1)
    assert bench.snapshot.signing == "awaiting-peers"
    assert written_all(bench) == []
    bench.show(2)
    assert bench.snapshot.signing == "yes"
    assert [record.message.phase for record in written_all(bench)] == [Phase.PREPARE]


def test_members_that_are_ahead_do_not_count_until_their_height_is_reached():
    bench = Bench(heard=False)
    bench.show(1, 2, 3, height=2)
    assert bench.snapshot.signing == "awaiting-peers"
    bench.start(make_config(bench.miners, bench.proposal().header))
    assert bench.snapshot.signing == "yes"


def test_a_liar_that_names_an_absurd_height_is_not_waited_for():
    bench = Bench(heard=False)
    bench.show(3, height=10**9)
    bench.show(1, 2)
    assert bench.snapshot.signing == "yes"


def test_strangers_do_not_count():
    bench = Bench(heard=False)
    bench.show(1)
    bench.step(MemoryShown(miner=b"stranger".ljust(32), height=1))
    bench.step(MemoryShown(miner=bench.ids[0], height=1))
    assert bench.snapshot.signing == "awaiting-peers"


@pytest.mark.parametrize("cut", range(6))
def test_b7_an_older_copy_of_the_log_is_noticed_before_anything_is_signed(cut):
    """Wherever it was cut: others show the later signature, then that this was all."""
    bench, _ = prepared_bench()
    later = [record.message for record in bench.records if isinstance(record, Signed)]
    again = Bench(records=bench.records[:cut], heard=False)
    known = again.replica.durable.last
    for message in later:
        again.receive(message)
    again.show(1, 2, 3)
    again.work()
    if any(position_of(message) > known for message in later):
        assert written_all(again) == []
        assert again.snapshot.signing == "lost-memory"
    else:
        assert again.snapshot.signing == "yes"


def test_a_single_miner_waits_for_nobody():
    assert Bench(n=1, heard=False).snapshot.signing == "yes"


def test_a_single_miner_needs_the_operator():
    miners = Bench(n=1).miners
    assert not was_undecided(5, miners, {}, miners.members[0].id)


@pytest.mark.attack("B7")
@given(st.data())
def test_no_floor_is_at_or_below_a_height_where_the_miner_may_have_signed(data):
    """The argument of docs/spec/consensus.md, for any sets, liars, laggards and reports."""
    everyone = Bench(n=10).miners
    me = everyone.members[0].id
    signed = data.draw(st.integers(1, 5))  # the miner may have signed up to this height
    present = set(data.draw(st.permutations(everyone.members))[: data.draw(st.integers(4, 10))])
    sets = []
    for _ in range(6):
        # Any members may come and go between two heights, here mostly none.
        for member in data.draw(st.lists(st.sampled_from(everyone.members), max_size=2)):
            present = present ^ {member} or present
        members = sorted(present, key=lambda member: member.id)
        sets.append(replace(everyone, members=tuple(members)))
    liars: set[Address] = set()
    for miner in data.draw(st.permutations(everyone.members[1:])):
        more = {*liars, miner.id}
        if all(sum(id in miners for id in more) <= miners.f for miners in sets):
            liars = more
    # A quorum of each height below has voted for a block there, and an honest member goes on.
    least = dict.fromkeys((member.id for member in everyone), 1)
    for height, miners in enumerate(sets[: signed - 1], start=1):
        voters = data.draw(st.permutations([member.id for member in miners]))
        least |= dict.fromkeys(set(voters[: miners.quorum]) - liars, height)
    told = {
        miner: data.draw(st.sampled_from([least[miner], 8]))
        for miner in least
        if miner != me and data.draw(st.integers(0, 4))
    }
    for height, miners in enumerate(sets, start=1):
        assert not was_undecided(height, miners, told, me) or height >= signed

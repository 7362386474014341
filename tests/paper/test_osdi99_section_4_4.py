"""Castro and Liskov (OSDI '99), §4.4: view changes; §4.3 as far as it applies.

What does not apply, and why:

* §4.3, checkpoints, stable checkpoints and their proofs: each height is an
  instance of its own, and ends with a certificate over a state root, which is proof of both.
* §4.2, §4.3, watermarks h and H: messages of the present height and of two next ones are kept.
* §4.4, min-s, max-s, the null request, and the sets C and V of all sequence numbers: a view change
  concerns one height; where nobody was prepared the proposer is free, and needs no null request.
* §4.4, NEW-VIEW as a message of its own: it is the PRE-PREPARE of a round above 0, with the
  view-change messages (V) and the prepared certificate (O has one entry).
* §4.2, requests and replies of clients, piggy-backed requests, execution at a replica: a block's
  transactions travel apart from it, and clients read receipts.
"""

import pytest

from consensus.errors import InvalidMessage, Unjustified
from consensus.messages import Commit, Prepare, PrePrepare, RoundChange
from consensus.output import AnswerOldHeight, BuildBlock
from tests.interaction.cluster import make_config
from tests.unit.consensus.bench import Bench, asked, sent
from tests.unit.consensus.plain import BlockFetched


def prepared_bench(me=0):
    """Return a miner that is prepared for the block of round 0."""
    bench = Bench(me=me)
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.receive(*(bench.prepare(by, proposal) for by in range(4) if by != me))
    return bench, proposal


def test_a_view_change_message_carries_what_the_replica_is_prepared_for_with_proof():
    """§4.4: P contains "a set P_m for each request m that prepared at i"."""
    bench, proposal = prepared_bench()
    (message,) = sent(bench.time_out(), RoundChange)
    assert (message.round, message.prepared_round, message.prepared_digest) == (
        1,
        0,
        proposal.digest,
    )
    certificate = message.certificate
    assert certificate is not None
    assert len(certificate.votes) == 3
    assert certificate.digest == proposal.digest


def test_a_replica_in_a_view_change_stops_accepting_messages_of_the_old_view():
    """§4.4: it "stops accepting messages (other than checkpoint, view-change, and new-view)"."""
    bench = Bench()
    proposal = bench.proposal()
    bench.work()
    bench.time_out()
    votes = [bench.prepare(by, proposal) for by in (1, 2, 3)]
    bench.receive(bench.pre_prepare(proposal), *votes)
    assert not any(output.sends or output.requests for output in bench.outputs[-4:])
    assert bench.snapshot.proposal is None


def test_commits_of_the_old_view_still_count():
    """QBFT and §4.2 differ from §4.4 here: committed-local is no matter of the view one is in."""
    bench, proposal = prepared_bench()
    bench.time_out()
    output = bench.receive(bench.commit(1, proposal), bench.commit(2, proposal))
    assert [commit.proposal for commit in output.commits] == [proposal]


def test_the_new_primary_waits_for_2f_valid_view_changes_besides_its_own():
    """§4.4: "when the primary p of view v + 1 receives 2f valid view-change messages"."""
    bench = Bench(me=2)
    bench.work()
    bench.time_out()
    assert not asked(bench.receive(bench.round_change(0)), BuildBlock)
    assert asked(bench.receive(bench.round_change(1)), BuildBlock)


def test_the_same_view_change_twice_is_one():
    """§4.4: "2f valid view-change messages ... from other replicas": distinct ones."""
    bench = Bench(me=2)
    bench.work()
    bench.time_out()
    message = bench.round_change(0)
    assert not asked(bench.receive(message, message, message), BuildBlock)


@pytest.mark.parametrize("higher", [0, 1], ids=["earlier", "later"])
def test_the_new_primary_proposes_the_prepared_request_with_the_highest_view(higher):
    """§4.4: O has for n the request "with the highest view number in V", whoever shows it."""
    bench = Bench(me=3)
    low, high = bench.proposal(content=b"low"), bench.proposal(round=1, content=b"high")
    shown = [bench.certificate(low, 0), bench.certificate(high, 1)]
    bench.work()
    bench.receive(
        bench.round_change(0, 2, prepared=shown[1 - higher]),
        bench.round_change(1, 2, prepared=shown[higher]),
    )
    (message,) = sent(bench.step(BlockFetched(height=1, proposal=high)), PrePrepare)
    assert message.digest == high.digest
    assert message.justification is not None
    assert len(message.justification.round_changes) == 3
    assert message.justification.certificate == bench.certificate(high, 1)


def test_a_backup_refuses_a_new_view_that_does_not_follow_from_its_view_changes():
    """§4.4: a backup accepts it if "the set O is correct; it verifies ... O by" computing it."""
    bench, proposal = prepared_bench()
    bench.time_out()
    certificate = bench.certificate(proposal)
    justification = bench.justification(
        bench.round_change(1),
        bench.round_change(2, prepared=certificate),
        bench.round_change(3),
        certificate=certificate,
    )
    other = bench.proposal(round=1, content=b"other")
    with pytest.raises(Unjustified):
        bench.receive(bench.pre_prepare(other, 1, justification))
    bench.receive(bench.pre_prepare(proposal, 1, justification))
    assert bench.snapshot.proposal == proposal.digest


def test_a_backup_refuses_a_new_view_whose_view_changes_are_of_another_view():
    """§4.4: "if it contains valid view-change messages for view v + 1"."""
    bench = Bench()
    bench.work()
    bench.time_out()
    justification = bench.justification(*(bench.round_change(by, 2) for by in (1, 2, 3)))
    with pytest.raises(Unjustified):
        bench.receive(bench.pre_prepare(bench.proposal(round=1), 1, justification))


def test_a_backup_sends_a_prepare_for_what_the_new_view_proposes():
    """§4.4: "it multicasts a prepare for each message in O"."""
    bench, proposal = prepared_bench()
    bench.time_out()
    certificate = bench.certificate(proposal)
    justification = bench.justification(
        *(bench.round_change(by, prepared=certificate) for by in (1, 2, 3)),
        certificate=certificate,
    )
    output = bench.receive(bench.pre_prepare(proposal, 1, justification))
    assert [message.round for message in sent(output, Prepare)] == [1]
    output = bench.receive(*(bench.prepare(by, proposal, 1) for by in (1, 2)))
    assert [message.round for message in sent(output, Commit)] == [1]


def test_a_view_change_with_an_invalid_certificate_is_not_taken():
    """§4.4: "valid view-change messages": two PREPAREs where three are a quorum prove nothing."""
    bench = Bench(me=2)
    proposal = bench.proposal()
    short = bench.certificate(proposal, by=(0, 1))
    with pytest.raises(InvalidMessage):
        bench.receive(bench.round_change(0, prepared=short))


def test_a_replica_that_is_behind_gets_what_it_lacks_with_its_proof():
    """§4.3, §4.4: it "can obtain the missing messages from another replica" — here the block."""
    bench = Bench()
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    bench.checked(proposal)
    bench.receive(*(bench.commit(by, proposal) for by in (1, 2, 3)))
    bench.start(make_config(bench.miners, proposal.header))
    (answer,) = asked(bench.receive(bench.round_change(3)), AnswerOldHeight)
    assert (answer.miner, answer.height) == (bench.ids[3], 1)

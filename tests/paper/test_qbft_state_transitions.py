"""EEA QBFT v1, the transitions of a node (Upon…), one by one. Justifications: the file beside this.

What does not apply, and why:

* UponBlockTimeout: a block is due when there is work, not after a period (DESIGN rule 14).
* Commit seals within the block, and NewBlock as a message: a certificate stands beside the block,
  and whoever is behind is given both (DESIGN rules 7 and 8).
* UponRoundTimeout doubles the time of a round: here it grows linearly and is capped (rule 8).
* UponProposal wants a proposal accepted before one of a future round: any justified one is taken.
"""

import pytest

from consensus.errors import InvalidMessage
from consensus.messages import Commit, Prepare, PrePrepare, RoundChange
from consensus.output import BuildBlock
from tests.interaction.cluster import make_config
from tests.unit.consensus.bench import Bench, asked, sent


def accepted(me=0):
    bench = Bench(me=me)
    proposal = bench.proposal()
    bench.receive(bench.pre_prepare(proposal))
    return bench, proposal, bench.checked(proposal)


def test_upon_proposal_a_node_sends_one_prepare_for_its_digest():
    bench, proposal, output = accepted()
    assert [m.digest for m in sent(output, Prepare)] == [proposal.digest]
    assert not bench.receive(bench.pre_prepare(proposal)).sends


def test_is_valid_proposal_only_of_the_proposer_of_its_round():
    bench = Bench()
    with pytest.raises(InvalidMessage):
        bench.receive(bench.pre_prepare(bench.proposal(), by=2))


def test_upon_prepare_a_node_sends_one_commit_at_a_quorum():
    bench, proposal, _ = accepted()
    assert not sent(bench.receive(bench.prepare(1, proposal)), Commit)
    assert len(sent(bench.receive(bench.prepare(2, proposal)), Commit)) == 1
    assert not sent(bench.receive(bench.prepare(3, proposal)), Commit)


def test_upon_prepare_the_last_prepared_block_and_round_are_set():
    bench, proposal, _ = accepted()
    assert bench.snapshot.prepared_round is None
    bench.receive(bench.prepare(1, proposal), bench.prepare(2, proposal))
    assert bench.snapshot.prepared_round == 0


def test_upon_prepare_without_a_proposal_nothing_is_committed():
    bench = Bench()
    proposal = bench.proposal()
    assert not bench.receive(*(bench.prepare(by, proposal) for by in (1, 2, 3))).sends


def test_upon_commit_a_quorum_adds_the_block_with_a_quorum_of_seals():
    bench, proposal, _ = accepted()
    assert not bench.receive(bench.commit(1, proposal), bench.commit(2, proposal)).commits
    (committed,) = bench.receive(bench.commit(3, proposal)).commits
    assert committed.proposal == proposal
    assert len(committed.certificate.votes) == 3


def test_upon_new_block_round_and_what_was_prepared_begin_anew():
    bench, proposal, _ = accepted()
    bench.time_out()
    bench.receive(*(bench.commit(by, proposal) for by in (1, 2, 3)))
    bench.start(make_config(bench.miners, proposal.header))
    snapshot = bench.snapshot
    assert (snapshot.height, snapshot.round) == (2, 0)
    assert snapshot.prepared_round is snapshot.proposal is None


def test_upon_round_timeout_a_node_moves_to_the_next_round_and_says_so():
    bench, _, _ = accepted()
    (message,) = sent(bench.time_out(), RoundChange)
    assert (message.round, message.prepared_round, message.certificate) == (1, None, None)
    assert bench.snapshot.proposal is None


def test_upon_round_change_f_plus_1_of_later_rounds_are_followed():
    """Here to the largest round that f + 1 have reached, which is QBFT's lowest of f + 1."""
    bench = Bench()
    bench.receive(bench.round_change(1, 7))
    assert bench.snapshot.round == 0
    assert [m.round for m in sent(bench.receive(bench.round_change(2, 4)), RoundChange)] == [4]


def test_upon_round_change_the_proposer_proposes_once_with_a_quorum():
    bench = Bench(me=2)
    bench.work()
    bench.time_out()
    bench.receive(bench.round_change(0))
    assert asked(bench.receive(bench.round_change(1)), BuildBlock)
    proposal = bench.proposal(round=1)
    (message,) = sent(bench.built(proposal, round=1), PrePrepare)
    assert message.justification is not None
    assert not bench.receive(bench.round_change(3)).sends


@pytest.mark.parametrize("prepared_round", [1, 2])
def test_valid_round_change_was_prepared_in_a_round_before_its_own(prepared_round):
    bench = Bench()
    certificate = bench.certificate(bench.proposal(), prepared_round)
    with pytest.raises(InvalidMessage):
        bench.receive(bench.round_change(1, 1, prepared=certificate))

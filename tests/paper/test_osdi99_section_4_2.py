"""Castro and Liskov, Practical Byzantine Fault Tolerance (OSDI '99), §4.2: the normal case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.miners import faulty_max, quorum, weak_quorum
from consensus.errors import InvalidMessage
from consensus.messages import Commit, Prepare
from consensus.output import CheckProposal
from tests.unit.consensus.bench import Bench, asked, sent


def test_primary_is_chosen_by_view_modulo_replicas():
    """§4: "The primary of a view is replica p such that p = v mod |R|" — here of (h + r)."""
    bench = Bench()
    assert bench.snapshot.proposer == bench.ids[1]
    for round in range(1, 9):
        bench.receive(bench.round_change(2, round), bench.round_change(3, round))
        assert bench.snapshot.proposer == bench.ids[(1 + round) % 4]


def test_a_backup_accepts_one_pre_prepare_for_a_view_and_sequence_number():
    """§4.2: accepts it if it has not accepted another "containing a different digest"."""
    bench = Bench()
    first, second = bench.proposal(content=b"1"), bench.proposal(content=b"2")
    assert asked(bench.receive(bench.pre_prepare(first)), CheckProposal)
    assert not asked(bench.receive(bench.pre_prepare(second)), CheckProposal)


def test_prepared_needs_the_pre_prepare_and_matching_prepares():
    """§4.2: prepared(m, v, n, i) is true only with the request, its pre-prepare, 2f prepares."""
    bench = Bench()
    proposal, other = bench.proposal(), bench.proposal(content=b"other")
    for by in (1, 2, 3):
        assert not sent(bench.receive(bench.prepare(by, proposal)), Commit)
    bench = Bench()
    bench.receive(bench.pre_prepare(proposal))
    assert sent(bench.checked(proposal), Prepare)
    bench.receive(bench.prepare(1, proposal))
    assert not sent(bench.receive(bench.prepare(2, other)), Commit)
    assert sent(bench.receive(bench.prepare(3, proposal)), Commit)


@given(st.integers(1, 100))
def test_any_two_quorums_share_an_honest_replica(n):
    """§4.2: "two quorums intersect in at least one correct replica"."""
    assert 2 * quorum(n) - n >= faulty_max(n) + 1
    assert quorum(n) <= n - faulty_max(n)
    assert weak_quorum(n) == faulty_max(n) + 1


def test_messages_of_another_view_are_not_accepted():
    """§4.2: a backup accepts a pre-prepare if "it is in view v"; here a later one if justified."""
    bench = Bench()
    bench.receive(bench.round_change(1, 4), bench.round_change(2, 4))
    assert not bench.receive(bench.pre_prepare(bench.proposal())).requests
    with pytest.raises(InvalidMessage):
        bench.receive(bench.pre_prepare(bench.proposal(round=5), round=5))

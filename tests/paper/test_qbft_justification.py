"""EEA QBFT v1: what a proposal in a later round needs. The refusals stand in tests/unit."""

import pytest

from consensus.messages import Prepare
from consensus.round_change import justification_fault, justification_shape_fault, justify
from consensus.verifier import Verifier
from tests.unit.consensus.bench import Bench, sent


def fault(bench, message):
    return justification_shape_fault(message, bench.config) or justification_fault(
        message, bench.config, Verifier()
    )


@pytest.mark.attack("A7")
def test_a_proposal_without_prepared_blocks_is_justified_by_a_quorum_of_round_changes():
    bench = Bench()
    changes = [bench.round_change(by) for by in (0, 1, 2)]
    justification = justify(changes, bench.miners)
    message = bench.pre_prepare(bench.proposal(round=1), 1, justification)
    assert fault(bench, message) is None


@pytest.mark.attack("A7", "B2", "B3")
def test_the_highest_prepared_certificate_decides_the_block():
    bench = Bench()
    low, high = bench.proposal(content=b"low"), bench.proposal(round=1, content=b"high")
    changes = [
        bench.round_change(0, 3, prepared=bench.certificate(low, 0)),
        bench.round_change(1, 3, prepared=bench.certificate(high, 2)),
        bench.round_change(2, 3),
    ]
    justification = justify(changes, bench.miners)
    assert justification is not None
    assert justification.certificate == bench.certificate(high, 2)
    assert fault(bench, bench.pre_prepare(high, 3, justification)) is None
    assert fault(bench, bench.pre_prepare(low, 3, justification)) is not None


@pytest.mark.attack("B2")
def test_fewer_round_changes_than_a_quorum_justify_nothing():
    bench = Bench()
    assert justify([bench.round_change(by) for by in (0, 1)], bench.miners) is None


def test_a_future_round_is_entered_by_its_justified_proposal():
    """Beyond the specification, which refuses it unless a proposal was accepted before."""
    bench = Bench()
    changes = [bench.round_change(by, 6) for by in (1, 2, 3)]
    proposal = bench.proposal(round=6)
    bench.receive(bench.pre_prepare(proposal, 6, justify(changes, bench.miners)))
    assert [message.round for message in sent(bench.checked(proposal), Prepare)] == [6]

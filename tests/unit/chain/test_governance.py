"""chain.governance: proposals, votes, and how they end."""

import pytest

from chain.blocks import Event
from chain.crypto import address_of
from chain.kinds.miners import MinerPropose, RemoveMiner, RestoreMiner
from chain.kinds.organisations import OrganisationChange
from chain.kinds.parameter_change import ParameterChange
from chain.kinds.vote import MinerVote
from chain.records.proposals import (
    CLOSED_PROPOSALS,
    CLOSED_PROPOSALS_MAX,
    OPEN_PROPOSALS,
    OPEN_PROPOSALS_MAX,
    PROPOSAL_TABLE,
)
from chain.state import parameters_of
from chain.types import Digest
from tests.builders import Chain, digest_of, key_of, make_genesis, with_parameters

CHANGE = ParameterChange(name="heartbeat_ms", value="5000")


@pytest.fixture
def chain():
    return Chain()


def propose(chain, number=0, body=CHANGE):
    kind = {ParameterChange: "param.change", MinerPropose: "miner.propose"}[type(body)]
    transaction = chain.by_miner(number, kind, body)
    chain.commit(transaction)
    return transaction


def record(chain, proposal):
    found = chain.state.get(PROPOSAL_TABLE, proposal.id)
    assert found is not None
    return found


def open_ids(chain):
    found = chain.state.get(OPEN_PROPOSALS)
    return () if found is None else found.ids


def id_of(number):
    return address_of(key_of(f"miner {number}").public)


def test_a_proposal_is_open_with_its_sender_for_it(chain):
    proposal = propose(chain)

    assert record(chain, proposal).status == "open"
    assert record(chain, proposal).approvals == (id_of(0),)
    assert open_ids(chain) == (proposal.id,)


def test_q_votes_enact_it_at_once(chain):
    proposal = propose(chain)
    chain.commit(chain.vote(1, proposal))
    assert record(chain, proposal).status == "open"

    execution = chain.commit(chain.vote(2, proposal))

    closed = record(chain, proposal)
    assert (closed.status, closed.closed_height) == ("enacted", 3)
    assert open_ids(chain) == ()
    assert parameters_of(chain.state).heartbeat_ms == 5_000
    assert [event.name for event in execution.receipts[0].events] == [
        "proposal_enacted",
        "parameter_changed",
    ]


@pytest.mark.parametrize(
    ("miners", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5)]
)
def test_a_quorum_of_the_set_is_needed(miners, needed):
    chain = Chain(make_genesis(miners=miners))
    proposal = propose(chain)
    for voter in range(1, needed):
        assert record(chain, proposal).status == "open"
        chain.commit(chain.vote(voter, proposal))

    assert record(chain, proposal).status == "enacted"


def test_it_is_rejected_when_a_quorum_is_out_of_reach(chain):
    proposal = propose(chain)
    chain.commit(chain.vote(1, proposal, approve=False))
    assert record(chain, proposal).status == "open"

    chain.commit(chain.vote(2, proposal, approve=False))

    assert record(chain, proposal).status == "rejected"
    assert parameters_of(chain.state).heartbeat_ms == 60_000
    assert chain.rejection(chain.vote(3, proposal)).code == "proposal_closed"


def test_a_miner_votes_once(chain):
    proposal = propose(chain)
    chain.commit(chain.vote(1, proposal, approve=False))

    for number in (0, 1):
        for approve in (True, False):
            again = chain.vote(number, proposal, approve=approve)
            assert chain.rejection(again).code == "already_voted"


@pytest.mark.attack("D7")
def test_the_same_vote_twice_counts_once(chain):
    # CVE-2022-45196: one request, repeated, took effect twice.
    proposal = propose(chain)
    vote = chain.vote(1, proposal)
    chain.commit(vote)

    assert chain.rejection(vote).code == "duplicate"
    assert record(chain, proposal).approvals == (id_of(0), id_of(1))


def test_there_are_no_votes_on_what_is_not_proposed(chain):
    vote = MinerVote(proposal=Digest(digest_of("nothing")), approve=True)

    assert chain.rejection(chain.by_miner(0, "miner.vote", vote)).code == "not_found"


@pytest.mark.attack("E5")
def test_only_active_members_propose_and_vote(chain):
    # CVE-2022-31020: any member could start an administrative action.
    proposal = propose(chain)
    chain.demote(id_of(3))
    device = chain.register()

    assert chain.rejection(chain.vote(3, proposal)).code == "not_permitted"
    assert chain.rejection(chain.by_miner(3, "param.change", CHANGE)).code == "not_permitted"
    assert chain.rejection(chain.by_miner(50, "param.change", CHANGE)).code == "not_permitted"
    by_device = chain.transaction("param.change", CHANGE, device.key, device.id)
    assert chain.rejection(by_device).code == "not_permitted"
    registrar = chain.by_registrar("param.change", CHANGE)
    assert chain.rejection(registrar).code == "not_permitted"


def test_a_proposal_that_nobody_decides_expires_by_block_time(chain):
    chain = Chain(make_genesis(parameters=with_parameters(proposal_lifetime_ms=60_000)))
    proposal = propose(chain)
    deadline = record(chain, proposal).deadline_ms
    assert deadline == chain.tip.header.time_ms + 60_000

    chain.commit(chain.vote(1, proposal), time_ms=deadline - 1)
    assert record(chain, proposal).status == "open"
    late = chain.vote(2, proposal)
    assert chain.rejection(late, time_ms=deadline).code == "proposal_closed"
    execution = chain.commit(time_ms=deadline + 60_000)

    assert record(chain, proposal).status == "expired"
    assert open_ids(chain) == ()
    assert execution.block_receipt.events == (
        Event(name="proposal_expired", values=(proposal.id.hex(), "param.change")),
    )


def test_a_deadline_is_reached_at_its_millisecond():
    chain = Chain(make_genesis(parameters=with_parameters(proposal_lifetime_ms=60_000)))
    early, late = propose(chain), propose(chain, 1)
    chain.commit(chain.vote(2, late), time_ms=record(chain, early).deadline_ms)

    assert (record(chain, early).status, record(chain, late).status) == ("expired", "open")


def test_what_is_no_longer_possible_when_agreed_is_void(chain):
    chain.demote(id_of(3))
    body = MinerPropose(change=RestoreMiner(miner=id_of(3)))
    first, second = propose(chain, 0, body), propose(chain, 1, body)
    chain.commit(chain.vote(1, first), chain.vote(2, first))
    chain.commit(chain.vote(0, second), chain.vote(2, second))

    assert record(chain, first).status == "enacted"
    assert record(chain, second).status == "void"


@pytest.mark.attack("E6")
def test_votes_of_members_that_left_do_not_count(chain):
    chain = Chain(make_genesis(miners=5))
    proposal = propose(chain, 4)
    chain.decide(
        "miner.propose", MinerPropose(change=RemoveMiner(miner=id_of(4))), voters=(0, 1, 2, 3)
    )
    chain.commit(chain.vote(0, proposal))
    chain.commit(chain.vote(1, proposal))
    assert len(chain.miners) == 4

    assert record(chain, proposal).status == "open"
    assert record(chain, proposal).approvals == (id_of(0), id_of(1)), "and are not kept either"
    chain.commit(chain.vote(2, proposal))
    assert record(chain, proposal).status == "enacted"


@pytest.mark.attack("E6")
def test_votes_of_members_demoted_since_do_not_count(chain):
    proposal = propose(chain, 3)
    chain.demote(id_of(3))
    chain.commit(chain.vote(0, proposal), chain.vote(1, proposal))
    assert record(chain, proposal).status == "open"

    chain.commit(chain.vote(2, proposal))

    assert record(chain, proposal).status == "enacted"


def test_a_smaller_set_decides_what_the_larger_could_not():
    # Three of five were for it; once the fifth is gone they are a quorum, and nobody is left to
    # vote who would bring that to light.
    chain = Chain(make_genesis(miners=5))
    proposal = propose(chain)
    chain.commit(
        chain.vote(1, proposal), chain.vote(2, proposal), chain.vote(3, proposal, approve=False)
    )
    removal = MinerPropose(change=RemoveMiner(miner=id_of(4)))
    chain.decide("miner.propose", removal, voters=(0, 1, 2, 3))
    chain.commit()
    assert record(chain, proposal).status == "open"

    execution = chain.commit()

    assert record(chain, proposal).status == "enacted"
    assert parameters_of(chain.state).heartbeat_ms == 5_000
    assert [event.name for event in execution.block_receipt.events] == [
        "proposal_enacted",
        "parameter_changed",
    ]


def test_one_miner_cannot_take_the_room_of_the_others(chain):
    share = OPEN_PROPOSALS_MAX // 4
    chain.commit(*[chain.by_miner(0, "param.change", CHANGE) for _ in range(share)])

    assert chain.rejection(chain.by_miner(0, "param.change", CHANGE)).code == "limit_reached"
    proposal = propose(chain, 1)
    chain.commit(chain.vote(2, proposal), chain.vote(3, proposal))
    assert record(chain, proposal).status == "enacted"


def test_there_are_never_more_open_proposals_than_are_kept(chain):
    share = OPEN_PROPOSALS_MAX // 4
    for number in range(4):
        chain.commit(*[chain.by_miner(number, "param.change", CHANGE) for _ in range(share)])
    for number in range(4):
        refused = chain.by_miner(number, "param.change", CHANGE)
        assert chain.rejection(refused).code == "limit_reached"

    proposal = chain.blocks[0].transactions[0]
    chain.commit(chain.vote(1, proposal), chain.vote(2, proposal))
    chain.commit(chain.by_miner(0, "param.change", CHANGE))
    assert len(open_ids(chain)) == OPEN_PROPOSALS_MAX


def test_a_proposal_that_would_change_nothing_possible_is_not_opened(chain):
    bad = OrganisationChange(
        name="globex", registrar_key=key_of("x").public, limits=(), active=True
    )
    transaction = chain.by_miner(0, "organisation.change", bad)
    chain.commit(transaction)

    unknown = ParameterChange(name="nonsense", value="1")
    assert chain.rejection(chain.by_miner(0, "param.change", unknown)).code == "not_found"


def test_a_single_miner_decides_alone_and_at_once():
    chain = Chain(make_genesis(miners=1))
    proposal = propose(chain)

    assert record(chain, proposal).status == "enacted"


def test_counting_again_changes_nothing_by_itself(chain):
    propose(chain)

    execution = chain.commit()

    assert execution.delta == {}
    assert execution.block_receipt.events == ()


@pytest.mark.attack("E6")
def test_the_state_keeps_so_many_closed_proposals_and_no_more():
    chain = Chain(make_genesis(miners=1))
    proposals = [chain.by_miner(0, "param.change", CHANGE) for _ in range(CLOSED_PROPOSALS_MAX)]
    chain.commit(*proposals)
    assert record(chain, proposals[0]).status == "enacted"

    last = propose(chain)

    kept = [Digest(id) for id, _ in chain.state.scan(PROPOSAL_TABLE)]
    assert set(kept) == {*[each.id for each in proposals[1:]], last.id}
    closed = chain.state.get(CLOSED_PROPOSALS)
    assert closed is not None
    assert closed.ids == (*[each.id for each in proposals[1:]], last.id)
    late = chain.vote(0, proposals[0])
    assert chain.rejection(late).code == "not_found"

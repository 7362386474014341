"""miner.propose: who is a miner, from which height on."""

from dataclasses import replace

import pytest

from chain.crypto import address_of
from chain.kinds.miners import (
    MinerPropose,
    MoveMiner,
    RemoveMiner,
    RestoreMiner,
    sign_acceptance,
)
from chain.miners import MINERS_MAX, MinerSet
from chain.parameters import ANCHOR_INTERVAL
from chain.records.miners import ANCHOR_TABLE, MINER_SETS, MINER_TABLE
from chain.records.proposals import PROPOSAL_TABLE
from chain.table import height_key
from chain.transition import move_anchors
from chain.types import Address, Height, Signature
from tests.builders import ACCEPTANCE_MS, Chain, digest_of, key_of, make_genesis, with_parameters


@pytest.fixture
def chain():
    return Chain()


def removal(number):
    return MinerPropose(change=RemoveMiner(miner=id_of(number)))


def id_of(number):
    return address_of(key_of(f"miner {number}").public)


def ids(miners: MinerSet):
    return {miner.id for miner in miners}


def refusal(chain, body, number=0):
    return chain.rejection(chain.by_miner(number, "miner.propose", body)).code


@pytest.mark.attack("E1")
def test_a_change_tallied_at_h_is_effective_at_h_plus_2(chain):
    before = chain.miners
    chain.decide("miner.propose", chain.addition())
    decided = chain.tip.header
    assert chain.miners == before

    chain.commit()
    between = chain.tip.header
    assert ids(chain.miners) == {*ids(before), id_of(4)}

    chain.commit()
    after = chain.tip.header
    new = chain.miners
    assert (decided.miner_set_hash, decided.next_miner_set_hash) == (before.hash, before.hash)
    assert (between.miner_set_hash, between.next_miner_set_hash) == (before.hash, new.hash)
    assert (after.miner_set_hash, after.next_miner_set_hash) == (new.hash, new.hash)
    assert after.height == decided.height + 2


def test_a_new_member_governs_once_it_is_effective(chain):
    chain.decide("miner.propose", chain.addition())

    assert refusal(chain, removal(0), number=4) == "not_permitted"
    chain.commit()
    chain.commit(
        chain.by_miner(
            4, "miner.propose", MinerPropose(change=MoveMiner(miner=id_of(4), host="new", port=2))
        )
    )


def test_a_removed_member_acts_no_more_but_decides_until_h_plus_2(chain):
    chain.decide("miner.propose", removal(3))

    assert refusal(chain, removal(0), number=3) == "not_permitted"
    assert id_of(3) in chain.miners
    chain.commit()
    assert id_of(3) not in chain.miners
    record = chain.state.get(MINER_TABLE, id_of(3))
    assert record is not None
    assert record.status == "removed"


def agreed(chain, first, *others, voters=(1, 2, 3)):
    """Let all agree on proposals in one block, a quorum of them on the first; return them."""
    proposals = [chain.by_miner(0, "miner.propose", body) for body in (first, *others)]
    chain.commit(*proposals)
    votes = [chain.vote(number, proposals[0]) for number in (1, 2)]
    votes += [chain.vote(number, each) for each in proposals[1:] for number in voters]
    chain.commit(*votes)
    return proposals


def statuses(chain, proposals):
    records = [chain.state.get(PROPOSAL_TABLE, proposal.id) for proposal in proposals]
    return [(record.status, record.closed_height) for record in records]


@pytest.mark.attack("E1")
def test_of_two_changes_agreed_in_one_block_the_second_waits_for_the_first(chain):
    proposals = agreed(chain, chain.addition(), removal(3))
    decided = chain.tip.header.height
    assert statuses(chain, proposals) == [("enacted", decided), ("open", None)]

    chain.commit()
    assert len(chain.miners) == 5
    assert statuses(chain, proposals)[1] == ("open", None)
    chain.commit()
    assert statuses(chain, proposals)[1] == ("enacted", decided + 2)

    chain.commit()
    assert ids(chain.miners) == {id_of(number) for number in (0, 1, 2, 4)}


def test_changes_that_wait_take_their_turns_from_the_oldest_on(chain):
    proposals = agreed(chain, *[chain.addition(number) for number in (4, 5, 6)])
    first = chain.tip.header.height
    for _ in range(4):
        chain.commit()

    closed = [("enacted", first), ("enacted", first + 2), ("enacted", first + 4)]
    assert statuses(chain, proposals) == closed


def test_a_change_that_waits_is_tried_again_at_a_vote(chain):
    proposals = agreed(chain, chain.addition(), removal(3), voters=(1, 2))
    chain.commit()

    vote = chain.vote(3, proposals[1])
    execution = chain.commit(vote)

    assert [event.name for event in execution.receipts[0].events] == [
        "proposal_enacted",
        "miner_remove",
    ]


@pytest.mark.parametrize("heights", [0, 1])
def test_votes_are_collected_while_another_change_is_pending(chain, heights):
    chain.decide("miner.propose", chain.addition())
    for _ in range(heights):
        chain.commit()

    proposals = [
        chain.by_miner(0, "miner.propose", body) for body in (chain.addition(5), removal(3))
    ]
    chain.commit(*proposals, chain.vote(1, proposals[0]))

    assert statuses(chain, proposals) == [("open", None), ("open", None)]


def test_what_is_in_the_set_to_come_is_not_proposed_again(chain):
    chain.decide("miner.propose", chain.addition())

    assert refusal(chain, chain.addition()) == "already_exists"


def test_a_member_may_be_taken_back_while_its_removal_is_pending(chain):
    chain.decide("miner.propose", removal(3))
    chain.decide("miner.propose", chain.addition(3))
    chain.commit()
    assert id_of(3) not in chain.miners

    chain.commit()
    chain.commit()

    assert id_of(3) in chain.miners


@pytest.mark.attack("E2")
def test_a_change_that_has_become_impossible_is_void_when_its_turn_comes(chain):
    proposals = agreed(chain, removal(3), removal(3), chain.addition(), voters=(1, 2))
    decided = chain.tip.header.height
    assert [status for status, _ in statuses(chain, proposals)] == ["enacted", "open", "open"]

    chain.commit()
    execution = chain.commit()

    assert statuses(chain, proposals)[1:] == [("void", decided + 2), ("enacted", decided + 2)]
    assert [event.name for event in execution.block_receipt.events] == [
        "proposal_void",
        "proposal_enacted",
        "miner_add",
    ]


def test_a_change_that_waits_too_long_expires():
    parameters = with_parameters(proposal_lifetime_ms=60_000)
    chain = Chain(make_genesis(parameters=parameters))
    proposals = agreed(chain, chain.addition(), removal(3))

    chain.commit()

    assert [status for status, _ in statuses(chain, proposals)] == ["enacted", "expired"]


def test_a_member_that_leaves_while_a_change_waits_counts_no_more(chain):
    # Of the four that remain three have to agree, and the fifth was one of those that had.
    chain = Chain(make_genesis(miners=5))
    proposals = [
        chain.by_miner(0, "miner.propose", body) for body in (removal(4), chain.addition(5))
    ]
    chain.commit(*proposals, chain.vote(4, proposals[1]))
    chain.commit(*[chain.vote(number, proposals[0]) for number in (1, 2, 3)])
    chain.commit(chain.vote(1, proposals[1]))
    chain.commit()
    assert statuses(chain, proposals)[1] == ("open", None)

    chain.commit(chain.vote(2, proposals[1]))

    assert statuses(chain, proposals)[1] == ("enacted", chain.tip.header.height)


def test_moving_and_restoring_wait_for_nothing(chain):
    chain.demote(id_of(3))
    move = MinerPropose(change=MoveMiner(miner=id_of(2), host="new.example", port=99))
    restore = MinerPropose(change=RestoreMiner(miner=id_of(3)))

    proposals = agreed(chain, chain.addition(), move, restore, voters=(1, 2))

    assert [status for status, _ in statuses(chain, proposals)] == ["enacted"] * 3


@pytest.mark.attack("E2")
def test_the_last_miner_cannot_be_removed():
    chain = Chain(make_genesis(miners=1))

    assert refusal(chain, removal(0)) == "invalid_state"


@pytest.mark.attack("E2")
@pytest.mark.parametrize(
    ("miners", "demoted", "removed", "code"),
    [
        (3, (2,), 1, "loses_quorum"),
        (3, (2,), 2, None),
        (4, (3,), 2, None),
        (6, (4, 5), 3, "loses_quorum"),
        (6, (4, 5), 5, None),
        (7, (5, 6), 4, None),
    ],
)
def test_what_is_left_can_always_govern_itself(miners, demoted, removed, code):
    chain = Chain(make_genesis(miners=miners))
    for number in demoted:
        chain.demote(id_of(number))
    proposal = chain.by_miner(0, "miner.propose", removal(removed))

    if code is None:
        chain.commit(proposal)
    else:
        assert chain.rejection(proposal).code == code


def test_a_removal_that_would_lose_the_quorum_by_the_time_of_its_turn_is_void():
    chain = Chain(make_genesis(miners=3))
    proposal = chain.by_miner(0, "miner.propose", removal(1))
    chain.commit(proposal)
    chain.demote(id_of(2))

    chain.commit(chain.vote(1, proposal))

    assert statuses(chain, [proposal]) == [("void", 2)]


def test_two_miners_can_become_one():
    chain = Chain(make_genesis(miners=2))
    chain.decide("miner.propose", removal(1), voters=(0, 1))
    chain.commit()

    assert ids(chain.miners) == {id_of(0)}


@pytest.mark.attack("E2")
@pytest.mark.parametrize("field", ["key", "node_key", "name"])
def test_a_member_is_distinct_from_the_others(chain, field):
    # A duplicate in a validator update halted other chains.
    member = chain.genesis.miners[1]
    values = {
        "key": {"number": 1, "node_key": key_of("node 4").public, "name": "miner-4"},
        "node_key": {"node_key": member.node_key},
        "name": {"name": member.name},
    }[field]

    assert refusal(chain, chain.addition(**values)) == "already_exists"


def test_the_candidate_has_to_accept(chain):
    accepted = chain.addition().change
    signed = {
        "genesis_hash": chain.genesis.hash,
        "key": key_of("miner 4"),
        "node_key": accepted.node_key,
        "height": accepted.height,
        "block_hash": accepted.block_hash,
        "valid_until_ms": accepted.valid_until_ms,
    }
    assert sign_acceptance(**signed) == accepted.acceptance

    for other in (
        {"genesis_hash": digest_of("another chain")},
        {"key": key_of("miner 5")},
        {"node_key": key_of("node 5").public},
        {"height": accepted.height + 1},
        {"block_hash": digest_of("another block")},
        {"valid_until_ms": accepted.valid_until_ms - 1},
    ):
        forged = chain.addition(acceptance=sign_acceptance(**(signed | other)))
        assert refusal(chain, forged) == "bad_signature"
    assert refusal(chain, chain.addition(acceptance=Signature(bytes(64)))) == "bad_signature"


def test_an_acceptance_ends_at_its_millisecond(chain):
    end = chain.next_time_ms

    assert refusal(chain, chain.addition(valid_until_ms=end)) == "acceptance_expired"
    chain.commit(chain.by_miner(0, "miner.propose", chain.addition(valid_until_ms=end + 1)))


@pytest.mark.attack("E6")
def test_a_miner_that_left_is_not_added_back_by_what_it_signed_before(chain):
    accepted = chain.addition(3)
    chain.decide("miner.propose", removal(3))
    chain.commit()
    chain.pass_time(ACCEPTANCE_MS)

    assert refusal(chain, accepted) == "acceptance_expired"


def test_an_acceptance_that_ends_before_the_vote_adds_nobody(chain):
    proposal = chain.by_miner(
        0, "miner.propose", chain.addition(valid_until_ms=chain.next_time_ms + 1)
    )
    chain.commit(proposal)

    chain.commit(chain.vote(1, proposal), chain.vote(2, proposal))

    assert statuses(chain, [proposal]) == [("void", 2)]
    assert len(chain.miners) == 4


def test_an_acceptance_that_ends_while_its_change_waits_adds_nobody(chain):
    late = chain.addition(5, valid_until_ms=chain.next_time_ms + 100_000)
    proposals = agreed(chain, chain.addition(), late)
    assert statuses(chain, proposals)[1] == ("open", None)

    chain.commit()
    chain.commit()

    assert statuses(chain, proposals)[1] == ("void", chain.tip.header.height)


@pytest.mark.attack("E2")
def test_the_candidate_shows_a_block_of_this_chain(chain):
    while chain.tip.header.height < ANCHOR_INTERVAL + 2:
        chain.commit()
    anchor = ANCHOR_INTERVAL
    for height, block_hash in (
        (anchor, chain.hash_of(anchor - 1)),
        (anchor - 1, chain.hash_of(anchor - 1)),
        (anchor + 1, chain.hash_of(anchor + 1)),
        (chain.tip.next_height, chain.tip.header.hash),
        (0, chain.genesis.hash),
    ):
        shown = chain.addition(height=height, block_hash=block_hash)
        assert refusal(chain, shown) == "not_in_sync"
    for height in (0, anchor, chain.tip.header.height):
        chain.execution().apply(chain.by_miner(0, "miner.propose", chain.addition(height=height)))


def test_the_block_that_a_candidate_shows_is_recent_when_it_is_proposed_and_when_it_is_added():
    chain = Chain(make_genesis(parameters=with_parameters(join_heights_max=40)))
    proposal = chain.by_miner(0, "miner.propose", chain.addition())
    chain.commit(proposal)
    while chain.tip.next_height < 40:
        chain.commit()
    chain.execution().apply(chain.by_miner(0, "miner.propose", chain.addition(height=0)))
    chain.commit(chain.vote(1, proposal))

    assert refusal(chain, chain.addition(height=0)) == "not_in_sync"
    chain.commit(chain.vote(2, proposal))

    assert statuses(chain, [proposal]) == [("void", 41)]


def test_blocks_that_can_be_shown_are_forgotten_in_the_end(chain):
    context = replace(chain.context(), height=Height(2 * ANCHOR_INTERVAL + 1))
    move_anchors(context, window=ANCHOR_INTERVAL)
    context.height = Height(3 * ANCHOR_INTERVAL + 1)
    move_anchors(context, window=ANCHOR_INTERVAL)
    kept = {
        height: context.state.get(ANCHOR_TABLE, height_key(height)) is not None
        for height in (2 * ANCHOR_INTERVAL, 3 * ANCHOR_INTERVAL)
    }

    assert kept == {2 * ANCHOR_INTERVAL: False, 3 * ANCHOR_INTERVAL: True}


def test_keys_of_small_order_are_refused(chain):
    assert refusal(chain, chain.addition(key=bytes(32))) == "malformed"
    assert refusal(chain, chain.addition(node_key=bytes(32))) == "malformed"


@pytest.mark.parametrize("host", ["", "a b", "host\n", "<b>", "x" * 254])
def test_a_host_is_a_name_or_an_address(chain, host):
    assert refusal(chain, chain.addition(host=host)) == "malformed"


def test_there_are_never_more_than_the_most():
    chain = Chain(make_genesis(miners=MINERS_MAX))

    assert refusal(chain, chain.addition(0)) == "limit_reached"


@pytest.mark.attack("E2")
@pytest.mark.parametrize(
    "change",
    [
        RemoveMiner(miner=Address(digest_of("nobody"))),
        RestoreMiner(miner=Address(digest_of("nobody"))),
        MoveMiner(miner=Address(digest_of("nobody")), host="h", port=1),
    ],
)
def test_strangers_are_not_changed(chain, change):
    assert refusal(chain, MinerPropose(change=change)) == "not_found"


def test_a_removed_member_is_not_removed_again_but_may_come_back(chain):
    chain.decide("miner.propose", removal(3))
    chain.commit()
    assert refusal(chain, removal(3)) == "not_found"

    chain.decide("miner.propose", chain.addition(3), voters=(0, 1))
    chain.commit()

    assert len(chain.miners) == 4
    record = chain.state.get(MINER_TABLE, id_of(3))
    assert record is not None
    assert (record.status, record.host) == ("active", "miner-3.example")


def test_a_demoted_member_is_restored_by_vote_and_nobody_else_is(chain):
    assert refusal(chain, MinerPropose(change=RestoreMiner(miner=id_of(3)))) == "invalid_state"
    chain.demote(id_of(3))

    chain.decide("miner.propose", MinerPropose(change=RestoreMiner(miner=id_of(3))))

    record = chain.state.get(MINER_TABLE, id_of(3))
    assert record is not None
    assert record.status == "active"
    assert len(chain.miners) == 4


def test_demotion_changes_neither_n_nor_the_quorum(chain):
    chain.demote(id_of(3))
    chain.commit()

    assert (len(chain.miners), chain.miners.quorum) == (4, 3)


def test_moving_a_member_changes_its_address_alone(chain):
    sets = chain.state.get(MINER_SETS)
    move = MoveMiner(miner=id_of(2), host="new.example", port=99)
    chain.decide("miner.propose", MinerPropose(change=move))

    record = chain.state.get(MINER_TABLE, id_of(2))
    assert record is not None
    assert (record.host, record.port, record.name) == ("new.example", 99, "miner-2")
    assert chain.state.get(MINER_SETS) == sets

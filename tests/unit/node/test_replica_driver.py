"""The driver obeys: durable before sent, sent before committed, and stops when it cannot go on."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from chain.certificate import VoteType
from chain.kinds.policy import PolicySet
from chain.records.policies import PolicyRecord
from chain.types import Digest, Height
from consensus.codec import encode_message
from consensus.durable import Accepted, Floor, Signed, encode_record
from consensus.errors import SafetyViolation
from consensus.events import WorkPending
from consensus.messages import Prepare
from node import consensus_log
from node.block_sync import LIE_POINTS
from node.errors import DiskFull
from node.inbox import PEER_MESSAGES_MAX
from node.peer_events import EXCESS_POINTS, SHOWN_SIZE
from node.ports import WriteBatch
from node.protocol import (
    BODIES,
    CONSENSUS,
    GET_BODIES,
    GET_SHOWN,
    SHOWN,
    STATUS,
    TRANSACTIONS,
    Bodies,
    GetShown,
    Status,
    encode_body,
)
from node.replica_driver import INVALID_POINTS
from node.storage.kv import MemoryStore
from tests.builders import forged, with_parameters
from tests.simulation.world import leaves_of
from tests.unit.node.fakes import simulated
from tests.unit.node.lone_node import QUIET, LoneNode, node_id, proposal_of, settle
from tests.unit.node.storage.stored_chain import dump

OWN = 0


def follower():
    """Return a node that is not the first proposer."""
    lone = LoneNode(OWN)
    return lone if lone.proposer() != OWN else LoneNode(OWN + 1)


def with_a_block():
    """Return such a node, a registration, and the block with it that may come first."""
    lone = follower()
    _, registration = lone.chain.registration("device")
    return lone, registration, lone.chain.block(registration)


async def propose(lone, registration, block):
    """Let the node have the body, then the proposal."""
    lone.give(lone.others[0], registration)
    await settle()
    lone.hear(lone.proposer(), lone.pre_prepare(block))
    await settle()


# --- the order of obedience -----------------------------------------------------------------------


@pytest.mark.attack("B6")
@simulated
async def test_a_vote_is_sent_once_the_block_then_the_vote_are_durable():
    lone, registration, block = with_a_block()
    async with lone.running():
        lone.give(lone.others[0], registration)
        await settle()
        lone.events.clear()
        lone.hear(lone.proposer(), lone.pre_prepare(block))
        await settle()
        assert lone.events == ["proposed", "log", "send prepare"]
        for number in lone.others:
            lone.hear(number, lone.prepare(number, block))
        await settle()
        assert lone.events[3:] == ["log", "send commit"]
        for number in lone.others:
            lone.hear(number, lone.commit(number, block))
        await settle()
        assert lone.events[5:] == ["commit"]

    assert lone.height == 1


@simulated
async def test_a_committed_block_is_told_to_all_and_its_transactions_leave_the_pool():
    lone, registration, block = with_a_block()
    async with lone.running():
        lone.give(lone.others[0], registration)
        await settle()
        assert lone.node.status().mempool_transactions == 1
        lone.agree(block)
        await settle()

    assert lone.node.status().mempool_transactions == 0
    assert lone.node.transaction(registration.id).status == "committed"
    told = lone.wire.take(STATUS)
    assert {(peer, body.height) for peer, body in told} == {(node_id(n), 1) for n in lone.others}
    assert lone.wire.blames == []


@simulated
async def test_what_a_proposal_names_leaves_before_it():
    lone = LoneNode(OWN)
    lone = LoneNode(lone.proposer())
    _, registration = lone.chain.registration("device")
    async with lone.running():
        await lone.node.submit([registration.wire])
        while "send prepare" not in lone.events:
            await asyncio.sleep(0)

    peer = node_id(lone.others[0])
    kinds = [kind for to, kind, _ in lone.wire.sent if to == peer]
    assert kinds.index(TRANSACTIONS) < kinds.index(CONSENSUS)


@simulated
async def test_a_single_miner_agrees_with_itself():
    lone = LoneNode(0, miners=1)
    _, registration = lone.chain.registration("device")
    async with lone.running():
        [result] = await lone.node.submit([registration.wire])
        assert result.error is None
        await settle()

    assert lone.height == 1
    assert lone.events == ["proposed", "log", "commit"]


@simulated
async def test_a_disk_that_refuses_the_vote_ends_the_node_and_nothing_is_sent():
    lone, registration, block = with_a_block()
    lone.log.failure = DiskFull(Path("log"), "no room")

    async def play():
        async with lone.running():
            lone.give(lone.others[0], registration)
            await settle()
            lone.hear(lone.proposer(), lone.pre_prepare(block))
            await settle()

    with pytest.raises(BaseExceptionGroup) as caught:
        await play()

    assert [type(error) for error in leaves_of(caught.value)] == [DiskFull]
    assert lone.wire.said() == []


@simulated
async def test_a_full_log_is_rewritten_with_what_counts_and_the_vote_is_in_it():
    lone, registration, block = with_a_block()
    lone.log.kept += [encode_record(Floor(height=Height(0)))] * 50
    lone.log.full_at = 51
    async with lone.running():
        await propose(lone, registration, block)

    [prepare] = lone.wire.said()
    assert lone.log.rewrites == 1
    assert encode_record(Signed(message=prepare)) in lone.log.kept
    assert encode_record(Accepted(proposal=proposal_of(block))) in lone.log.kept
    assert len(lone.log.kept) < 10


@simulated
async def test_the_log_is_cut_back_at_a_commit_once_it_has_grown(monkeypatch):
    monkeypatch.setattr(consensus_log, "LOG_RECORDS_MAX", 20)
    lone = LoneNode(0, miners=1)
    async with lone.running():
        device = None
        for number in range(30):
            transaction = (
                lone.chain.registration("device")
                if device is None
                else (device, report(lone, device))
            )
            device = transaction[0]
            await lone.node.submit([transaction[1].wire])
            await settle()
            assert lone.height == number + 1
            lone.accept()
            assert len(lone.log.kept) <= 20 + 6

    assert lone.log.rewrites > 2


def report(lone, device):
    return lone.chain.by_device(device, time_ms=lone.clock.wall_ms())


# --- what peers may not do ------------------------------------------------------------------------


@simulated
async def test_an_invalid_message_costs_who_sent_it():
    lone = follower()
    block = lone.chain.block(lone.chain.registration("device")[1])
    vote = lone.prepare(lone.others[0], block)
    async with lone.running():
        lone.hear(lone.others[1], replace(vote, digest=Digest(bytes(32))))
        await settle()

    assert [blame[:2] for blame in lone.wire.blames] == [(node_id(lone.others[1]), INVALID_POINTS)]
    assert lone.refused() == {"consensus": 1}


@pytest.mark.attack("C2")
@simulated
@pytest.mark.parametrize("skew_ms", [-20_000, 20_000])
async def test_a_proposer_whose_clock_is_wrong_or_whose_link_is_slow_is_not_blamed(skew_ms):
    lone = follower()
    block = lone.chain.block(lone.chain.registration("device")[1])
    lone.clock.skew_ms = skew_ms
    async with lone.running():
        lone.hear(lone.proposer(), lone.pre_prepare(block))
        await settle()

    assert lone.refused() == {"consensus": 1}
    assert lone.wire.blames == []


@simulated
async def test_a_miner_that_shows_old_signatures_to_one_removed_since_is_not_blamed():
    lone = LoneNode(9, miners=4)
    block = lone.chain.block(lone.chain.registration("device")[1])
    own = lone.prepare(9, block)
    async with lone.running():
        lone.hear(0, own)
        await settle()

    assert lone.wire.blames == []


@pytest.mark.attack("E1")
@simulated
@pytest.mark.parametrize("height", [2, 3, 40])
async def test_a_miner_that_signs_another_height_with_another_key_is_not_blamed(height):
    """Its key was replaced, or will be; and so may this miner's have been, in what it is shown."""
    lone = follower()
    block = lone.chain.block(lone.chain.registration("device")[1])
    peer = lone.others[0]
    said = [replace(lone.prepare(number, block), height=height) for number in (peer, lone.number)]
    async with lone.running():
        lone.hear(peer, *said)
        await settle()

    assert lone.refused() == {"consensus": 2}
    assert lone.wire.blames == []


@pytest.mark.attack("D2")
@simulated
async def test_what_others_are_said_to_have_signed_is_blamed_at_once_and_a_flood_in_the_end():
    lone = follower()
    block = lone.chain.block(lone.chain.registration("device")[1])
    first, second, third = lone.others
    flood = replace(lone.prepare(third, block), height=Height(2))
    async with lone.running():
        lone.hear(first, replace(lone.prepare(second, block), height=Height(2)))
        await settle()
        assert [blame[:2] for blame in lone.wire.blames] == [(node_id(first), INVALID_POINTS)]
        for _ in range(10):
            lone.hear(third, *[flood] * 60)
            await settle(200)

    costs = [points for peer, points, _ in lone.wire.blames if peer == node_id(third)]
    assert 60 < len(costs) < 120
    assert set(costs) <= {EXCESS_POINTS, INVALID_POINTS}


@simulated
async def test_who_is_no_miner_is_not_even_read():
    lone = follower()
    stranger = node_id(17)
    async with lone.running():
        lone.node.receiver.on_message(stranger, CONSENSUS, b"\xff" * 100)
        await settle()

    assert lone.refused() == {"no_miner": 1}
    assert lone.wire.blames == []


@pytest.mark.attack("D2")
@simulated
async def test_a_flood_of_large_messages_is_dropped_unread_and_ends_the_session():
    lone = follower()
    peer = node_id(lone.others[0])
    async with lone.running():
        for _ in range(1_000):
            # Malformed, so that one that is read shows.
            lone.node.receiver.on_message(peer, CONSENSUS, b"\xff" * 350_000)
            await asyncio.sleep(0.001)

    refused = lone.refused()
    assert refused["malformed"] < 150
    assert refused["consensus_excess"] > 800
    assert sum(points for _, points, _ in lone.wire.blames) > 100


@pytest.mark.attack("D2")
@simulated
async def test_a_peer_whose_messages_fill_its_queue_delays_nobody_else():
    lone = follower()
    first, second = lone.others[:2]
    block = lone.chain.block(lone.chain.registration("device")[1])
    votes = [lone.prepare(number, block) for number in (first, second)]
    taken = lone.watch_steps()
    async with lone.running():
        taken.clear()
        for _ in range(PEER_MESSAGES_MAX + 10):
            lone.hear(first, votes[0])
        lone.hear(second, votes[1])
        await settle(4)

    senders = [event.message.sender for event in taken]
    assert votes[1].sender in senders[:3]
    assert lone.refused() == {"consensus_queue_full": 10}


@simulated
async def test_statuses_of_a_peer_wait_as_one():
    lone = follower()
    peer = node_id(lone.others[0])
    seen = lone.watch_steps()
    async with lone.running():
        seen.clear()
        for height in range(1_000):
            status = Status(height=Height(height))
            lone.node.receiver.on_message(peer, STATUS, encode_body(STATUS, status))
        await settle()

    assert [event.height for event in seen] == [1_000]


# --- blocks of peers ------------------------------------------------------------------------------


@pytest.mark.attack("B8")
@simulated
async def test_blocks_of_a_peer_are_verified_and_committed_in_order():
    lone = LoneNode(OWN)
    block = fresh(lone, 1)
    first = lone.fetched(block)
    async with lone.running():
        await lone.driver.commit_fetched([first])
        assert lone.height == 1
        lone.chain.accept(block)
        # Again, and behind what is here: neither is a fault.
        await lone.driver.commit_fetched([first, lone.fetched(fresh(lone, 2))])

    assert lone.height == 2
    assert lone.wire.blames == []


def fresh(lone, number):
    return lone.chain.block(lone.chain.registration(f"device-{number}")[1])


@pytest.mark.attack("D8")
@simulated
@pytest.mark.parametrize(
    "lie", ["gap", "other block", "too few", "prepares", "other chain", "other body"]
)
async def test_a_peer_pays_for_a_block_that_no_quorum_has_committed(lie):
    lone = LoneNode(OWN)
    block, other = fresh(lone, 1), fresh(lone, 2)
    match lie:
        case "gap":
            lone.chain.accept(block)
            fetched = lone.fetched(fresh(lone, 3))
        case "other block":
            fetched = replace(lone.fetched(block), certificate=lone.fetched(other).certificate)
        case "other chain":
            # Whose miners have the same keys: their certificate is right, there.
            header = replace(block.header, genesis_hash=other.header.hash)
            fetched = lone.fetched(replace(block, header=header))
        case "too few":
            fetched = lone.fetched(block, signers=range(2))
        case "prepares":
            fetched = lone.fetched(block, type=VoteType.PREPARE)
        case _:
            fetched = replace(
                lone.fetched(block), block=replace(block, transactions=other.transactions)
            )
    async with lone.running():
        await lone.driver.commit_fetched([fetched])

    assert lone.height == 0
    assert [blame[:2] for blame in lone.wire.blames] == [(fetched.peer, LIE_POINTS)]


@pytest.mark.attack("B17")
@simulated
async def test_a_quorum_that_has_committed_an_invalid_block_stops_the_node_and_blames_nobody():
    lone = LoneNode(OWN)
    block = fresh(lone, 1)
    bad = replace(block, header=replace(block.header, state_root=Digest(bytes(32))))

    async def play():
        async with lone.running():
            await lone.driver.commit_fetched([lone.fetched(bad)])

    with pytest.raises(BaseExceptionGroup) as caught:
        await play()

    assert [type(error) for error in leaves_of(caught.value)] == [SafetyViolation]
    assert lone.wire.blames == []


# --- starting again -------------------------------------------------------------------------------


@simulated
async def test_an_attested_block_that_the_store_has_lost_is_fetched_again_and_committed():
    lone, registration, block = with_a_block()
    async with lone.running():
        await propose(lone, registration, block)
        assert [type(message) for message in lone.wire.said()] == [Prepare]

    # The log remembers, the store has lost its end.
    again = LoneNode(lone.number, log=lone.log.kept, chain=lone.chain)
    async with again.running():
        again.agree(block)
        await settle()
        assert again.height == 0
        holder, request = again.wire.take(GET_BODIES)[0]
        assert request.digests == (registration.digest,)
        answer = Bodies(block=block.header.hash, wires=(registration.wire,))
        again.node.receiver.on_message(holder, BODIES, encode_body(BODIES, answer))
        await settle()

    assert again.height == 1


@simulated
async def test_such_a_block_may_as_well_come_from_a_peer_that_has_committed_it():
    lone, registration, block = with_a_block()
    async with lone.running():
        await propose(lone, registration, block)
    again = LoneNode(lone.number, log=lone.log.kept, chain=lone.chain)
    async with again.running():
        again.agree(block)
        await settle()
        await again.driver.commit_fetched([again.fetched(block)])
        assert again.height == 1
        await asyncio.sleep(10)

    assert again.height == 1
    assert again.wire.blames == []


@simulated
async def test_a_log_behind_the_store_is_no_obstacle():
    lone = LoneNode(0, miners=1)
    async with lone.running():
        await lone.node.submit([lone.chain.registration("device")[1].wire])
        await settle()
        assert lone.height == 1
        lone.accept()
    # Killed after the batch, before the log was cut back; and cut back before that.
    for log in (lone.log.kept, lone.log.kept[:1]):
        again = LoneNode(0, miners=1, log=log, kv=copy_of(lone.kv), chain=lone.chain)
        async with again.running():
            assert again.height == 1
            _, registration = lone.chain.registration(f"device-{len(log)}")
            await again.node.submit([registration.wire])
            await settle()
            assert again.height == 2


def copy_of(kv):
    copy = MemoryStore()
    copy.write(WriteBatch(writes=dict(dump(kv))))
    return copy


@pytest.mark.attack("B8")
@simulated
async def test_a_miner_without_its_log_votes_for_nothing_and_follows():
    lone = LoneNode(OWN, log=())
    if lone.proposer() == OWN:
        lone = LoneNode(OWN + 1, log=())
    _, registration = lone.chain.registration("device")
    block = lone.chain.block(registration)
    async with lone.running():
        lone.give(lone.others[0], registration)
        await settle()
        lone.agree(block)
        await settle()

    assert lone.height == 1
    assert lone.wire.said() == []


# --- work -----------------------------------------------------------------------------------------


@simulated
async def test_work_that_the_last_block_has_done_does_not_begin_the_next_round():
    lone, registration, block = with_a_block()
    async with lone.running():
        lone.hear(lone.proposer(), lone.pre_prepare(block))
        await settle()
        holder, _ = lone.wire.take(GET_BODIES)[0]
        answer = Bodies(block=block.header.hash, wires=(registration.wire,))
        lone.node.receiver.on_message(holder, BODIES, encode_body(BODIES, answer))
        await settle()
        # The transaction itself comes late, together with the votes that commit it.
        lone.driver._inbox.tell("work", WorkPending())
        for number in lone.others:
            lone.hear(number, lone.prepare(number, block), lone.commit(number, block))
        release = asyncio.Event()
        run = lone.driver._executor.run

        async def held(function, *args):
            result = await run(function, *args)
            if function.__name__ == "_write":
                lone.driver.on_work()
                lone.driver._inbox.tell("work", WorkPending())
                release.set()
            return result

        lone.node.chain._executor.run = held
        await settle()
        assert release.is_set()
        assert lone.height == 1
        snapshot = lone.node.consensus()
        assert snapshot is not None
        assert snapshot.height == 2
        assert snapshot.deadline_ns is None
        await asyncio.sleep(60)

    assert lone.round == 0
    assert not any(message.name == "round-change" for message in lone.wire.said())


@simulated
async def test_bad_transactions_alone_wake_nobody():
    lone = follower()
    async with lone.running():
        device, registration = lone.chain.registration("device")
        lone.give(lone.others[0], forged(registration), lone.chain.by_device(device))
        await asyncio.sleep(60)

    snapshot = lone.node.consensus()
    assert snapshot is not None
    assert (snapshot.round, snapshot.deadline_ns) == (0, None)
    assert lone.wire.said() == []


@simulated
async def test_a_transaction_too_old_for_the_end_of_a_round_wakes_nobody():
    # Who sends it to others than the proposer would have that one blamed for a round without work.
    lone = follower()
    oldest_ms = lone.clock.wall_ms() - QUIET.transaction_lifetime_ms
    policy = PolicySet(policy=PolicyRecord())

    def sent(left_ms):
        return lone.chain.by_registrar("policy.set", policy, time_ms=oldest_ms + left_ms)

    async with lone.running():
        await lone.node.submit([sent(QUIET.round_timeout_ms - 1).wire])
        await asyncio.sleep(10)
        assert lone.wire.said() == []

        await lone.node.submit([sent(10_000 + QUIET.round_timeout_ms + 100).wire])
        await asyncio.sleep(10)
        assert {message.name for message in lone.wire.said()} == {"round-change"}


@simulated
async def test_an_idle_chain_gets_its_heartbeat():
    lone = LoneNode(0, miners=1, parameters=with_parameters(heartbeat_ms=5_000))
    async with lone.running():
        await asyncio.sleep(21)

    assert lone.height == 4


@simulated
async def test_a_miner_that_starts_asks_to_be_shown_what_it_signed_until_enough_have():
    lone = LoneNode(0, heard=False)
    async with lone.running():
        await asyncio.sleep(2.5)
        asked = lone.wire.take(GET_SHOWN)
        assert {peer for peer, _ in asked} == {node_id(number) for number in lone.others}
        assert len(asked) == 2 * len(lone.others)
        for number in lone.others[:2]:
            lone.show(number)
        await asyncio.sleep(2.5)

        assert lone.wire.take(GET_SHOWN) == []


@pytest.mark.attack("B7")
@simulated
async def test_what_was_shown_and_dropped_was_not_shown(monkeypatch):
    lone = LoneNode(0, heard=False)
    first, second, _ = lone.others
    vote = lone.prepare(second, lone.chain.block(lone.chain.registration("device")[1]))
    size = len(encode_message(vote))
    # Room for two messages of a peer, and for its small word that this was all.
    monkeypatch.setattr("node.inbox.PEER_SIZE_MAX", 2 * size + SHOWN_SIZE)
    async with lone.running():
        lone.show(first)
        await settle()
        lone.show(second, vote, vote, vote)
        await settle()
        assert signing(lone) == "awaiting-peers"

        lone.show(second, vote, vote)
        await settle()
        assert signing(lone) == "yes"


def signing(lone):
    snapshot = lone.node.consensus()
    assert snapshot is not None, "it has begun"
    return snapshot.signing


@pytest.mark.attack("B7")
@simulated
async def test_what_finds_no_room_on_its_way_was_not_shown():
    lone = follower()
    other = lone.others[0]
    send = lone.wire.send
    lone.wire.send = lambda peer, kind, data: kind != CONSENSUS and send(peer, kind, data)
    async with lone.running():
        lone.hear(
            other, lone.prepare(other, lone.chain.block(lone.chain.registration("device")[1]))
        )
        await settle()
        request = encode_body(GET_SHOWN, GetShown(height=Height(1)))
        lone.node.receiver.on_message(node_id(other), GET_SHOWN, request)
        await settle()

    assert lone.wire.take(SHOWN) == []


@simulated
async def test_a_miner_that_asks_is_shown_its_own_messages_and_told_that_this_was_all():
    lone = follower()
    other = lone.others[0]
    async with lone.running():
        vote = lone.prepare(other, lone.chain.block(lone.chain.registration("device")[1]))
        lone.hear(other, vote)
        await settle()
        lone.wire.sent.clear()
        request = encode_body(GET_SHOWN, GetShown(height=Height(1)))
        lone.node.receiver.on_message(node_id(other), GET_SHOWN, request)
        await settle()

    kinds = [(peer, kind) for peer, kind, _ in lone.wire.sent]
    assert kinds == [(node_id(other), CONSENSUS), (node_id(other), SHOWN)]
    assert lone.wire.said() == [vote]

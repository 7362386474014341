"""Catching up: whom a node asks, and what it does with answers and silence."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chain.blocks import encode_block
from chain.certificate import CERTIFICATE
from chain.types import Height
from node.block_sync import (
    ANSWER_TIMEOUT_S,
    ANSWERS_MAX,
    LATE_POINTS,
    LIE_POINTS,
    PATIENCE_BEHIND_S,
    PATIENCE_OBSERVER_S,
    PATIENCE_S,
    SLOW_S,
    BlockSync,
)
from node.p2p.limits import P2PLimits
from node.progress import Progress
from node.protocol import GET_BLOCKS, SYNC_BLOCKS_MAX, Blocks, Status, SyncBlock
from tests.unit.node.fakes import Wire, address, clock_of, simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain

A, B, C = (address(number) for number in range(1, 4))


def committee(*miners, weak_quorum=1, is_member=True):
    """Return members of whom these peers are; all peers are, unless some are named."""
    members: Any = SimpleNamespace(
        miner_of=lambda peer: peer if not miners or peer in miners else None,
        weak_quorum=weak_quorum,
        is_member=is_member,
        others=lambda: list(miners),
    )
    return members


class Follower:
    """A node that is behind: its height is a number, and committing raises it.

    Attributes
    ----------
    committed : list of (Address, int)
        From whom which height was taken.
    """

    def __init__(self, *peers, height=0, executor=None, members=None):
        self.wire = Wire(*peers)
        chain: Any = SimpleNamespace(height=height)
        self.chain = chain
        self.committed = []
        members = members or committee()
        loop: Any = asyncio.get_running_loop()
        self.progress = Progress(
            members=members,
            clock=clock_of(loop),
            is_connected=lambda peer: peer in self.wire.peers,
        )
        self.sync = BlockSync(
            chain=self.chain,
            transport=self.wire,
            executor=executor or Inline(),
            members=members,
            progress=self.progress,
            pooled=lambda digest: None,
            commit=self.commit,
        )

    async def commit(self, blocks):
        for fetched in blocks:
            if fetched.block.header.height == self.chain.height + 1:
                self.chain.height += 1
                self.committed.append((fetched.peer, self.chain.height))
        self.sync.on_progress()

    def hear(self, peer, height, first=0):
        self.progress.on_status(peer, Status(height=Height(height), first=Height(first)))
        self.sync.on_progress()

    def lose(self, peer):
        self.wire.peers.discard(peer)
        self.progress.forget(peer)
        self.sync.on_disconnected(peer)

    def asked(self):
        return [(peer, body.height, body.count) for peer, body in self.wire.take(GET_BLOCKS)]


@asynccontextmanager
async def running(sync):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sync.run())
        yield
        task.cancel()


class Source:
    """The blocks of a chain, as a peer sends them."""

    def __init__(self, stored):
        self.stored = stored

    def blocks(self, first, count):
        blocks = self.stored.chain.blocks[first - 1 : first - 1 + count]
        return Blocks(
            height=Height(first),
            blocks=tuple(
                SyncBlock(
                    block=encode_block(block),
                    certificate=CERTIFICATE.encode(self.stored.certificates[first - 1 + index]),
                )
                for index, block in enumerate(blocks)
            ),
        )


async def heartbeats(count, kv=None):
    stored = StoredChain(kv)
    for _ in range(count):
        await stored.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    return stored


# --- asking ---------------------------------------------------------------------------------------


@simulated
async def test_a_node_that_is_behind_fetches_until_it_is_not():
    source = Source(await heartbeats(70))
    node = Follower(A)
    async with running(node.sync):
        node.hear(A, 70)
        await asyncio.sleep(PATIENCE_BEHIND_S + 0.01)
        assert node.asked() == [(A, 1, SYNC_BLOCKS_MAX)]
        assert node.progress.highest_seen == 70
        node.sync.on_blocks(A, source.blocks(1, SYNC_BLOCKS_MAX))
        # While it catches up it waits for nothing.
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert node.asked() == [(A, 65, SYNC_BLOCKS_MAX)]
        node.sync.on_blocks(A, source.blocks(65, SYNC_BLOCKS_MAX))
        await asyncio.sleep(60)

    assert node.chain.height == 70
    assert not node.sync.is_behind
    assert node.asked() == []
    assert node.wire.blames == []


@simulated
async def test_a_peer_that_is_one_block_ahead_is_left_alone_for_a_while():
    node = Follower(A, height=4)
    async with running(node.sync):
        node.hear(A, 4)
        await asyncio.sleep(1)
        node.hear(A, 5)
        await asyncio.sleep(PATIENCE_S - 0.1)
        assert node.asked() == []
        node.chain.height = 5
        await asyncio.sleep(60)
        assert node.asked() == []
        node.hear(A, 6)
        await asyncio.sleep(PATIENCE_S + 0.1)
        assert node.asked() == [(A, 6, SYNC_BLOCKS_MAX)]


@simulated
async def test_a_node_that_starts_one_block_behind_does_not_wait_for_votes_that_were_sent_before():
    node = Follower(A, height=4)
    async with running(node.sync):
        node.hear(A, 5)
        await asyncio.sleep(PATIENCE_BEHIND_S + 0.1)
        assert node.asked() == [(A, 5, SYNC_BLOCKS_MAX)]


@pytest.mark.attack("D8")
@simulated
async def test_peers_that_are_ahead_are_asked_in_turn_and_liars_do_not_stop_it():
    source = Source(await heartbeats(10))
    node = Follower(A, B)
    async with running(node.sync):
        node.hear(A, 10**9)
        node.hear(B, 10)
        for _ in range(300):
            await asyncio.sleep(0.1)
            for peer, first, count in node.asked():
                if peer == B:
                    node.sync.on_blocks(B, source.blocks(first, count))
                else:
                    node.sync.on_blocks(A, Blocks(height=first, blocks=()))
            node.hear(A, 10**9)

    assert node.chain.height == 10
    assert {peer for peer, _ in node.committed} == {B}
    assert {peer for peer, _, _ in node.wire.blames} == {A}
    # Points are forgiven one a second: it is banned long before.
    assert sum(points for _, points, _ in node.wire.blames) > 130


@pytest.mark.attack("D8")
@simulated
async def test_a_silent_peer_is_asked_for_less_the_next_time_and_forgotten_until_it_speaks():
    node = Follower(A)
    async with running(node.sync):
        counts = []
        for _ in range(5):
            node.hear(A, 100)
            await asyncio.sleep(PATIENCE_S + ANSWER_TIMEOUT_S)
            counts += [count for _, _, count in node.asked()]
        await asyncio.sleep(100)

    assert counts == [64, 32, 16, 8, 4]
    assert [blame[:2] for blame in node.wire.blames] == [(A, LATE_POINTS)] * 5
    assert node.asked() == []
    assert node.progress.highest_seen == 0


@simulated
async def test_over_a_slow_link_short_answers_come_in_time():
    source = Source(await heartbeats(140))
    node = Follower(A)
    loop, counts = asyncio.get_running_loop(), []

    async def answer(first, count):
        blocks = source.blocks(first, count)
        await asyncio.sleep(1.0 * len(blocks.blocks))
        node.sync.on_blocks(A, blocks)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(node.sync.run())
        node.hear(A, 140)
        while node.chain.height < 140 and loop.time() < 1_000:
            await asyncio.sleep(0.1)
            for _, first, count in node.asked():
                counts.append(count)
                group.create_task(answer(first, count))
        task.cancel()

    # Every answer is used, the late ones too, and they become shorter until they are in time.
    assert loop.time() < 300
    assert counts[:5] == [64, 32, 16, 8, 4]
    assert max(counts[5:]) <= 6
    # One point is forgiven each second.
    assert sum(points for _, points, _ in node.wire.blames) < 100 + loop.time()


@simulated
async def test_a_peer_that_goes_away_is_not_blamed_and_the_next_is_asked():
    source = Source(await heartbeats(3))
    node = Follower(A, B)
    async with running(node.sync):
        node.hear(A, 3)
        await asyncio.sleep(PATIENCE_S)
        assert [peer for peer, _, _ in node.asked()] == [A]
        node.lose(A)
        node.hear(B, 3)
        await asyncio.sleep(PATIENCE_S)
        [(peer, first, count)] = node.asked()
        assert peer == B
        node.sync.on_blocks(B, source.blocks(first, count))
        await asyncio.sleep(1)

    assert node.chain.height == 3
    assert node.wire.blames == []


@simulated
async def test_blocks_that_cannot_be_read_cost_their_sender():
    node = Follower(A)
    async with running(node.sync):
        node.hear(A, 3)
        await asyncio.sleep(PATIENCE_S)
        junk = SyncBlock(block=b"\x90", certificate=b"\x90")
        node.sync.on_blocks(A, Blocks(height=Height(1), blocks=(junk,)))
        await asyncio.sleep(1)

    assert [blame[:2] for blame in node.wire.blames] == [(A, LIE_POINTS)]
    assert node.chain.height == 0


@simulated
async def test_answers_of_others_and_for_other_heights_are_not_taken():
    source = Source(await heartbeats(5))
    node = Follower(A, B)
    async with running(node.sync):
        node.hear(A, 5)
        await asyncio.sleep(PATIENCE_S)
        node.sync.on_blocks(B, source.blocks(1, 5))
        node.sync.on_blocks(A, source.blocks(2, 4))
        await asyncio.sleep(1)
        assert node.committed == []
        node.sync.on_blocks(A, source.blocks(1, 5))
        await asyncio.sleep(1)

    assert node.chain.height == 5


@simulated
async def test_a_block_that_nobody_asked_for_says_that_its_sender_is_ahead():
    source = Source(await heartbeats(5))
    node = Follower(A)
    async with running(node.sync):
        node.sync.on_blocks(A, source.blocks(4, 1))
        assert node.progress.highest_seen == 4
        await asyncio.sleep(PATIENCE_S)
        assert [peer for peer, _, _ in node.asked()] == [A]


async def serve(node, source, *, within_s, mute=(), delay_s=0.01, forge=()):
    """Let peers answer what they are asked; return how long the node took."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    asked = []

    async def answer(peer, first, count):
        await asyncio.sleep(delay_s)
        blocks = source.blocks(first, count)
        if peer in forge:
            blocks = replace(blocks, blocks=tuple(reversed(blocks.blocks)))
        node.sync.on_blocks(peer, blocks)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(node.sync.run())
        while node.chain.height < len(source.stored.chain.blocks):
            assert loop.time() - begun_s < within_s, node.chain.height
            await asyncio.sleep(0.005)
            for peer, first, count in node.asked():
                asked.append((peer, first))
                if peer not in mute:
                    group.create_task(answer(peer, first, count))
        task.cancel()
    return asked


@pytest.mark.attack("A15")
@simulated
async def test_ranges_are_fetched_from_several_peers_at_once_and_committed_in_order():
    source = Source(await heartbeats(200))
    node = Follower(A, B, C)
    for peer in (A, B, C):
        node.hear(peer, 200)
    asked = await serve(node, source, within_s=2)

    assert {peer for peer, _ in asked[:3]} == {A, B, C}
    assert {first for _, first in asked[:3]} == {1, 65, 129}
    assert [height for _, height in node.committed] == list(range(1, 201))
    assert node.wire.blames == []


@pytest.mark.attack("D8")
@simulated
async def test_a_peer_that_claims_and_never_answers_costs_a_second_and_no_more():
    source = Source(await heartbeats(200))
    node = Follower(A, B)
    for peer in (A, B):
        node.hear(peer, 200)
    await serve(node, source, within_s=PATIENCE_BEHIND_S + SLOW_S + 0.5, mute={A})

    assert {peer for peer, _ in node.committed} == {B}


@simulated
async def test_whoever_was_late_is_asked_again_only_where_nobody_else_is_left():
    source = Source(await heartbeats(64))
    node = Follower(A, B)
    async with running(node.sync):
        node.hear(A, 64)
        await asyncio.sleep(PATIENCE_BEHIND_S + ANSWER_TIMEOUT_S + 0.1)
        node.hear(A, 64)
        node.hear(B, 64)
        node.asked()
        await asyncio.sleep(PATIENCE_BEHIND_S + 0.1)
        assert [peer for peer, _, _ in node.asked()] == [B]
        node.lose(B)
        await asyncio.sleep(PATIENCE_BEHIND_S + 0.1)
        [(peer, first, count)] = node.asked()
        assert peer == A
        node.sync.on_blocks(A, source.blocks(first, count))
        await asyncio.sleep(0.1)

    assert node.chain.height == 32


@pytest.mark.attack("D8")
@simulated
async def test_a_liar_is_banned_and_its_ranges_are_asked_of_others_at_once():
    source = Source(await heartbeats(200))
    node = Follower(A, B, C)
    for peer in (A, B, C):
        node.hear(peer, 200)
    await serve(node, source, within_s=PATIENCE_BEHIND_S + 0.5, forge={B})

    assert {peer for peer, _ in node.committed} == {A, C}
    assert [blame[:2] for blame in node.wire.blames] == [(B, LIE_POINTS)]
    assert P2PLimits().score_limit <= LIE_POINTS


@simulated
async def test_a_peer_is_asked_for_no_blocks_that_it_has_pruned():
    node = Follower(A, B)
    async with running(node.sync):
        node.hear(A, 200, first=100)
        await asyncio.sleep(30)
        assert node.asked() == []
        node.hear(B, 200)
        await asyncio.sleep(PATIENCE_S)
        assert [peer for peer, _, _ in node.asked()] == [B]


@simulated
async def test_what_waits_to_be_committed_is_bounded():
    source = Source(await heartbeats(600))
    peers = [address(number) for number in range(1, 40)]
    node = Follower(*peers)
    for peer in peers:
        node.hear(peer, 10_000)
    async with running(node.sync):
        await asyncio.sleep(PATIENCE_BEHIND_S + 0.1)
        asked = node.asked()
        assert len(asked) == ANSWERS_MAX
        for peer, first, count in asked:
            if first > 1:
                node.sync.on_blocks(peer, source.blocks(first, count))
        await asyncio.sleep(0.1)
        # None of it can be committed yet, and no more is asked for.
        assert node.chain.height == 0
        assert node.asked() == []


@pytest.mark.attack("D8")
@simulated
async def test_a_peer_that_says_less_than_before_is_believed():
    node = Follower(A, B, height=5)
    node.hear(A, 100)
    node.hear(A, 7)

    assert node.progress.highest_seen == 7
    assert node.progress.holders(8) == []


@simulated
async def test_a_miner_without_a_session_is_not_asked():
    node = Follower(A)
    async with running(node.sync):
        node.sync.catch_up_with(C, Height(9))
        await asyncio.sleep(60)

    assert node.asked() == []
    assert node.progress.highest_seen == 0
    assert node.wire.blames == []


@pytest.mark.attack("D8")
@simulated
async def test_one_liar_does_not_make_a_node_believe_that_it_is_behind():
    node = Follower(A, B, C, height=5, members=committee(A, B, C, weak_quorum=2))
    node.hear(A, 10**9)
    assert node.progress.highest_seen == 10**9, "nobody else has spoken"
    node.hear(B, 5)
    node.hear(C, 6)

    assert node.progress.highest_seen == 6
    assert not node.sync.is_behind


@simulated
async def test_the_word_of_miners_goes_before_that_of_observers():
    node = Follower(A, B, C, height=5, members=committee(B))
    node.hear(A, 10**9)
    assert node.progress.highest_seen == 10**9
    node.hear(B, 7)

    assert node.progress.highest_seen == 7
    node.lose(B)
    assert node.progress.highest_seen == 10**9


@simulated
async def test_an_observer_waits_for_no_votes():
    source = Source(await heartbeats(1))
    node = Follower(A, members=committee(A, is_member=False))
    async with running(node.sync):
        node.hear(A, 1)
        await asyncio.sleep(1.5 * PATIENCE_OBSERVER_S)
        [(_, first, count)] = node.asked()
        node.sync.on_blocks(A, source.blocks(first, count))
        await asyncio.sleep(0.01)

    assert node.chain.height == 1

"""Catching up: whom a node asks, what it does with answers and silence, and how it answers."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from chain.blocks import encode_block
from chain.certificate import CERTIFICATE
from chain.types import Height
from node.block_sync import (
    ANSWER_TIMEOUT_S,
    LATE_POINTS,
    LIE_POINTS,
    PATIENCE_BEHIND_S,
    PATIENCE_OBSERVER_S,
    PATIENCE_S,
    BlockSync,
)
from node.metrics import Metrics
from node.protocol import (
    BLOCKS,
    GET_BLOCKS,
    STATUS,
    SYNC_BLOCKS_MAX,
    Blocks,
    GetBlocks,
    Status,
    SyncBlock,
)
from node.storage import schema
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain, Worn

A, B, C = (address(number) for number in range(1, 4))


def committee(*miners, weak_quorum=1, is_member=True):
    """Return members of whom these peers are; all peers are, unless some are named."""
    members: Any = SimpleNamespace(
        miner_of=lambda peer: peer if not miners or peer in miners else None,
        weak_quorum=weak_quorum,
        is_member=is_member,
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
        self.sync = BlockSync(
            chain=self.chain,
            transport=self.wire,
            executor=executor or Inline(),
            members=members or committee(),
            metrics=Metrics(),
            pooled=lambda digest: None,
            commit=self.commit,
        )

    async def commit(self, blocks):
        for fetched in blocks:
            if fetched.block.header.height == self.chain.height + 1:
                self.chain.height += 1
                self.committed.append((fetched.peer, self.chain.height))
        self.sync.on_committed()

    def hear(self, peer, height):
        self.sync.on_status(peer, Status(height=Height(height)))

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
        assert node.sync.highest_seen == 70
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
        node.hear(A, 5)
        await asyncio.sleep(PATIENCE_S - 0.1)
        assert node.asked() == []
        node.chain.height = 5
        await asyncio.sleep(60)
        assert node.asked() == []
        node.hear(A, 6)
        await asyncio.sleep(PATIENCE_S + 0.1)
        assert node.asked() == [(A, 6, SYNC_BLOCKS_MAX)]


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
    assert node.sync.highest_seen == 0


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
        node.wire.peers.discard(A)
        node.sync.on_disconnected(A)
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
        assert node.sync.highest_seen == 4
        await asyncio.sleep(PATIENCE_S)
        assert [peer for peer, _, _ in node.asked()] == [A]


@simulated
async def test_a_miner_without_a_session_is_not_asked():
    node = Follower(A)
    async with running(node.sync):
        node.sync.catch_up_with(C, Height(9))
        await asyncio.sleep(60)

    assert node.asked() == []
    assert node.sync.highest_seen == 0
    assert node.wire.blames == []


@simulated
async def test_peers_are_told_of_the_height_when_they_connect_and_after_each_block():
    node = Follower(A, B, height=3)
    node.sync.on_connected(A)
    node.chain.height = 4
    node.sync.on_committed()

    assert [(peer, body.height) for peer, body in node.wire.take(STATUS)] == [
        (A, 3),
        (A, 4),
        (B, 4),
    ]


@pytest.mark.attack("D8")
@simulated
async def test_one_liar_does_not_make_a_node_believe_that_it_is_behind():
    node = Follower(A, B, C, height=5, members=committee(A, B, C, weak_quorum=2))
    node.hear(A, 10**9)
    assert node.sync.highest_seen == 10**9, "nobody else has spoken"
    node.hear(B, 5)
    node.hear(C, 6)

    assert node.sync.highest_seen == 6
    assert not node.sync.is_behind


@simulated
async def test_the_word_of_miners_goes_before_that_of_observers():
    node = Follower(A, B, C, height=5, members=committee(B))
    node.hear(A, 10**9)
    assert node.sync.highest_seen == 10**9
    node.hear(B, 7)

    assert node.sync.highest_seen == 7
    node.sync.on_disconnected(B)
    assert node.sync.highest_seen == 10**9


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


# --- answering ------------------------------------------------------------------------------------


def answering(stored, *peers, executor=None, metrics=None):
    wire = Wire(*peers)

    async def commit(blocks):
        raise AssertionError("it is not behind")

    sync = BlockSync(
        chain=stored.store,
        transport=wire,
        executor=executor or Inline(),
        members=committee(),
        metrics=metrics or Metrics(),
        pooled=lambda digest: None,
        commit=commit,
    )
    return sync, wire


@simulated
@pytest.mark.parametrize(
    ("first", "count", "heights"),
    [
        (1, 3, [1, 2, 3]),
        (4, 64, [4, 5, 6]),
        (6, 1, [6]),
        (7, 5, []),
        (2**48, 64, []),
        (0, 3, [1, 2]),
    ],
)
async def test_blocks_are_answered_as_far_as_they_are_here(first, count, heights):
    stored = await heartbeats(6)
    sync, wire = answering(stored, A)
    async with running(sync):
        sync.on_get_blocks(A, GetBlocks(height=Height(first), count=count))
        await asyncio.sleep(0.01)

    expected = tuple(
        SyncBlock(
            block=encode_block(stored.chain.blocks[height - 1]),
            certificate=CERTIFICATE.encode(stored.certificates[height - 1]),
        )
        for height in heights
    )
    assert wire.take(BLOCKS) == [(A, Blocks(height=Height(first), blocks=expected))]


@simulated
async def test_an_answer_ends_where_it_has_become_large(monkeypatch):
    stored = await heartbeats(6)
    size = len(encode_block(stored.chain.blocks[0]))
    monkeypatch.setattr("node.block_sync.SYNC_SIZE_MAX", 2 * size)
    sync, wire = answering(stored, A)
    async with running(sync):
        sync.on_get_blocks(A, GetBlocks(height=Height(1), count=64))
        await asyncio.sleep(0.01)

    [(_, answer)] = wire.take(BLOCKS)
    assert len(answer.blocks) == 2


@simulated
async def test_a_damaged_block_is_answered_as_if_it_were_not_held_and_is_counted():
    worn = Worn()
    stored = await heartbeats(6, worn)
    worn.bad = {schema.BODY + schema.height_bytes(4)}
    metrics = Metrics()
    sync, wire = answering(stored, A, B, metrics=metrics)
    async with running(sync):
        sync.on_get_blocks(A, GetBlocks(height=Height(3), count=3))
        sync.on_get_blocks(B, GetBlocks(height=Height(4), count=3))
        await asyncio.sleep(0.01)
        sync.on_get_blocks(A, GetBlocks(height=Height(5), count=3))
        await asyncio.sleep(0.01)

    answers = wire.take(BLOCKS)
    assert [(peer, answer.height, len(answer.blocks)) for peer, answer in answers] == [
        (A, 3, 1),
        (B, 4, 0),
        (A, 5, 2),
    ]
    assert b"securenet_storage_damaged_total 2.0" in metrics.render()


class Slow:
    """An executor that takes a tenth of a second for everything, and counts."""

    def __init__(self):
        self.calls = 0

    async def run(self, function, *args):
        self.calls += 1
        await asyncio.sleep(0.1)
        return function(*args)


@simulated
async def test_a_peer_has_one_question_open_and_a_flood_of_them_holds_up_nobody():
    stored = await heartbeats(3)
    slow = Slow()
    sync, wire = answering(stored, A, B, executor=slow)
    loop = asyncio.get_running_loop()
    asked_s, answered = 0.0, list[float]()
    async with running(sync):
        for turn in range(1_000):
            sync.on_get_blocks(A, GetBlocks(height=Height(1), count=64))
            if turn == 500:
                sync.on_get_blocks(B, GetBlocks(height=Height(2), count=1))
                asked_s = loop.time()
            await asyncio.sleep(0.001)
            answered += [loop.time() for to, _, _ in wire.sent if to == B]
        await asyncio.sleep(1)

    assert slow.calls <= 13
    assert answered[0] - asked_s < 0.35


@simulated
async def test_a_hint_does_not_take_the_place_of_a_question():
    stored = await heartbeats(3)
    sync, wire = answering(stored, A)
    async with running(sync):
        sync.on_get_blocks(A, GetBlocks(height=Height(1), count=64))
        sync.send_block(A, Height(2))
        await asyncio.sleep(0.01)
        sync.send_block(A, Height(2))
        await asyncio.sleep(0.01)

    answers = [body for _, body in wire.take(BLOCKS)]
    assert [(answer.height, len(answer.blocks)) for answer in answers] == [(1, 3), (2, 1)]

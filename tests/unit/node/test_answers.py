"""Answering peers that are behind, or join."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from chain.blocks import encode_block
from chain.certificate import CERTIFICATE
from chain.state_range import FIRST_PATH
from chain.types import Height
from node.announcer import Announcer
from node.answers import Answers
from node.errors import CorruptStore
from node.metrics import Metrics
from node.ports import WriteBatch
from node.protocol import (
    BLOCKS,
    DECIDED,
    PIECE,
    STATUS,
    Blocks,
    DecidedAnswer,
    GetBlocks,
    GetDecided,
    GetPiece,
    PieceAnswer,
    SyncBlock,
)
from node.storage import schema
from node.storage.kv import MemoryStore
from node.storage.snapshots import SnapshotStore
from tests.unit.node.blobs.stored import blob_store
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.storage.stored_chain import PATH, Inline, StoredChain, Worn

A, B = address(1), address(2)


async def heartbeats(count, kv=None):
    stored = StoredChain(kv)
    for _ in range(count):
        await stored.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    return stored


@asynccontextmanager
async def running(answers):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(answers.run())
        yield
        task.cancel()


@simulated
async def test_peers_are_told_how_far_the_node_is_and_what_it_has():
    stored = await heartbeats(3)
    wire = Wire(A, B)
    announcer = Announcer(chain=stored.store, transport=wire, snapshots=lambda: (1, 2, 3, 4, 5))
    announcer.tell(A)
    announcer.tell_all()

    told = wire.take(STATUS)
    assert [(peer, body.height, body.first) for peer, body in told] == [
        (A, 3, 0),
        (A, 3, 0),
        (B, 3, 0),
    ]
    assert told[0][1].snapshots == (2, 3, 4, 5)


def answering(stored, *peers, executor=None, metrics=None, blobs=None):
    wire = Wire(*peers)
    answers = Answers(
        chain=stored.store,
        snapshots=SnapshotStore(stored.kv, keep=2),
        blobs=blobs or blob_store(),
        transport=wire,
        executor=executor or Inline(),
        metrics=metrics or Metrics(),
    )
    return answers, wire


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
    answers, wire = answering(stored, A)
    async with running(answers):
        answers.ask(A, GetBlocks(height=Height(first), count=count))
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
    monkeypatch.setattr("node.answers.SYNC_SIZE_MAX", 2 * size)
    answers, wire = answering(stored, A)
    async with running(answers):
        answers.ask(A, GetBlocks(height=Height(1), count=64))
        await asyncio.sleep(0.01)

    [(_, answer)] = wire.take(BLOCKS)
    assert len(answer.blocks) == 2


@simulated
async def test_a_damaged_block_is_answered_as_if_it_were_not_held_and_is_counted():
    worn = Worn()
    stored = await heartbeats(6, worn)
    worn.bad = {schema.BODY + schema.height_bytes(4)}
    metrics = Metrics()
    answers, wire = answering(stored, A, B, metrics=metrics)
    async with running(answers):
        answers.ask(A, GetBlocks(height=Height(3), count=3))
        answers.ask(B, GetBlocks(height=Height(4), count=3))
        await asyncio.sleep(0.01)
        answers.ask(A, GetBlocks(height=Height(5), count=3))
        await asyncio.sleep(0.01)

    sent = wire.take(BLOCKS)
    assert [(peer, answer.height, len(answer.blocks)) for peer, answer in sent] == [
        (A, 3, 1),
        (B, 4, 0),
        (A, 5, 2),
    ]
    assert b"securenet_storage_damaged_total 2.0" in metrics.render()


class WornInScans(MemoryStore):
    """A store that cannot iterate over one class of entries."""

    bad = b""

    def scan(self, *, start, stop, reverse=False):
        for key, value in super().scan(start=start, stop=stop, reverse=reverse):
            if self.bad and key.startswith(self.bad):
                raise CorruptStore(PATH, "a checksum is wrong")
            yield key, value


@simulated
@pytest.mark.parametrize("what", [schema.SNAPSHOT, schema.WAYPOINT])
async def test_a_damaged_snapshot_or_waypoint_is_answered_as_if_it_were_not_held(what):
    """A joining node asks for the same again and again: each time this one would end."""
    worn = WornInScans()
    stored = await heartbeats(3, worn)
    snapshots = SnapshotStore(worn, keep=1)
    snapshots.make(stored.store.view())
    waypoint = WriteBatch()
    waypoint.put(schema.WAYPOINT + schema.height_bytes(2), b"a header")
    worn.write(waypoint)
    worn.bad = what
    metrics = Metrics()
    answers, wire = answering(stored, A, metrics=metrics)
    async with running(answers):
        if what == schema.SNAPSHOT:
            answers.ask(A, GetPiece(height=Height(3), path=FIRST_PATH))
        else:
            answers.ask(A, GetDecided(height=Height(1)))
        await asyncio.sleep(0.01)

    if what == schema.SNAPSHOT:
        assert wire.take(PIECE) == [(A, PieceAnswer(height=Height(3), path=FIRST_PATH, piece=b""))]
    else:
        assert wire.take(DECIDED) == [(A, DecidedAnswer(height=Height(1), found=None))]
    assert b"securenet_storage_damaged_total 1.0" in metrics.render()


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
    answers, wire = answering(stored, A, B, executor=slow)
    loop = asyncio.get_running_loop()
    asked_s, answered = 0.0, list[float]()
    async with running(answers):
        for turn in range(1_000):
            answers.ask(A, GetBlocks(height=Height(1), count=64))
            if turn == 500:
                answers.ask(B, GetBlocks(height=Height(2), count=1))
                asked_s = loop.time()
            await asyncio.sleep(0.001)
            answered += [loop.time() for to, _, _ in wire.sent if to == B]
        await asyncio.sleep(1)

    assert slow.calls <= 13
    assert answered[0] - asked_s < 0.35


@pytest.mark.attack("D2")
@simulated
async def test_a_peer_that_was_answered_much_waits_and_nobody_with_it(monkeypatch):
    """What it asks for costs it next to nothing, and this node a part of its event loop."""
    stored = await heartbeats(3)
    size = len(encode_block(stored.chain.blocks[0]))
    monkeypatch.setattr("node.answers.ANSWERED_PER_SECOND", 10 * size)
    monkeypatch.setattr("node.answers.ANSWERED_BURST_SIZE", 20 * size)
    answers, wire = answering(stored, A, B)
    async with running(answers):
        for _ in range(1_000):
            answers.ask(A, GetBlocks(height=Height(1), count=3))
            await asyncio.sleep(0.01)
        of_a = len(wire.take(BLOCKS))
        answers.ask(B, GetBlocks(height=Height(1), count=3))
        await asyncio.sleep(0.01)
        of_b = [peer for peer, _ in wire.take(BLOCKS)]
        await asyncio.sleep(10)
        late = [peer for peer, _ in wire.take(BLOCKS)]

    # Ten seconds' worth, and what is answered at once, of answers with three blocks each.
    assert 20 <= of_a <= (20 + 10 * 10) / 3 + 1
    assert of_b == [B]
    assert late == [A]


@simulated
async def test_a_hint_does_not_take_the_place_of_a_question():
    stored = await heartbeats(3)
    answers, wire = answering(stored, A)
    async with running(answers):
        answers.ask(A, GetBlocks(height=Height(1), count=64))
        answers.send_block(A, Height(2))
        await asyncio.sleep(0.01)
        answers.send_block(A, Height(2))
        await asyncio.sleep(0.01)

    sent = [body for _, body in wire.take(BLOCKS)]
    assert [(answer.height, len(answer.blocks)) for answer in sent] == [(1, 3), (2, 1)]

"""Fetching a snapshot: what is believed, and what a peer can make a node hold before it is."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chain.miners import MinerSet
from chain.state_range import STATE_PIECE, StatePiece, cut_state, prove_range
from node import state_sync
from node.past import PastBlock, pack_decided
from node.protocol import (
    GET_DECIDED,
    GET_PAST,
    GET_PIECE,
    DecidedAnswer,
    PastAnswer,
    PieceAnswer,
)
from node.state_sync import LIE_POINTS, StateSync, SyncSettings, Trusted
from node.storage import schema
from node.storage.kv import MemoryStore
from node.storage.staging import Staging
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain, dump

A = address(1)
JUNK = PastBlock(block=bytes(6_000), certificate=b"c", receipts=b"r", miners=b"")


async def long_chain(count):
    stored = StoredChain()
    for _ in range(count):
        await stored.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    return stored


def joining(stored, *, has_state=True, trusted=None):
    """Return a node that lacks the look-back of `stored`, or all, its transport and its staging."""
    kv = MemoryStore()
    joiner = StoredChain(kv, genesis=stored.chain.genesis)
    staging = Staging(kv, stored.chain.genesis)
    if has_state:
        staging.begin(stored.store.decided_from(stored.store.height))
        view = stored.store.view()
        for piece in cut_state(view.tree, view.entries):
            staging.add_piece(piece)
    wire = Wire(A)
    return sync_of(joiner, stored, staging, wire, trusted), wire, staging


def sync_of(joiner, stored, staging, wire, trusted=None):
    """Return what brings `joiner` to where `stored` is, of which `A` has a snapshot."""
    progress: Any = SimpleNamespace(
        is_settled=True,
        highest_seen=stored.store.height,
        snapshots=lambda: {stored.store.height: [A]},
        holders=lambda height: [A],
    )
    clock: Any = SimpleNamespace(wall_ms=lambda: 0)
    first = joiner.store.header(0)
    assert first is not None
    return StateSync(
        chain=joiner.store,
        staging=staging,
        transport=wire,
        executor=Inline(),
        clock=clock,
        progress=progress,
        first_header=first,
        settings=SyncSettings(mode="snapshot", trusted=trusted),
        on_released=lambda: None,
    )


async def ask_for_header(sync, wire, answer):
    """Run until the header is answered for, `answer` of each height, and taken or not."""
    task = asyncio.ensure_future(sync.run())
    for _ in range(20):
        await asyncio.sleep(0.01)
        for peer, asked in wire.take(GET_DECIDED):
            found = pack_decided(answer(asked.height))
            sync.questions.on_answer(peer, DecidedAnswer(height=asked.height, found=found))
    task.cancel()


@simulated
async def test_a_node_whose_clock_is_far_behind_blames_nobody_for_it():
    stored = await long_chain(3)
    sync, wire, staging = joining(stored, has_state=False)
    await ask_for_header(sync, wire, stored.store.decided_from)

    assert wire.blames == []
    assert staging.target == stored.store.decided_from(3)


@pytest.mark.attack("D9")
@simulated
@pytest.mark.parametrize("lie", ["miners", "certificate"])
async def test_of_the_very_block_that_is_trusted_nothing_else_is_believed(lie):
    stored = await long_chain(3)
    true, other = stored.store.decided_from(3), stored.store.decided_from(2)
    trusted = Trusted(height=3, hash=true.header.hash)
    sync, wire, staging = joining(stored, has_state=False, trusted=trusted)
    members = MinerSet(tuple(true.miners)[1:])
    false = {
        "miners": replace(true, miners=members),
        "certificate": replace(true, certificate=other.certificate),
    }
    await ask_for_header(sync, wire, lambda height: false[lie])

    assert [blame[:2] for blame in wire.blames] == [(A, LIE_POINTS)]
    assert staging.target is None


@simulated
@pytest.mark.parametrize(("ahead", "is_kept"), [(0, False), (2, False), (-1, True)])
async def test_what_was_staged_goes_once_blocks_have_brought_the_node_as_far(ahead, is_kept):
    stored = await long_chain(5)
    staging = Staging(stored.kv, stored.chain.genesis)
    other = StoredChain(genesis=stored.chain.genesis)
    other.chain, other.certificates = stored.chain, stored.certificates
    await other.catch_up()
    if ahead < 0:
        await other.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    target = other.store.decided_from(5 - ahead)
    assert target is not None
    staging.begin(target)
    sync = sync_of(stored, stored, staging, Wire())
    task = asyncio.ensure_future(sync.run())
    await asyncio.sleep(60)
    task.cancel()

    left = [key for key in dump(stored.kv) if key[:1] == schema.INCOMING]
    assert bool(left) == (staging.target is not None) == is_kept


@pytest.mark.attack("D9")
@simulated
async def test_a_peer_cannot_send_true_pieces_of_a_state_without_end():
    """It may be the only one that names a snapshot: then nobody else would ever be asked."""
    stored = await long_chain(3)
    tree = stored.store.view().tree
    sync, wire, staging = joining(stored, has_state=False)
    staging.begin(stored.store.decided_from(3))
    task = asyncio.ensure_future(sync.run())
    for _ in range(20):
        await asyncio.sleep(0.01)
        for peer, asked in wire.take(GET_PIECE):
            path = asked.path
            empty = StatePiece(
                first=path, last=path, entries=(), steps=prove_range(tree, path, path)
            )
            empty.verify(stored.store.tip.header.state_root)
            piece = STATE_PIECE.encode(empty)
            sync.questions.on_answer(peer, PieceAnswer(height=asked.height, path=path, piece=piece))
    task.cancel()

    assert {blame[:2] for blame in wire.blames} == {(A, LIE_POINTS)}


@pytest.mark.attack("D9")
@simulated
async def test_a_peer_that_sends_large_nonsense_is_banned_before_much_of_it_is_held(monkeypatch):
    monkeypatch.setattr(state_sync, "RANGE_SIZE_MAX", 2 * JUNK.size)
    sync, wire, _ = joining(await long_chain(20))
    task = asyncio.ensure_future(sync.run())
    answered = 0
    while not wire.blames:
        await asyncio.sleep(0.01)
        for peer, asked in wire.take(GET_PAST):
            answered += 1
            sync.questions.on_answer(peer, PastAnswer(height=asked.height, blocks=(JUNK,)))
    task.cancel()

    assert [blame[:2] for blame in wire.blames] == [(A, LIE_POINTS)]
    assert answered == 2


@simulated
@pytest.mark.parametrize("size_max", [1, 2_000, 10**9])
async def test_a_lookback_of_blocks_of_any_size_is_fetched(monkeypatch, size_max):
    monkeypatch.setattr(state_sync, "RANGE_SIZE_MAX", size_max)
    stored = await long_chain(20)
    sync, wire, _ = joining(stored)
    task = asyncio.ensure_future(sync.run())
    while not task.done():
        await asyncio.sleep(0.01)
        for peer, asked in wire.take(GET_PAST):
            lowest = max(0, asked.height - min(asked.count, 3))
            found = [stored.store.past_block(h) for h in range(asked.height, lowest, -1)]
            answer = PastAnswer(height=asked.height, blocks=tuple(found))
            sync.questions.on_answer(peer, answer)

    assert task.exception() is None
    assert wire.blames == []

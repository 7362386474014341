"""Fetching a snapshot: what a peer can make a node hold before anything has proven itself."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from chain.state_range import cut_state
from node import state_sync
from node.past import PastBlock
from node.protocol import GET_PAST, PastAnswer
from node.state_sync import LIE_POINTS, StateSync, SyncSettings
from node.storage.kv import MemoryStore
from node.storage.staging import Staging
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain

A = address(1)
JUNK = PastBlock(block=bytes(6_000), certificate=b"c", receipts=b"r", miners=b"")


async def long_chain(count):
    stored = StoredChain()
    for _ in range(count):
        await stored.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    return stored


def joining(stored):
    """Return a node that has the state of `stored` and lacks the look-back, and its transport."""
    kv = MemoryStore()
    joiner = StoredChain(kv, genesis=stored.chain.genesis)
    staging = Staging(kv, stored.chain.genesis)
    staging.begin(stored.store.decided_from(stored.store.height))
    view = stored.store.view()
    for piece in cut_state(view.tree, view.entries):
        staging.add_piece(piece)
    wire = Wire(A)
    progress: Any = SimpleNamespace(
        is_settled=True,
        highest_seen=stored.store.height,
        snapshots=lambda: {stored.store.height: [A]},
        holders=lambda height: [A],
    )
    clock: Any = SimpleNamespace()
    first = joiner.store.header(0)
    assert first is not None
    sync = StateSync(
        chain=joiner.store,
        staging=staging,
        transport=wire,
        executor=Inline(),
        clock=clock,
        progress=progress,
        first_header=first,
        settings=SyncSettings(mode="snapshot"),
        on_released=lambda: None,
    )
    return sync, wire


@pytest.mark.attack("D9")
@simulated
async def test_a_peer_that_sends_large_nonsense_is_banned_before_much_of_it_is_held(monkeypatch):
    monkeypatch.setattr(state_sync, "RANGE_SIZE_MAX", 2 * JUNK.size)
    sync, wire = joining(await long_chain(20))
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
    sync, wire = joining(stored)
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

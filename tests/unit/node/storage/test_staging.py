"""A chain put together from a snapshot: verified, resumed, and adopted whole or not at all."""

from dataclasses import replace

import pytest

from chain import state_range
from chain.crypto import address_of
from chain.errors import DecodeError, InvalidCertificate, InvalidProof
from chain.kinds.miners import MinerPropose, RemoveMiner
from chain.state_range import cut_state
from node.ports import WriteBatch
from node.storage import schema
from node.storage.adoption import SEGMENTS
from node.storage.kv import MemoryStore
from node.storage.rollback import roll_back
from node.storage.staging import Staging
from node.storage.verify import verify_store
from tests.builders import key_of
from tests.unit.node.storage.stored_chain import StoredChain, dump


class PowerLost(Exception):
    """Raised in the place of a write."""


class Failing(MemoryStore):
    """A store whose power fails at a write."""

    def __init__(self, entries=None):
        super().__init__()
        self.writes_left = -1
        super().write(WriteBatch(writes=dict(entries or {})))

    def write(self, batch, *, sync=True):
        if self.writes_left == 0:
            raise PowerLost
        self.writes_left -= 1
        super().write(batch, sync=sync)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let pieces and batches be small, and rules look back at few blocks."""
    monkeypatch.setattr("chain.lookback.VERDICT_WINDOW", 2)
    monkeypatch.setattr("chain.lookback.RATE_SECONDS_MAX", 1)
    monkeypatch.setattr("node.storage.kv.STEP_BYTES", 1_000)
    monkeypatch.setattr(state_range, "PIECE_SIZE", 300)


async def source() -> StoredChain:
    """Return a chain of which rules look at the end alone."""
    stored = StoredChain()
    await stored.fill(2)
    for _ in range(4):
        await stored.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    await stored.fill_more()
    return stored


def pieces_of(stored):
    view = stored.store.view()
    return list(cut_state(view.tree, view.entries))


def past_of(stored):
    return [stored.store.past_block(height) for height in range(stored.store.height, 0, -1)]


def target_of(stored):
    return stored.store.decided_from(stored.store.height)


async def joiner(stored, kv) -> StoredChain:
    """Return an empty node of the same chain."""
    return StoredChain(kv, genesis=stored.chain.genesis)


async def put_together(stored, kv):
    staging = Staging(kv, stored.chain.genesis)
    if staging.target is None:
        staging.begin(target_of(stored))
    while not staging.has_state:
        path = next(p for n in range(SEGMENTS) if (p := staging.wanted(n)) is not None)
        staging.add_piece(next(p for p in pieces_of(stored) if p.first <= path <= p.last))
    past = past_of(stored)
    while not staging.has_lookback:
        top = stored.store.height
        staging.add_blocks(past[top - staging.next_block :][:2])
    staging.finish()


async def test_a_chain_from_a_snapshot_goes_on_as_the_one_it_was_taken_of():
    stored = await source()
    kv = MemoryStore()
    await joiner(stored, kv)
    await put_together(stored, kv)

    again = await joiner(stored, kv)
    Staging(kv, stored.chain.genesis)

    assert again.store.tip.header == stored.store.tip.header
    assert again.store.first_block() > 1
    assert list(verify_store(kv, stored.chain.genesis)) == []
    assert not any(key[:1] == schema.INCOMING for key in dump(kv))
    again.chain, again.certificates = stored.chain, stored.certificates
    await again.fill_more()
    assert again.store.height == stored.store.height + 2


async def test_a_kill_at_any_write_leaves_a_chain_that_is_joined_at_the_end():
    stored = await source()
    begun = MemoryStore()
    await joiner(stored, begun)
    for writes in range(1, 1_000):
        kv = Failing(dump(begun))
        kv.writes_left = writes
        try:
            await put_together(stored, kv)
            await joiner(stored, kv)
            Staging(kv, stored.chain.genesis)
        except PowerLost:
            kv = Failing(dump(kv))
            opened = await joiner(stored, kv)
            assert opened.store.height in (0, stored.store.height)
            if opened.store.height == 0:
                await put_together(stored, kv)
                opened = await joiner(stored, kv)
            Staging(kv, stored.chain.genesis)
            assert opened.store.height == stored.store.height
            assert list(verify_store(kv, stored.chain.genesis)) == []
        else:
            break
    assert 10 < writes < 999


async def decide(stored, change, *voters):
    proposal = stored.chain.by_miner(0, "miner.propose", change)
    await stored.commit(proposal, *[stored.chain.vote(number, proposal) for number in voters])


async def test_a_chain_from_a_snapshot_that_goes_back_keeps_the_first_miners():
    """They decide again in the end, and no header that is kept tells that they were known."""
    stored = StoredChain()
    await decide(stored, stored.chain.addition(4), 1, 2)
    for _ in range(8):
        await stored.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    kv = MemoryStore()
    await joiner(stored, kv)
    await put_together(stored, kv)
    again = await joiner(stored, kv)
    again.chain, again.certificates = stored.chain, stored.certificates
    gone = address_of(key_of("miner 4").public)
    await decide(again, MinerPropose(change=RemoveMiner(miner=gone)), 1, 2, 3)
    for _ in range(2):
        await again.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    first = again.store.header(0)
    assert first is not None
    assert again.store.tip.header.next_miner_set_hash == first.next_miner_set_hash

    roll_back(kv, again.open(), stored.chain.tip.header.height - 3)

    assert list(verify_store(kv, stored.chain.genesis)) == []


@pytest.mark.parametrize("writes", [0, 1, 4])
async def test_a_node_that_ended_before_its_chain_was_adopted_is_not_called_damaged(writes):
    stored = await source()
    kv = Failing()
    await joiner(stored, kv)
    await put_together(stored, kv)
    kv.writes_left = writes
    with pytest.raises(PowerLost):
        await joiner(stored, kv)
    kv.writes_left = -1

    assert list(verify_store(kv, stored.chain.genesis)) == []
    assert (await joiner(stored, kv)).store.height == stored.store.height


@pytest.mark.attack("D9")
async def test_what_does_not_prove_itself_is_not_taken():
    stored, other = await source(), StoredChain()
    await other.fill(3)
    kv = MemoryStore()
    await joiner(stored, kv)
    staging = Staging(kv, stored.chain.genesis)
    staging.begin(target_of(stored))
    before = dump(kv)
    piece = pieces_of(stored)[0]
    for false in (replace(piece, entries=piece.entries[1:]), pieces_of(other)[0]):
        with pytest.raises(InvalidProof):
            staging.add_piece(false)
    assert dump(kv) == before
    for piece in pieces_of(stored):
        staging.add_piece(piece)
    before = dump(kv)
    first, second = past_of(stored)[:2]
    for past in (
        second,
        past_of(other)[0],
        replace(first, receipts=second.receipts),
        replace(first, certificate=second.certificate),
        replace(first, block=first.block[:-1]),
    ):
        with pytest.raises((InvalidProof, InvalidCertificate, DecodeError)):
            staging.add_blocks([past])
        assert dump(kv) == before
    assert staging.next_block == stored.store.height

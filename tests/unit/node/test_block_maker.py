"""Making blocks and checking those of others: durable before the answer, and only on one tip."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chain.blocks import transaction_root
from chain.errors import InvalidBlock
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import Revoke
from chain.payloads import READING_VALUES_MAX, Measurement, Reading
from chain.transactions import Transaction
from chain.transition import lane_of
from chain.types import Digest, Round
from consensus.messages import Proposal
from node import block_maker
from node.block_maker import STORED_MAX, BlockMaker
from node.bodies import BodyExchange
from node.mempool import PASSED_OVER_MAX, Mempool
from node.protocol import GET_BODIES, Bodies
from node.storage.chain_store import RECENT_BLOCKS
from node.verification import Verifier
from tests.builders import forged, make_genesis, with_parameters
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain

PEER = address(1)
ROUND_0, ROUND_1 = Round(0), Round(1)


class Shop:
    """A block maker of the miner whose turn it is, over a chain with a device."""

    def __init__(self, *, executor: Any = None, **parameters: Any) -> None:
        genesis = make_genesis(parameters=with_parameters(**parameters))
        self.stored = StoredChain(genesis=genesis, executor=executor)
        self.chain = self.stored.chain
        self.pool = Mempool()
        self.wire = Wire(PEER)
        self.wall_ms = 0
        self.waiting: list[Transaction] = []
        self.maker = self.make()

    def make(self) -> BlockMaker:
        """Return a maker as it is after a start."""
        clock: Any = SimpleNamespace(wall_ms=lambda: self.wall_ms or self.chain.next_time_ms)
        miner = self.chain.proposer()
        self.bodies = BodyExchange(
            self.wire, lambda block, digests: self.maker.find(block, digests)
        )
        self.maker = BlockMaker(
            chain=self.stored.store,
            mempool=self.pool,
            verifier=Verifier(Inline()),
            bodies=self.bodies,
            admit=self.admit,
            clock=clock,
            miner=miner,
        )
        return self.maker

    async def device(self, **fields: Any) -> Any:
        device, registration = self.chain.registration("device", **fields)
        await self.stored.commit(registration)
        self.make()
        return device

    async def admit(self, digests: Sequence[Digest]) -> None:
        """Pool what waits, as the intake does."""
        for transaction in self.waiting:
            if transaction.digest in digests:
                self.put(transaction)

    def put(self, *transactions: Transaction) -> None:
        for transaction in transactions:
            self.pool.add(transaction, lane=lane_of(transaction), source=None)

    async def build(self, *, round: Round = ROUND_0, limit_shift: int = 0) -> Proposal | None:
        return await self.maker.build(round=round, limit_shift=limit_shift)

    def stored_blocks(self) -> set[bytes]:
        return {key[1:] for key, _ in self.stored.kv.scan(start=b"p", stop=b"q")}


def proposal_of(block: Any) -> Proposal:
    return Proposal(header=block.header, digests=tuple(tx.digest for tx in block.transactions))


def nobody() -> list[Any]:
    return []


# --- building -------------------------------------------------------------------------------------


@simulated
async def test_a_block_holds_what_is_pooled_and_is_on_disk_before_the_answer():
    shop = Shop()
    device = await shop.device()
    transactions = [shop.chain.by_device(device) for _ in range(3)]
    shop.put(*transactions)

    proposal = await shop.build()

    assert proposal is not None
    assert proposal.digests == tuple(tx.digest for tx in transactions)
    assert proposal.header.proposal_round == 0
    assert shop.stored_blocks() == {proposal.digest}
    # Others find nothing to refuse.
    block = shop.stored.store.proposed(proposal.digest)
    assert block is not None
    shop.chain.accept(block)


@simulated
async def test_an_idle_chain_gets_no_block_before_its_heartbeat():
    shop = Shop(heartbeat_ms=5_000)
    tip_ms = shop.chain.tip.header.time_ms
    shop.wall_ms = tip_ms + 4_999
    assert await shop.build() is None
    shop.wall_ms = tip_ms + 5_000

    proposal = await shop.build()

    assert proposal is not None
    assert proposal.digests == ()


@simulated
async def test_a_later_round_ends_with_a_block_even_an_empty_one():
    shop = Shop()

    proposal = await shop.build(round=ROUND_1)

    assert proposal is not None
    assert proposal.header.proposal_round == 1


@pytest.mark.attack("D12")
@simulated
async def test_blocks_stay_smaller_after_a_height_whose_rounds_failed():
    shop = Shop(block_transactions_max=40)
    device = await shop.device()
    shop.put(*[shop.chain.by_device(device) for _ in range(40)])
    shop.maker.on_committed(ROUND_1)

    proposal = await shop.build()

    assert proposal is not None
    assert len(proposal.digests) == 20


@simulated
async def test_few_transactions_are_not_taken_for_the_reason_that_rounds_failed():
    shop = Shop(block_transactions_max=4)
    device = await shop.device()
    shop.put(*[shop.chain.by_device(device) for _ in range(4)])
    shop.maker.on_committed(ROUND_1)

    proposal = await shop.build()

    assert proposal is not None
    assert len(proposal.digests) == 4


@simulated
async def test_few_transactions_that_are_large_are_taken_for_it():
    shop = Shop(block_bytes_max=64 * 1024)
    device = await shop.device()
    values = tuple(
        Measurement(name=f"{place:02d}".ljust(64, "x"), value=1, exponent=0, unit="C" * 16)
        for place in range(READING_VALUES_MAX)
    )
    large = DeviceData(payload=Reading(values=values))
    shop.put(*[shop.chain.by_device(device, large) for _ in range(16)])
    shop.maker.on_committed(ROUND_1)

    proposal = await shop.build()

    assert proposal is not None
    assert 1 < len(proposal.digests) < 16


@pytest.mark.attack("E4")
@simulated
async def test_what_no_block_may_hold_is_left_out_and_leaves_the_pool():
    shop = Shop()
    device = await shop.device(limits="2:60")
    good = [shop.chain.by_device(device) for _ in range(2)]
    bad = forged(shop.chain.by_device(device))
    above = shop.chain.by_device(device)
    shop.put(bad, *good, above)

    proposal = await shop.build()

    assert proposal is not None
    assert proposal.digests == tuple(tx.digest for tx in good)
    codes = [shop.pool.fate(tx.id) for tx in (bad, above)]
    assert [fate and fate.code for fate in codes] == ["bad_signature", "rate_limited"]


@simulated
async def test_a_pool_of_nothing_but_bad_transactions_gives_no_block():
    shop = Shop()
    device = await shop.device()
    shop.put(forged(shop.chain.by_device(device)))

    assert await shop.build() is None
    assert shop.stored_blocks() == set()


@simulated
async def test_a_lane_of_nothing_but_bad_transactions_takes_no_other_ones_place():
    """It was passed over for so long that the only place is its own."""
    shop = Shop(block_transactions_max=1)
    device = await shop.device()
    shop.put(*[shop.chain.by_device(device) for _ in range(4)])
    for block in range(PASSED_OVER_MAX):
        _, registration = shop.chain.registration(f"other-{block}")
        await shop.stored.commit(registration)
        shop.pool.remove([registration.id])
    await shop.stored.commit(shop.chain.update(device, Revoke()))
    _, good = shop.chain.registration("late")
    shop.put(good)
    shop.make()

    proposal = await shop.build()

    assert proposal is not None
    assert proposal.digests == (good.digest,)


@simulated
async def test_limits_are_halved_with_each_shift_down_to_one_transaction():
    shop = Shop(block_transactions_max=8)
    device = await shop.device()
    shop.put(*[shop.chain.by_device(device) for _ in range(20)])

    sizes = []
    for shift in range(6):
        proposal = await shop.build(limit_shift=shift)
        assert proposal is not None
        sizes.append(len(proposal.digests))

    assert sizes == [8, 4, 2, 1, 1, 1]


@pytest.mark.attack("C3")
@simulated
async def test_the_clock_behind_the_chain_gives_the_time_after_the_parent():
    shop = Shop()
    shop.wall_ms = 1

    proposal = await shop.build(round=ROUND_1)

    assert proposal is not None
    assert proposal.header.time_ms == shop.chain.tip.header.time_ms + 1


@simulated
async def test_a_build_that_the_chain_has_overtaken_comes_to_nothing():
    shop = Shop()
    device = await shop.device()
    shop.put(*[shop.chain.by_device(device) for _ in range(300)])

    async with asyncio.TaskGroup() as group:
        build = group.create_task(shop.build())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await shop.stored.commit(time_ms=shop.chain.next_time_ms + 60_000)

    assert build.result() is None
    assert shop.stored_blocks() == set()


# --- checking -------------------------------------------------------------------------------------


@simulated
async def test_a_block_whose_bodies_are_pooled_is_checked_and_stored_without_asking():
    shop = Shop()
    device = await shop.device()
    transactions = [shop.chain.by_device(device) for _ in range(3)]
    shop.put(*transactions)
    block = shop.chain.block(*transactions)

    await shop.maker.check(proposal_of(block), nobody)

    assert shop.stored_blocks() == {block.header.hash}
    assert shop.wire.sent == []
    candidate = await shop.maker.recall(block.header.hash)
    assert candidate is not None
    assert candidate.execution.header == block.header


@simulated
async def test_what_waits_to_be_admitted_is_not_fetched():
    shop = Shop()
    device = await shop.device()
    transactions = [shop.chain.by_device(device) for _ in range(3)]
    shop.put(transactions[0])
    shop.waiting = transactions[1:]
    block = shop.chain.block(*transactions)

    await shop.maker.check(proposal_of(block), nobody)

    assert shop.stored_blocks() == {block.header.hash}
    assert shop.wire.sent == []


@simulated
async def test_missing_bodies_are_fetched_and_nothing_is_stored_before():
    shop = Shop()
    device = await shop.device()
    transactions = [shop.chain.by_device(device) for _ in range(3)]
    shop.put(transactions[1])
    block = shop.chain.block(*transactions)
    async with asyncio.TaskGroup() as group:
        group.create_task(shop.maker.check(proposal_of(block), lambda: [PEER]))
        await asyncio.sleep(0.01)
        assert shop.stored_blocks() == set()
        [(_, request)] = shop.wire.take(GET_BODIES)
        assert set(request.digests) == {transactions[0].digest, transactions[2].digest}
        wires = (transactions[2].wire, transactions[0].wire)
        shop.bodies.on_bodies(PEER, Bodies(block=block.header.hash, wires=wires))

    assert shop.stored_blocks() == {block.header.hash}


@simulated
@pytest.mark.parametrize("fault", ["forged", "state_root", "twice", "empty"])
async def test_a_block_that_breaks_a_rule_is_refused_and_not_stored(fault):
    shop = Shop()
    device = await shop.device()
    transactions = [shop.chain.by_device(device) for _ in range(2)]
    header = shop.chain.block(*transactions).header
    match fault:
        case "forged":
            transactions[1] = forged(transactions[1])
        case "twice":
            transactions.append(transactions[0])
        case "empty":
            transactions = []
        case "state_root":
            header = replace(header, state_root=Digest(bytes(32)))
    digests = tuple(tx.digest for tx in transactions)
    header = replace(header, transaction_root=transaction_root(digests))
    async with asyncio.TaskGroup() as group:
        check = group.create_task(
            refusal(shop.maker.check(Proposal(header=header, digests=digests), lambda: [PEER]))
        )
        await asyncio.sleep(0.01)
        wires = tuple(tx.wire for tx in transactions)
        shop.bodies.on_bodies(PEER, Bodies(block=header.hash, wires=wires))

    assert isinstance(check.result(), InvalidBlock)
    assert shop.stored_blocks() == set()
    assert await shop.maker.recall(header.hash) is None


async def refusal(course: Any) -> Exception | None:
    try:
        await course
    except InvalidBlock as error:
        return error
    return None


@simulated
async def test_nothing_is_fetched_of_a_block_that_names_too_many_transactions():
    shop = Shop(block_transactions_max=4)
    header = shop.chain.block(shop.chain.registration("device")[1]).header
    digests = tuple(Digest(bytes([number] * 32)) for number in range(5))

    error = await refusal(
        shop.maker.check(Proposal(header=header, digests=digests), lambda: [PEER])
    )

    assert isinstance(error, InvalidBlock)
    assert shop.wire.sent == []


@simulated
async def test_a_check_that_the_chain_has_overtaken_ends_quietly():
    shop = Shop()
    device = await shop.device()
    transactions = [shop.chain.by_device(device) for _ in range(300)]
    shop.put(*transactions)
    block = shop.chain.block(*transactions)
    async with asyncio.TaskGroup() as group:
        check = group.create_task(refusal(shop.maker.check(proposal_of(block), nobody)))
        for _ in range(4):
            await asyncio.sleep(0)
        assert not check.done()
        await shop.stored.commit(time_ms=shop.chain.next_time_ms + 60_000)

    assert check.result() is None
    assert shop.stored_blocks() == set()


class Gate:
    """An executor that holds the caller until it opens."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    async def run(self, function: Any, *args: Any) -> Any:
        result = function(*args)
        await self.open.wait()
        return result


@simulated
async def test_a_check_cancelled_while_its_block_is_written_leaves_no_candidate():
    gate = Gate()
    shop = Shop(executor=gate)
    device = await shop.device()
    transaction = shop.chain.by_device(device)
    shop.put(transaction)
    block = shop.chain.block(transaction)
    gate.open.clear()
    async with asyncio.TaskGroup() as group:
        check = group.create_task(shop.maker.check(proposal_of(block), nobody))
        await asyncio.sleep(0.01)
        assert shop.stored_blocks() == {block.header.hash}
        check.cancel()

    assert shop.maker._candidates == {}
    # It is on disk all the same, and whoever asks for it again finds it there.
    gate.open.set()
    assert await shop.maker.recall(block.header.hash) is not None


# --- remembering ----------------------------------------------------------------------------------


@simulated
async def test_a_block_stored_before_a_restart_needs_no_bodies_after_it():
    shop = Shop()
    device = await shop.device()
    transaction = shop.chain.by_device(device)
    block = shop.chain.block(transaction)
    await shop.stored.store.store_proposed(block)
    maker = shop.make()

    await maker.check(proposal_of(block), nobody)

    candidate = await maker.recall(block.header.hash)
    assert candidate is not None
    assert candidate.block.header == block.header


@simulated
async def test_a_block_that_the_store_has_lost_is_not_recalled():
    shop = Shop()

    assert await shop.maker.recall(Digest(bytes(32))) is None


@simulated
async def test_candidates_of_a_decided_height_are_forgotten():
    shop = Shop()
    proposal = await shop.build(round=ROUND_1)
    assert proposal is not None

    shop.maker.on_committed(ROUND_0)
    await shop.stored.commit(round=1)

    assert shop.maker._candidates == {}
    assert await shop.maker.recall(proposal.digest) is None


@simulated
async def test_candidates_have_a_bound_and_one_beyond_it_is_executed_again(monkeypatch):
    monkeypatch.setattr(block_maker, "CANDIDATES_MAX", 3)
    shop = Shop()
    proposals = []
    for number in range(6):
        shop.wall_ms = shop.chain.tip.header.time_ms + 60_000 + number
        proposals.append(await shop.build())

    assert len(shop.maker._candidates) == 3
    for proposal in proposals:
        assert proposal is not None
        candidate = await shop.maker.recall(proposal.digest)
        assert candidate is not None
        assert candidate.execution.header == proposal.header


# --- answering ------------------------------------------------------------------------------------


@simulated
async def test_bodies_are_found_in_candidates_in_stored_blocks_in_recent_ones_and_in_the_pool():
    shop = Shop()
    device = await shop.device()
    pooled, built, stored, recent = (shop.chain.by_device(device) for _ in range(4))
    await shop.stored.commit(recent)
    recent_hash = shop.chain.blocks[-1].header.hash
    shop.put(built)
    proposal = await shop.build()
    assert proposal is not None
    block = shop.chain.block(stored)
    await shop.stored.store.store_proposed(block)
    shop.put(pooled)

    found = [
        shop.maker.find(where, [transaction.digest])
        for where, transaction in (
            (Digest(bytes(32)), pooled),
            (proposal.digest, built),
            (block.header.hash, stored),
            (recent_hash, recent),
            (proposal.digest, pooled),
            (Digest(bytes(32)), stored),
        )
    ]

    assert [[tx.wire for tx in part] for part in found] == [
        [pooled.wire],
        [built.wire],
        [stored.wire],
        [recent.wire],
        [],
        [],
    ]
    assert shop.maker.proposal(proposal.digest) == proposal
    assert shop.maker.proposal(block.header.hash) == proposal_of(block)
    assert shop.maker.proposal(Digest(bytes(32))) is None


@simulated
async def test_a_transaction_asked_for_a_thousand_times_is_sent_once():
    shop = Shop()
    transaction = shop.chain.by_device(await shop.device())
    shop.put(transaction)

    found = shop.maker.find(Digest(bytes(32)), [transaction.digest] * 1_000)

    assert found == [transaction]


@simulated
async def test_an_answer_is_no_larger_than_a_block_whatever_is_asked_for():
    shop = Shop(block_bytes_max=64 * 1024)
    device = await shop.device()
    transactions = [shop.chain.by_device(device) for _ in range(400)]
    shop.put(*transactions)

    found = shop.maker.find(Digest(bytes(32)), [tx.digest for tx in transactions])

    size = sum(len(tx.wire) for tx in found)
    assert 60 * 1024 < size <= 64 * 1024


@simulated
async def test_a_stored_block_is_decoded_once_for_all_who_ask(monkeypatch):
    shop = Shop()
    device = await shop.device()
    blocks = [shop.chain.block(shop.chain.by_device(device)) for _ in range(STORED_MAX + 1)]
    for block in blocks:
        await shop.stored.store.store_proposed(block)
    reads = []
    read = shop.stored.store.proposed

    def watched(digest):
        reads.append(digest)
        return read(digest)

    monkeypatch.setattr(shop.stored.store, "proposed", watched)

    for _ in range(50):
        shop.maker.find(blocks[0].header.hash, [blocks[0].transactions[0].digest])
    for block in blocks:
        shop.maker.proposal(block.header.hash)

    assert reads == [block.header.hash for block in blocks]
    assert len(shop.maker._stored) == STORED_MAX


@simulated
async def test_old_blocks_are_no_answer_to_a_question_for_bodies():
    shop = Shop()
    device = await shop.device()
    transaction = shop.chain.by_device(device)
    await shop.stored.commit(transaction)
    old = shop.chain.blocks[-1].header.hash
    for _ in range(RECENT_BLOCKS):
        await shop.stored.commit(time_ms=shop.chain.tip.header.time_ms + 60_000)

    assert shop.maker.find(old, [transaction.digest]) == []

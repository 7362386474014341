"""Where transactions enter: what is pooled, sent on, charged, and whom it costs."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from chain.crypto import address_of
from chain.errors import DecodeError, Rejection
from chain.transactions import Transaction
from chain.transition import STEP_TRANSACTIONS
from node.errors import MempoolFull
from node.gossip import FLUSH_DELAY_S, Gossip
from node.intake import (
    BAD_SIGNATURES_PER_POINT,
    HOSTILE_POINTS,
    PEER_BATCHES_MAX,
    PEER_SIZE_MAX,
    Intake,
)
from node.mempool import Mempool, MempoolLimits
from node.metrics import Metrics
from node.protocol import TRANSACTIONS
from node.verification import Verifier
from tests.builders import forged, key_of, make_genesis, reading
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain

PEER, OTHER, MINER = (address(number) for number in range(1, 4))


class Desk:
    """An intake over a chain with one device."""

    def __init__(self, *, miner: int = 0, limits: MempoolLimits | None = None) -> None:
        self.stored = StoredChain()
        self.chain = self.stored.chain
        self.wire = Wire(MINER)
        self.pool = Mempool(limits)
        self.metrics = Metrics()
        self.told = 0
        self.clock: Any = SimpleNamespace(
            wall_ms=lambda: self.chain.next_time_ms, monotonic_ns=lambda: 0
        )
        self.intake = Intake(
            chain=self.stored.store,
            mempool=self.pool,
            verifier=Verifier(Inline()),
            gossip=Gossip(self.wire, lambda: [MINER]),
            clock=self.clock,
            metrics=self.metrics,
            miner=address_of(key_of(f"miner {miner}").public),
            on_work=self.on_work,
            penalise=self.wire.penalise,
        )

    def on_work(self) -> None:
        self.told += 1

    async def device(self, name: str = "device", **fields: Any) -> Any:
        device, registration = self.chain.registration(name, **fields)
        await self.stored.commit(registration)
        return device

    async def submit(self, *transactions: Transaction, **fields: Any) -> list[str | None]:
        """Return the code of each answer, None where it is pooled."""
        results = await self.intake.submit([tx.wire for tx in transactions], **fields)
        return [code_of(result.error) for result in results]

    async def sent(self) -> list[bytes]:
        await asyncio.sleep(2 * FLUSH_DELAY_S)
        return [wire for _, body in self.wire.take(TRANSACTIONS) for wire in body.wires]


def code_of(error: Exception | None) -> str | None:
    if isinstance(error, Rejection):
        return error.code
    return None if error is None else type(error).__name__


@simulated
async def test_a_valid_transaction_of_a_client_is_pooled_sent_on_and_told():
    desk = Desk()
    transaction = desk.chain.by_device(await desk.device())

    assert await desk.submit(transaction) == [None]

    assert desk.pool.get(transaction.digest) is not None
    assert await desk.sent() == [transaction.wire]
    assert desk.told == 1


@simulated
async def test_what_comes_from_a_peer_is_pooled_and_not_sent_on():
    desk = Desk()
    transaction = desk.chain.by_device(await desk.device())

    assert await desk.submit(transaction, source=PEER) == [None]

    assert desk.pool.has(transaction.id)
    assert await desk.sent() == []


@simulated
async def test_a_slow_clock_refuses_nothing_that_a_block_would_take():
    desk = Desk()
    device = await desk.device()
    desk.clock.wall_ms = lambda: desk.chain.tip.header.time_ms - 3_600_000
    transaction = desk.chain.by_device(device)

    assert await desk.submit(transaction) == [None]
    assert desk.intake.has_work()
    assert desk.pool.has(transaction.id)


@simulated
async def test_each_gets_its_answer_in_the_order_of_the_batch():
    desk = Desk()
    device = await desk.device()
    good, stranger = desk.chain.by_device(device), desk.chain.by_device(device)
    bad = forged(desk.chain.by_device(device))
    wires = [b"junk", good.wire, bad.wire, b"", stranger.wire, good.wire]

    results = await desk.intake.submit(wires)

    assert [type(result.error) for result in results] == [
        DecodeError,
        type(None),
        Rejection,
        DecodeError,
        type(None),
        type(None),
    ]
    assert [result.id for result in results] == [
        None,
        good.id,
        bad.id,
        None,
        stranger.id,
        good.id,
    ]
    assert len(desk.pool) == 2


@pytest.mark.attack("D14")
@simulated
async def test_forgeries_in_its_name_take_nothing_from_a_device_s_budget():
    desk = Desk()
    device = await desk.device(limits="2:60")
    real = [desk.chain.by_device(device) for _ in range(3)]

    assert await desk.submit(*[forged(tx) for tx in real] * 3) == ["bad_signature"] * 9
    assert await desk.submit(*real) == [None, None, "rate_limited"]


@simulated
async def test_what_expires_on_an_idle_chain_counts_against_nobody():
    desk = Desk()
    device = await desk.device(limits="1:600")
    first, second = desk.chain.by_device(device), desk.chain.by_device(device)
    assert await desk.submit(first, second) == [None, "rate_limited"]

    lifetime_ms = desk.chain.context().parameters.transaction_lifetime_ms
    desk.clock.wall_ms = lambda: first.payload.time_ms + lifetime_ms
    desk.intake.expire()

    fresh = desk.chain.by_device(device, time_ms=first.payload.time_ms + lifetime_ms)
    assert await desk.submit(fresh, desk.chain.by_device(device)) == [None, "expired"]
    assert len(desk.pool) == 1


@simulated
async def test_what_has_become_invalid_counts_against_nobody():
    desk = Desk()
    device = await desk.device(limits="1:600")
    first, second = desk.chain.by_device(device), desk.chain.by_device(device)
    await desk.submit(first)

    desk.pool.reject(first, "not_permitted")

    assert await desk.submit(second, desk.chain.by_device(device)) == [None, "rate_limited"]


@simulated
async def test_what_is_committed_counts_on():
    desk = Desk()
    device = await desk.device(limits="1:600")
    first, second = desk.chain.by_device(device), desk.chain.by_device(device)
    await desk.submit(first)

    await desk.stored.commit(first)
    desk.pool.remove([first.id])

    assert await desk.submit(second) == ["rate_limited"]


@simulated
async def test_a_forged_copy_does_not_speak_for_the_original():
    desk = Desk()
    transaction = desk.chain.by_device(await desk.device())
    await desk.submit(transaction)

    await desk.submit(forged(transaction))

    fate = desk.pool.fate(transaction.id)
    assert fate is not None
    assert fate.status == "pending"


@simulated
async def test_a_forged_copy_that_comes_before_the_original_says_nothing_of_it():
    desk = Desk()
    transaction = desk.chain.by_device(await desk.device())

    assert await desk.submit(forged(transaction)) == ["bad_signature"]

    assert desk.pool.fate(transaction.id) is None


@simulated
async def test_one_transaction_submitted_twice_at_once_is_charged_and_sent_on_once():
    desk = Desk()
    device = await desk.device(limits="2:60")
    first, second = desk.chain.by_device(device), desk.chain.by_device(device)

    async with asyncio.TaskGroup() as group:
        same = [group.create_task(desk.submit(first)) for _ in range(5)]

    assert [task.result() for task in same] == [[None]] * 5
    assert await desk.submit(second) == [None]
    assert await desk.sent() == [first.wire, second.wire]


@simulated
async def test_a_payload_signed_again_is_charged_and_sent_on_once(monkeypatch):
    desk = Desk()
    device = await desk.device(limits="2:60")
    transaction = desk.chain.by_device(device)
    # As another signature under P-256 would be.
    monkeypatch.setattr(Transaction, "is_signed_by", lambda self, key: True)

    assert await desk.submit(transaction, forged(transaction)) == [None, None]

    assert await desk.sent() == [transaction.wire]
    assert await desk.submit(desk.chain.by_device(device)) == [None]


@pytest.mark.attack("D11")
@simulated
async def test_bad_signatures_are_verified_once_and_not_again_on_the_event_loop(monkeypatch):
    desk = Desk()
    device = await desk.device()
    verified = []
    check = Transaction.is_signed_by

    def watched(self, key):
        verified.append(self.id)
        return check(self, key)

    monkeypatch.setattr(Transaction, "is_signed_by", watched)

    await desk.submit(*[forged(desk.chain.by_device(device)) for _ in range(5)])

    assert len(verified) == len(set(verified)) == 5


@simulated
async def test_a_full_pool_is_an_answer_of_its_own_and_forgets_the_transaction():
    desk = Desk(limits=MempoolLimits(transactions_max=16))
    device = await desk.device()
    transactions = [desk.chain.by_device(device) for _ in range(13)]

    answers = await desk.submit(*transactions)

    assert answers == [None] * 12 + [MempoolFull.__name__]
    assert desk.pool.fate(transactions[-1].id) is None


@simulated
async def test_an_observer_admits_nothing():
    desk = Desk(miner=50)
    transaction = desk.chain.by_device(await desk.device())

    assert await desk.submit(transaction) == ["unauthorised_miner"]
    assert len(desk.pool) == 0


@pytest.mark.attack("D11")
@simulated
async def test_others_run_while_a_large_batch_is_admitted():
    desk = Desk()
    device = await desk.device()
    transactions = [desk.chain.by_device(device) for _ in range(5 * STEP_TRANSACTIONS)]
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(other())
        for _ in range(2):
            before = turns
            assert await desk.submit(*transactions) == [None] * len(transactions)
            assert turns - before >= 4
        task.cancel()


# --- peers ----------------------------------------------------------------------------------------


async def drained(desk):
    """Let the intake admit all that waits."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(desk.intake.run())
        await asyncio.sleep(1)
        task.cancel()


@simulated
async def test_batches_of_peers_are_admitted_in_turn(monkeypatch):
    desk = Desk()
    device = await desk.device()
    flood = [desk.chain.by_device(device) for _ in range(20)]
    late = desk.chain.by_device(device)
    for transaction in flood:
        desk.intake.on_transactions(PEER, (transaction.wire,))
    desk.intake.on_transactions(OTHER, (late.wire,))
    order = []
    add = Mempool.add

    def watched(self, transaction, **fields):
        order.append(transaction.id)
        return add(self, transaction, **fields)

    monkeypatch.setattr(Mempool, "add", watched)

    await drained(desk)

    assert order[:3] == [flood[0].id, late.id, flood[1].id]
    assert len(order) == 21


@pytest.mark.parametrize(
    ("size", "count"), [(10, PEER_BATCHES_MAX), (PEER_SIZE_MAX // 4, 4), (PEER_SIZE_MAX, 1)]
)
def test_what_waits_of_one_peer_has_a_bound_and_others_keep_theirs(size, count):
    desk = Desk()
    accepted = 0
    while desk.intake.has_room(PEER, size):
        desk.intake.on_transactions(PEER, (bytes(size),))
        accepted += 1

    assert accepted == count
    assert desk.intake.has_room(OTHER, size)


@simulated
async def test_there_is_room_again_once_batches_are_admitted():
    desk = Desk()
    for _ in range(4):
        desk.intake.on_transactions(PEER, (bytes(PEER_SIZE_MAX // 4),))
    assert not desk.intake.has_room(PEER, 1)

    await drained(desk)

    assert desk.intake.has_room(PEER, PEER_SIZE_MAX)


@simulated
async def test_a_peer_pays_for_what_no_node_accepts():
    desk = Desk()
    device = await desk.device()
    elsewhere = StoredChain(genesis=make_genesis(miners=5)).chain
    wrong_chain = elsewhere.by_device(device)
    unproven = desk.chain.by_miner(0, "evidence", desk.chain.equivocation(1, key=key_of("miner 2")))
    for wires in (
        (b"junk",),
        (desk.chain.by_device(device).wire, wrong_chain.wire),
        (unproven.wire,),
    ):
        desk.intake.on_transactions(PEER, wires)

    await drained(desk)

    assert [blame[:2] for blame in desk.wire.blames] == [(PEER, HOSTILE_POINTS)] * 3


@simulated
async def test_a_peer_is_not_blamed_for_what_depends_on_the_state_of_the_chain():
    desk = Desk()
    device = await desk.device(limits="1:60")
    unknown, _ = desk.chain.registration("not registered yet")
    transactions = [
        desk.chain.by_device(unknown),
        desk.chain.by_device(device, time_ms=1),
        desk.chain.by_device(device),
        desk.chain.by_device(device),
        # The device has changed its key in a block that this node does not have yet.
        desk.chain.transaction("device.data", reading(), key_of("its new key"), device.id),
    ]
    for transaction in transactions:
        desk.intake.on_transactions(PEER, (transaction.wire,))

    await drained(desk)

    assert len(desk.pool) == 1
    assert desk.wire.blames == []


@simulated
async def test_many_bad_signatures_cost_their_sender():
    desk = Desk()
    device = await desk.device()
    count = 3 * BAD_SIGNATURES_PER_POINT + 1
    bad = [forged(desk.chain.by_device(device)).wire for _ in range(count)]
    for wire in bad:
        desk.intake.on_transactions(PEER, (wire,))
    others = [forged(desk.chain.by_device(device)).wire for _ in range(BAD_SIGNATURES_PER_POINT)]
    desk.intake.on_transactions(OTHER, tuple(others))

    await drained(desk)

    points = dict.fromkeys((PEER, OTHER), 0)
    for peer, cost, _ in desk.wire.blames:
        points[peer] += cost
    assert points == {PEER: 3, OTHER: 1}


@simulated
async def test_what_two_peers_send_alike_is_verified_once_and_belongs_to_the_first(monkeypatch):
    desk = Desk()
    device = await desk.device()
    bad = tuple(
        [forged(desk.chain.by_device(device)).wire for _ in range(BAD_SIGNATURES_PER_POINT)]
    )
    verified = []
    is_signed_by = Transaction.is_signed_by

    def watched(transaction, key):
        verified.append(transaction.digest)
        return is_signed_by(transaction, key)

    monkeypatch.setattr(Transaction, "is_signed_by", watched)
    desk.intake.on_transactions(PEER, bad)
    desk.intake.on_transactions(OTHER, bad)

    await drained(desk)

    assert len(verified) == len(set(verified)) == len(bad)
    assert [(peer, cost) for peer, cost, _ in desk.wire.blames] == [(PEER, 1)]


@simulated
async def test_what_a_proposal_names_is_admitted_before_all_else_that_waits():
    desk = Desk()
    device = await desk.device()
    flood = [desk.chain.by_device(device) for _ in range(200)]
    named = [desk.chain.by_device(device) for _ in range(2)]
    elsewhere = desk.chain.by_device(device)
    desk.intake.on_transactions(PEER, tuple([tx.wire for tx in flood]))
    desk.intake.on_transactions(OTHER, tuple([tx.wire for tx in named]))

    await desk.intake.admit_waiting([tx.digest for tx in (*named, elsewhere)])

    assert len(desk.pool) == 2
    assert all(desk.pool.get(tx.digest) is not None for tx in named)
    await drained(desk)
    assert len(desk.pool) == 202


@simulated
async def test_what_is_admitted_for_a_proposal_given_up_is_not_lost():
    desk = Desk()
    device = await desk.device()
    transaction = desk.chain.by_device(device)
    desk.intake.on_transactions(PEER, (transaction.wire,))
    async with asyncio.TaskGroup() as group:
        hurried = group.create_task(desk.intake.admit_waiting([transaction.digest]))
        await asyncio.sleep(0)
        hurried.cancel()

    await drained(desk)

    assert desk.pool.has(transaction.id)


# --- work -----------------------------------------------------------------------------------------


@simulated
async def test_there_is_work_where_a_block_could_hold_something():
    desk = Desk()
    device = await desk.device()
    assert not desk.intake.has_work()

    await desk.submit(desk.chain.by_device(device))

    assert desk.intake.has_work()


@simulated
async def test_what_no_block_can_hold_is_no_work_and_leaves_the_pool():
    desk = Desk()
    device = await desk.device()
    transactions = [desk.chain.by_device(device) for _ in range(3)]
    await desk.submit(*transactions)
    # Committed by others under the same ids: late copies stay behind in no pool.
    await desk.stored.commit(*transactions)

    assert not desk.intake.has_work()

    assert len(desk.pool) == 0
    fates = [desk.pool.fate(transaction.id) for transaction in transactions]
    assert [fate and fate.code for fate in fates] == ["duplicate"] * 3


@simulated
async def test_what_has_expired_is_no_work():
    desk = Desk()
    device = await desk.device()
    transaction = desk.chain.by_device(device)
    await desk.submit(transaction)
    later_ms = desk.chain.next_time_ms + 61_000
    desk.clock.wall_ms = lambda: later_ms

    assert not desk.intake.has_work()

    fate = desk.pool.fate(transaction.id)
    assert fate is not None
    assert fate.status == "expired"


@pytest.mark.attack("D18")
async def test_a_refusal_is_gone_as_soon_as_it_is_answered():
    desk = Desk()
    device = await desk.device()
    stranger = forged(desk.chain.by_device(device))
    gc.disable()
    try:
        results = await desk.intake.submit([stranger.wire, b"no transaction"])
        errors = [weakref.ref(result.error) for result in results]
        del results
        assert [error() for error in errors] == [None, None]
    finally:
        gc.enable()

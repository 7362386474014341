"""Sending transactions on: once, in batches that fit, to all miners."""

import asyncio

from node.gossip import FLUSH_DELAY_S, Gossip
from node.protocol import (
    BATCH_SIZE_MAX,
    BATCH_TRANSACTIONS_MAX,
    KINDS,
    TRANSACTIONS,
)
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.pool_values import make_transaction

A, B, C = (address(number) for number in range(1, 4))


@simulated
async def test_what_comes_within_a_moment_goes_to_every_miner_in_one_message():
    wire = Wire(A, B, C)
    gossip = Gossip(wire, lambda: [A, B])
    transactions = [make_transaction() for _ in range(5)]

    for transaction in transactions:
        gossip.add(transaction)
    assert wire.sent == []
    await asyncio.sleep(2 * FLUSH_DELAY_S)

    sent = wire.take(TRANSACTIONS)
    assert [to for to, _ in sent] == [A, B]
    assert all(body.wires == tuple(tx.wire for tx in transactions) for _, body in sent)


@simulated
async def test_what_comes_later_goes_in_a_message_of_its_own_and_nothing_goes_twice():
    wire = Wire(A)
    gossip = Gossip(wire, lambda: [A])
    transactions = [make_transaction() for _ in range(3)]

    for transaction in transactions:
        gossip.add(transaction)
        await asyncio.sleep(2 * FLUSH_DELAY_S)
    await asyncio.sleep(1)

    assert [body.wires for _, body in wire.take(TRANSACTIONS)] == [
        (transaction.wire,) for transaction in transactions
    ]


@simulated
async def test_what_waits_leaves_at_once_when_told_and_not_again():
    wire = Wire(A)
    gossip = Gossip(wire, lambda: [A])
    first, second = make_transaction(), make_transaction()

    gossip.add(first)
    gossip.flush()
    gossip.add(second)
    assert [body.wires for _, body in wire.take(TRANSACTIONS)] == [(first.wire,)]
    await asyncio.sleep(2 * FLUSH_DELAY_S)
    gossip.flush()

    assert [body.wires for _, body in wire.take(TRANSACTIONS)] == [(second.wire,)]


@simulated
async def test_batches_are_cut_by_number_and_by_size_and_fit_their_kind():
    wire = Wire(A)
    gossip = Gossip(wire, lambda: [A])
    small = [make_transaction(size_bytes=200)] * (BATCH_TRANSACTIONS_MAX + 1)
    large = [make_transaction(size_bytes=30_000)] * 100

    gossip.send_pending([*small, *large])

    assert all(len(data) <= KINDS[TRANSACTIONS].payload_size_max for _, _, data in wire.sent)
    batches = [body.wires for _, body in wire.take(TRANSACTIONS)]
    assert [wire for batch in batches for wire in batch] == [tx.wire for tx in (*small, *large)]
    assert len(batches[0]) == BATCH_TRANSACTIONS_MAX
    assert all(sum(map(len, batch)) <= BATCH_SIZE_MAX + 30_000 for batch in batches)


@simulated
async def test_without_transactions_or_miners_nothing_is_sent():
    wire = Wire(A)
    Gossip(wire, lambda: [A]).send_pending([])
    Gossip(wire, list).send_pending([make_transaction()])

    assert wire.sent == []

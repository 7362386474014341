"""Bodies of a proposal: whom they are asked of, whose answers count, and what a question costs."""

import asyncio

import pytest

from chain.errors import InvalidBlock
from chain.transactions import full_digest
from chain.types import Address, Digest
from node.bodies import (
    ANSWER_TIMEOUT_S,
    ANSWERED_BURST_SIZE,
    ANSWERED_PER_SECOND,
    EXCESS_POINTS,
    MALFORMED_POINTS,
    BodyExchange,
)
from node.protocol import BODIES, GET_BODIES, Bodies, GetBodies
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.pool_values import make_transaction

A, B, C = (address(number) for number in range(1, 4))
BLOCK = Digest(b"\x0b" * 32)
SIZE_MAX = 4 * 1024 * 1024
NOTHING = Bodies(block=BLOCK, wires=())


def nothing_held(block, digests):
    return []


def asking(*holders):
    """Return an exchange, its wire, and a question for three transactions of `BLOCK`."""
    wire = Wire(A, B, C)
    exchange = BodyExchange(wire, nothing_held)
    wanted = [make_transaction() for _ in range(3)]
    question = exchange.fetch(
        BLOCK, [tx.digest for tx in wanted], lambda: list(holders), size_max=SIZE_MAX
    )
    return exchange, wire, wanted, question


def bodies(*transactions):
    return Bodies(block=BLOCK, wires=tuple(transaction.wire for transaction in transactions))


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


@simulated
async def test_the_first_holder_is_asked_for_all_and_its_answer_ends_the_question():
    exchange, wire, wanted, question = asking(A, B)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(question)
        await settle()
        digests = tuple(sorted(tx.digest for tx in wanted))
        assert wire.take(GET_BODIES) == [(A, GetBodies(block=BLOCK, digests=digests))]
        exchange.on_bodies(A, bodies(*wanted))

    assert {digest: tx.wire for digest, tx in task.result().items()} == {
        tx.digest: tx.wire for tx in wanted
    }
    assert wire.take(GET_BODIES) == []


@simulated
async def test_what_one_holder_lacks_is_asked_of_the_next_at_once():
    exchange, wire, wanted, question = asking(A, B)
    async with asyncio.TaskGroup() as group:
        group.create_task(question)
        await settle()
        exchange.on_bodies(A, bodies(wanted[0]))
        await settle()
        left = tuple(sorted(tx.digest for tx in wanted[1:]))
        assert wire.take(GET_BODIES)[1] == (B, GetBodies(block=BLOCK, digests=left))
        exchange.on_bodies(B, bodies(*wanted[1:]))


@simulated
async def test_a_holder_that_is_silent_is_passed_over_and_may_still_answer_late():
    exchange, wire, wanted, question = asking(A, B)
    async with asyncio.TaskGroup() as group:
        group.create_task(question)
        await asyncio.sleep(ANSWER_TIMEOUT_S + 0.1)
        assert [peer for peer, _ in wire.take(GET_BODIES)] == [A, B]
        exchange.on_bodies(A, bodies(*wanted))


@simulated
async def test_holders_that_answer_with_nothing_are_not_asked_faster_than_silent_ones():
    exchange, wire, _wanted, question = asking(A, B)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(question)
        for _ in range(1_000):
            await asyncio.sleep(0.01)
            exchange.on_bodies(A, NOTHING)
            exchange.on_bodies(B, NOTHING)
        asked = len(wire.take(GET_BODIES))
        task.cancel()

    assert 20 <= asked <= 2 * 10 / ANSWER_TIMEOUT_S + 2


@simulated
async def test_a_holder_without_a_session_costs_no_time():
    exchange, wire, wanted, question = asking(address(9), C)
    async with asyncio.TaskGroup() as group:
        group.create_task(question)
        await settle()
        assert [peer for peer, _ in wire.take(GET_BODIES)] == [C]
        exchange.on_bodies(C, bodies(*wanted))


@simulated
async def test_holders_that_become_known_later_are_asked():
    holders: list[Address] = []
    wire = Wire(A)
    exchange = BodyExchange(wire, nothing_held)
    transaction = make_transaction()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            exchange.fetch(BLOCK, [transaction.digest], lambda: holders, size_max=SIZE_MAX)
        )
        await asyncio.sleep(3)
        assert wire.sent == []
        holders.append(A)
        await asyncio.sleep(ANSWER_TIMEOUT_S)
        exchange.on_bodies(A, bodies(transaction))


@simulated
async def test_answers_that_nobody_asked_for_are_dropped():
    exchange, _wire, wanted, question = asking(A)
    exchange.on_bodies(A, bodies(*wanted))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(question)
        await settle()
        exchange.on_bodies(B, bodies(*wanted))
        exchange.on_bodies(A, Bodies(block=Digest(bytes(32)), wires=(wanted[0].wire,)))
        await settle()
        assert not task.done()
        exchange.on_bodies(A, NOTHING)
        # One question, one answer.
        exchange.on_bodies(A, bodies(*wanted))
        await settle()
        assert not task.done()
        task.cancel()


@simulated
async def test_what_comes_for_the_pool_meanwhile_ends_the_question_as_well():
    exchange, wire, wanted, question = asking(A, B)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(question)
        await settle()
        exchange.on_transactions([wanted[0].wire, b"junk", make_transaction().wire])
        await settle()
        assert not task.done()
        assert [peer for peer, _ in wire.take(GET_BODIES)] == [A], "it still owes the rest"
        exchange.on_transactions([tx.wire for tx in wanted[1:]])
        await settle()
        assert set(task.result()) == {tx.digest for tx in wanted}
        exchange.on_bodies(A, bodies(*wanted))

    assert wire.blames == []


@simulated
async def test_what_comes_for_the_pool_and_cannot_be_read_ends_no_question():
    wire = Wire(A)
    exchange = BodyExchange(wire, nothing_held)
    junk, good = b"\x93junk", make_transaction()
    question = exchange.fetch(
        BLOCK, [full_digest(junk), good.digest], lambda: [A], size_max=SIZE_MAX
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(question)
        await settle()
        exchange.on_transactions([junk, good.wire])
        await settle()
        assert not task.done()
        task.cancel()

    assert wire.blames == []


@simulated
async def test_transactions_that_were_not_asked_for_are_not_even_read():
    exchange, wire, wanted, question = asking(A)
    async with asyncio.TaskGroup() as group:
        group.create_task(question)
        await settle()
        junk = Bodies(block=BLOCK, wires=(b"junk", make_transaction().wire))
        exchange.on_bodies(A, Bodies(block=BLOCK, wires=junk.wires + bodies(*wanted).wires))

    assert wire.blames == []


@simulated
async def test_bytes_that_are_no_transaction_cost_the_one_who_held_them():
    wire = Wire(A, B)
    exchange = BodyExchange(wire, nothing_held)
    good, junk = make_transaction(), b"\x93junk"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            exchange.fetch(
                BLOCK, [full_digest(junk), good.digest], lambda: [A, B], size_max=SIZE_MAX
            )
        )
        await settle()
        exchange.on_bodies(A, Bodies(block=BLOCK, wires=(junk, good.wire)))
        await settle()
        assert [blame[:2] for blame in wire.blames] == [(A, MALFORMED_POINTS)]
        assert not task.done()
        assert [peer for peer, _ in wire.take(GET_BODIES)] == [A, B]
        task.cancel()


@simulated
async def test_a_second_question_for_a_block_survives_the_end_of_the_first():
    exchange, _wire, wanted, first = asking(A)
    second = exchange.fetch(BLOCK, [tx.digest for tx in wanted], lambda: [B], size_max=SIZE_MAX)
    async with asyncio.TaskGroup() as group:
        cancelled = group.create_task(first)
        await settle()
        task = group.create_task(second)
        await settle()
        cancelled.cancel()
        await settle()
        exchange.on_bodies(B, bodies(*wanted))

    assert len(task.result()) == 3
    assert exchange._wanted == {}


@simulated
async def test_a_block_of_more_bytes_than_it_may_have_is_not_fetched_to_its_end():
    wire = Wire(A)
    exchange = BodyExchange(wire, nothing_held)
    large = [make_transaction(size_bytes=30_000) for _ in range(40)]
    question = exchange.fetch(BLOCK, [tx.digest for tx in large], lambda: [A], size_max=100_000)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(refusal(question))
        for start in range(0, 40, 2):
            await asyncio.sleep(2 * ANSWER_TIMEOUT_S)
            if not task.done():
                exchange.on_bodies(A, bodies(*large[start : start + 2]))

    assert isinstance(task.result(), InvalidBlock)
    assert len(wire.take(GET_BODIES)) == 2


async def refusal(course):
    try:
        await course
    except InvalidBlock as error:
        return error
    return None


@pytest.mark.parametrize("held", [0, 1, 3])
@simulated
async def test_a_question_is_answered_with_what_is_held(held):
    transactions = [make_transaction() for _ in range(held)]
    wire = Wire(A)
    exchange = BodyExchange(wire, lambda block, digests: transactions)

    exchange.on_get_bodies(A, GetBodies(block=BLOCK, digests=(Digest(bytes(32)),)))

    assert wire.take(BODIES) == [(A, bodies(*transactions))]


@pytest.mark.attack("D2")
@simulated
async def test_a_peer_that_asks_again_and_again_is_answered_no_more_than_it_can_miss():
    """Each answer costs the event loop milliseconds, and the question almost nothing."""
    held = [make_transaction() for _ in range(8)]
    size = sum(len(tx.wire) for tx in held)
    wire = Wire(A, B)
    # A sixteenth of what may be answered at once.
    held_often = held * (ANSWERED_BURST_SIZE // (16 * size))
    exchange = BodyExchange(wire, lambda block, digests: held_often)
    question = GetBodies(block=BLOCK, digests=(held[0].digest,))
    for _ in range(100):
        exchange.on_get_bodies(A, question)
        await asyncio.sleep(0.01)
    exchange.on_get_bodies(B, question)

    answers = [to for to, kind, _ in wire.sent if kind == BODIES]
    answered = answers.count(A) * size * (len(held_often) // len(held))
    assert answered <= ANSWERED_BURST_SIZE + ANSWERED_PER_SECOND
    assert answers.count(A) > 10
    assert answers.count(B) == 1
    assert set(wire.blames) == {(A, EXCESS_POINTS, "bodies asked for again and again")}

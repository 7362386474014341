"""The driver's one queue: what comes first, what has a bound, and who holds up nobody."""

import asyncio

import pytest

from chain.types import Digest, Height, Round, TimestampMs
from consensus.events import Received
from consensus.messages import Prepare
from node.inbox import (
    PEER_BURST_SIZE,
    PEER_BYTES_PER_SECOND,
    PEER_MESSAGES_MAX,
    PEER_SIZE_MAX,
    FromPeer,
    Inbox,
)
from tests.unit.node.fakes import address

A, B, C = (address(number) for number in range(1, 4))


def message(height: int = 1) -> Received:
    prepare = Prepare(sender=A, height=Height(height), round=Round(0), digest=Digest(bytes(32)))
    return Received(message=prepare, wall_ms=TimestampMs(height))


async def taken(inbox, count):
    return [await inbox.get() for _ in range(count)]


async def test_answers_go_before_facts_and_facts_before_messages():
    inbox = Inbox[str]()
    inbox.put_message(A, message(), 10)
    inbox.tell("work", "fact")
    inbox.put("first answer")
    inbox.put("second answer")

    assert await taken(inbox, 4) == [
        "first answer",
        "second answer",
        "fact",
        FromPeer(A, message()),
    ]


async def test_peers_have_their_turns_however_much_one_of_them_says():
    inbox = Inbox[str]()
    for height in range(100):
        inbox.put_message(A, message(height), 10)
    inbox.put_message(B, message(1), 10)
    inbox.put_message(C, message(1), 10)
    inbox.put_message(B, message(2), 10)

    first = [item.peer for item in await taken(inbox, 7)]

    assert first == [A, B, C, A, B, A, A]


async def test_the_messages_of_one_peer_keep_their_order():
    inbox = Inbox[str]()
    for height in range(10):
        inbox.put_message(A, message(height), 10)
        inbox.put_message(B, message(height), 10)

    items = await taken(inbox, 20)

    for peer in (A, B):
        heights = [item.said.message.height for item in items if item.peer == peer]
        assert heights == list(range(10))


async def test_a_fact_told_again_takes_the_place_of_the_one_before():
    inbox = Inbox[str]()
    for height in range(10_000):
        inbox.tell(("height", A), f"A is at {height}")
        inbox.tell(("height", B), f"B is at {height}")
    inbox.tell("work", "work")
    inbox.retract("work")
    inbox.retract("never told")
    inbox.put_message(C, message(), 10)

    assert await taken(inbox, 3) == ["A is at 9999", "B is at 9999", FromPeer(C, message())]


@pytest.mark.parametrize(
    ("size", "count"), [(10, PEER_MESSAGES_MAX), (PEER_SIZE_MAX // 8, 8), (PEER_SIZE_MAX, 1)]
)
async def test_a_peer_has_a_bound_in_messages_and_in_bytes_and_others_keep_theirs(size, count):
    inbox = Inbox[str]()
    accepted = 0
    while inbox.has_room(A, size):
        inbox.put_message(A, message(), size)
        accepted += 1

    assert accepted == count
    assert inbox.has_room(B, size)
    await inbox.get()
    assert inbox.has_room(A, size)


async def test_an_allowance_is_used_up_by_a_flood_and_grows_again():
    inbox = Inbox[str]()
    size = 350_000
    now_ns = 10**9

    said = sum(inbox.is_within_allowance(A, size, now_ns) for _ in range(1_000))

    assert said == PEER_BURST_SIZE // size
    assert inbox.is_within_allowance(B, size, now_ns)
    second = sum(inbox.is_within_allowance(A, size, now_ns + 10**9) for _ in range(1_000))
    assert abs(second - PEER_BYTES_PER_SECOND // size) <= 1


async def test_whoever_waits_is_woken_by_anything():
    for put in (
        lambda inbox: inbox.put("x"),
        lambda inbox: inbox.tell("x", "x"),
        lambda inbox: inbox.put_message(A, message(), 1),
    ):
        inbox = Inbox[str]()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(inbox.get())
            await asyncio.sleep(0)
            put(inbox)
        assert waiting.result() in ("x", FromPeer(A, message()))


async def test_what_arrives_as_the_wait_is_given_up_is_there_for_the_next():
    inbox = Inbox[str]()
    for _ in range(50):
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(inbox.get())
            await asyncio.sleep(0)
            inbox.put_message(A, message(), 1)
            waiting.cancel()
        assert waiting.cancelled()
        assert await inbox.get() == FromPeer(A, message())


async def test_others_run_between_two_messages():
    inbox = Inbox[str]()
    for _ in range(100):
        inbox.put_message(A, message(), 1)
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(other())
        await taken(inbox, 100)
        task.cancel()

    assert turns >= 100

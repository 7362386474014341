"""The simulated loop runs asyncio's own constructs, in one order and in no time."""

import asyncio
import subprocess
import sys

import pytest

from tests.simulation.loop import Stalled, new_loop


def play(scene):
    loop = new_loop()
    try:
        return loop.run_until_complete(scene()), loop
    finally:
        loop.close()


def test_time_passes_only_when_nothing_is_left_to_do():
    async def scene():
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for _ in range(1_000):
            await asyncio.sleep(0)
        between_s = loop.time()
        await asyncio.sleep(3_600)
        return begun_s, between_s, loop.time()

    assert play(scene)[0] == (0, 0, 3_600)


def test_timers_of_one_time_run_in_the_order_in_which_they_were_armed():
    async def scene():
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        for number in range(20):
            loop.call_at(1, seen.append, number)
        loop.call_at(0.5, loop.call_at, 1, seen.append, 20)
        await asyncio.sleep(2)
        return seen

    assert play(scene)[0] == list(range(21))


def test_a_cancelled_timer_does_not_run():
    async def scene():
        seen: list[str] = []
        asyncio.get_running_loop().call_later(1, seen.append, "never").cancel()
        await asyncio.sleep(2)
        return seen

    assert play(scene)[0] == []


def test_timeouts_events_conditions_and_groups_work_unmodified():
    async def scene():
        loop = asyncio.get_running_loop()
        condition, event, order = asyncio.Condition(), asyncio.Event(), []

        async def waiter(name):
            async with condition:
                await condition.wait()
                order.append(name)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(waiter(name))
            await asyncio.sleep(1)
            async with condition:
                condition.notify_all()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await event.wait()
        done, pending = await asyncio.wait([loop.create_future()], timeout=3)
        return order, loop.time(), len(done), len(pending)

    assert play(scene)[0] == (["a", "b", "c"], 6, 0, 1)


def test_a_failing_task_cancels_its_siblings_in_the_order_of_their_making():
    async def scene():
        order: list[int] = []

        async def sibling(number):
            try:
                await asyncio.sleep(10)
            finally:
                order.append(number)

        async def failing():
            await asyncio.sleep(1)
            raise ValueError

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(200):
                    group.create_task(sibling(number))
                group.create_task(failing())
        except* ValueError:
            pass
        return order

    assert play(scene)[0] == list(range(200))


def test_the_main_task_that_waits_for_nothing_is_told():
    with pytest.raises(Stalled):
        play(asyncio.Event().wait)


def test_what_a_callback_raises_is_kept():
    async def scene():
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    failures = play(scene)[1].failures

    assert [type(failure) for failure in failures] == [ZeroDivisionError]


@pytest.mark.parametrize(
    "scene",
    [
        lambda: asyncio.to_thread(print),
        lambda: asyncio.open_connection("127.0.0.1", 1),
        lambda: asyncio.create_subprocess_exec("true"),
    ],
    ids=["thread", "socket", "subprocess"],
)
def test_the_world_outside_is_refused(scene):
    async def main():
        await scene()

    with pytest.raises(NotImplementedError):
        play(main)


def test_sets_of_tasks_have_one_order_in_every_process():
    program = """
import asyncio
from tests.simulation.loop import new_loop

async def scene():
    loop = asyncio.get_running_loop()
    made = [loop.create_future() for _ in range(50)]
    print([made.index(future) for future in set(made)])

new_loop().run_until_complete(scene())
"""
    orders = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, text=True
        ).stdout
        for _ in range(2)
    }

    assert len(orders) == 1

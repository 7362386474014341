"""Threads beside the event loop: bounded, and never longer than their caller."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from node.executor_pool import THREADS_MAX, ThreadPool


class Gate:
    """A function that tells when it has begun and ends when it is let through."""

    def __init__(self):
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.ended = False

    def __call__(self):
        self.begun.set()
        assert self.opened.wait(20)
        self.ended = True


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    with ThreadPool(2) as made:
        yield made


def start(coroutine) -> asyncio.Task[object]:
    return asyncio.get_running_loop().create_task(coroutine)


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_functions_run_beside_the_loop(pool: ThreadPool):
    assert await pool.run(threading.get_ident) != threading.get_ident()


async def test_no_more_functions_run_at_once_than_there_are_threads(pool: ThreadPool):
    gates = [Gate() for _ in range(5)]
    tasks = [start(pool.run(gate)) for gate in gates]
    await until(lambda: gates[0].begun.is_set() and gates[1].begun.is_set())
    await asyncio.sleep(0.02)

    assert not any(gate.begun.is_set() for gate in gates[2:])

    for gate in gates:
        gate.opened.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_call_ends_only_when_its_function_has_ended(pool: ThreadPool):
    gate = Gate()
    task = start(pool.run(gate))
    await until(gate.begun.is_set)

    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.005)
        assert not task.done()
    gate.opened.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.ended


async def test_a_call_cancelled_while_it_waits_never_runs(pool: ThreadPool):
    gates = [Gate(), Gate()]
    running = [start(pool.run(gate)) for gate in gates]
    await until(lambda: all(gate.begun.is_set() for gate in gates))
    late = Gate()
    waiting = start(pool.run(late))
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    for gate in gates:
        gate.opened.set()
    await asyncio.gather(*running)
    assert await pool.run(len, b"abc") == 3
    assert not late.begun.is_set()


async def test_a_cancelled_call_that_fails_leaves_a_log_line(pool: ThreadPool):
    gate = Gate()

    def fail():
        gate()
        raise OSError("no room")

    task = start(pool.run(fail))
    await until(gate.begun.is_set)
    task.cancel()
    await asyncio.sleep(0)
    gate.opened.set()

    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await task
    assert [(line["event"], line["error"]) for line in lines] == [
        ("a cancelled call failed", "no room")
    ]


async def test_a_timeout_waits_for_the_function_and_then_fires(pool: ThreadPool):
    gate = Gate()
    asyncio.get_running_loop().call_later(0.05, gate.opened.set)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.run(gate)

    assert gate.ended


async def test_a_failing_group_leaves_no_function_behind(pool: ThreadPool):
    gate = Gate()

    async def fail():
        await until(gate.begun.is_set)
        asyncio.get_running_loop().call_later(0.02, gate.opened.set)
        raise ValueError

    async def both():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pool.run(gate))
            tasks.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await both()

    assert gate.ended


async def test_a_function_sees_the_context_of_its_caller(pool: ThreadPool):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("set")

    assert await pool.run(variable.get) == "set"


async def test_a_closed_pool_takes_no_functions():
    pool = ThreadPool(1)
    pool.close()

    with pytest.raises(RuntimeError):
        await pool.run(len, b"")


@pytest.mark.parametrize("threads", [0, -1, THREADS_MAX + 1])
def test_a_pool_has_a_bounded_number_of_threads(threads: int):
    with pytest.raises(ValueError, match="threads"):
        ThreadPool(threads)

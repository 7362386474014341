"""What every :class:`node.ports.Executor` does."""

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from node.executor_pool import ThreadPool
from node.ports import Executor
from tests.simulation.disk import SimulatedDisk, SimulatedExecutor


@pytest.fixture(params=["threads", "simulated"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "threads":
        with ThreadPool(2) as pool:
            yield pool
    else:
        yield SimulatedExecutor(SimulatedDisk(Random(1)))


async def test_a_call_returns_what_the_function_returns(executor: Executor):
    assert await executor.run(divmod, 17, 5) == (3, 2)


async def test_a_call_raises_what_the_function_raises(executor: Executor):
    with pytest.raises(ZeroDivisionError):
        await executor.run(divmod, 1, 0)

    assert await executor.run(len, b"abc") == 3


async def test_many_calls_at_once_all_return(executor: Executor):
    results = await asyncio.gather(*(executor.run(pow, index, 2) for index in range(200)))

    assert results == [index**2 for index in range(200)]


async def test_the_loop_goes_on_while_a_call_lasts(executor: Executor):
    turns = 0

    async def turn() -> None:
        nonlocal turns
        for _ in range(20):
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(turn())
        await executor.run(len, b"")
        assert turns > 0


async def test_a_cancelled_call_raises_the_cancellation(executor: Executor):
    task = asyncio.get_running_loop().create_task(executor.run(len, b""))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert await executor.run(len, b"abc") == 3

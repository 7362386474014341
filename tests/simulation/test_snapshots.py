"""Nodes that join by snapshot: wiped miners and new observers, among liars and over crashes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chain.parameters import Parameters
from node.snapshot_service import SnapshotSettings
from node.state_sync import SyncSettings
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

MINERS = ("m0", "m1", "m2", "m3")
EVERY_TEN = SnapshotSettings(interval_blocks=10, keep=2)
BY_SNAPSHOT = SyncSettings(mode="snapshot")
SHORT = Parameters(heartbeat_ms=5_000, transaction_lifetime_ms=5_000)
LOOKBACK_S = 12.0
"""More than rules look back at in these worlds."""


def play(scene: Callable[[World], Awaitable[None]], seed: int = 1, **settings) -> World:
    chosen: dict[str, Any] = {
        "snapshots": EVERY_TEN,
        "sync": BY_SNAPSHOT,
        "observers": 1,
        "parameters": SHORT,
    }
    return World(seed, Settings(**(chosen | settings))).run(scene)


@pytest.fixture(autouse=True)
def short_lookback(monkeypatch):
    """Let rules look back at few blocks, so that a snapshot leaves some out."""
    monkeypatch.setattr("chain.lookback.VERDICT_WINDOW", 5)
    monkeypatch.setattr("chain.lookback.RATE_SECONDS_MAX", 1)


@asynccontextmanager
async def under_load(world: World, *names: str):
    """Run nodes under load, on a chain whose first blocks no rule looks at any more."""
    world.start(*names)
    load = Workload(world)
    await load.prepare()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run())
        await world.reach(12, *names, within_s=60)
        task.cancel()
    await asyncio.sleep(LOOKBACK_S)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run())
        await world.reach(world.ledger.height + 20, *names, within_s=60)
        yield load
        task.cancel()


async def has_joined(world: World, name: str) -> None:
    """Wait until a node has the chain, and see that it has it from a snapshot."""
    await world.reach(world.ledger.height, name, within_s=40)
    assert world.hosts[name].restarts == 1
    assert world.node(name).chain.first_block() > 1


@pytest.mark.parametrize("seed", range(3))
def test_a_new_observer_joins_by_snapshot_and_follows(seed):
    async def scene(world):
        async with under_load(world, *MINERS):
            world.start("o0")
            await has_joined(world, "o0")
            await world.reach(world.ledger.height + 10, within_s=60)

    world = play(scene, seed)
    assert world.blames == []


@pytest.mark.parametrize("seed", range(3))
def test_a_wiped_miner_joins_by_snapshot_and_votes_again(seed):
    async def scene(world):
        async with under_load(world, *MINERS) as load:
            await world.kill("m2")
            world.hosts["m2"].wipe()
            world.start("m2")
            await has_joined(world, "m2")
            # It may sign two heights above the highest that it has been told of.
            await world.reach(world.ledger.height + 5, within_s=60)
            # Without m3, nothing is committed unless m2 votes.
            await world.kill("m3")
            await world.reach(world.ledger.height + 5, within_s=60)
            world.start("m3")
        await load.commit_at_each(within_s=30)

    assert play(scene, seed, observers=0).blames == []

"""Whole nodes on simulated ports: they commit, recover and catch up, the same way every time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import structlog

from consensus.messages import Phase
from tests.simulation.network import LinkQuality
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

ROUND_TIMEOUTS_S = 30.0
"""Enough for several rounds to fail in succession."""


@asynccontextmanager
async def under_load(world: World):
    """Start what is down, register devices, and keep clients sending."""
    world.start()
    load = Workload(world)
    await load.prepare()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run())
        yield load
        task.cancel()


def play(scene: Callable[[World], Awaitable[None]], seed: int = 1, **settings) -> World:
    return World(seed, Settings(**settings)).run(scene)


async def fifty_heights(world: World) -> None:
    async with under_load(world) as load:
        await world.reach(50, within_s=200)
    await load.commit_at_each(within_s=5)
    assert load.check_receipts() == len(load.accepted) > 20


@pytest.mark.attack("A11", "B17")
def test_four_whole_nodes_reach_fifty_heights_twice_with_one_trace():
    first, again = play(fifty_heights), play(fifty_heights)

    assert first.ledger.height >= 50
    assert first.trace.count > 1_000
    assert first.trace.hexdigest() == again.trace.hexdigest()


async def two_heights(world: World) -> None:
    world.start()
    await world.reach(2, within_s=20)


def test_a_trace_has_every_log_line_whatever_level_was_set_before():
    free = play(two_heights)

    before = structlog.get_config() if structlog.is_configured() else None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    try:
        quiet = play(two_heights)
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)

    assert quiet.log == free.log != []
    assert quiet.trace.hexdigest() == free.trace.hexdigest()


def test_another_seed_is_another_course_of_events():
    assert (
        play(two_heights, seed=1).trace.hexdigest() != play(two_heights, seed=2).trace.hexdigest()
    )


def test_honest_nodes_blame_nobody_in_fair_weather():
    world = play(fifty_heights, seed=3)

    assert world.blames == []
    assert [entry for entry in world.log if entry[1] == "proposal refused"] == []


@pytest.mark.attack("A15", "B6", "B8")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", ["kill", "crash"])
def test_a_miner_that_goes_down_in_the_midst_comes_back_and_catches_up(how, seed):
    async def scene(world):
        async with under_load(world):
            await world.reach(10, within_s=60)
            await getattr(world, how)("m1")
            height = world.ledger.height
            await world.reach(height + 10, within_s=60)
            world.start("m1")
            await world.reach(height + 12, within_s=60)

    play(scene, seed)


@pytest.mark.attack("A11", "B6")
@pytest.mark.parametrize("sync", range(1, 9))
def test_power_that_fails_in_any_sync_loses_no_promise(sync):
    async def scene(world):
        async with under_load(world) as load:
            host = world.hosts["m2"]
            for _ in range(4):
                host.disk.lose_power_at = host.disk.syncs + sync
                await world.until(lambda: not host.is_up, within_s=60, what="the power cut")
                world.start("m2")
                await world.reach(world.ledger.height + 1, within_s=60)
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)

    play(scene, seed=sync)


@pytest.mark.attack("A13", "B6")
def test_a_block_attested_before_a_restart_is_committed_after_it():
    async def scene(world):
        miner = world.identities["m1"].miner_id
        world.start()
        await world.reach(1, within_s=20)
        # Without m0, the others need m1.
        await world.kill("m0")

        def has_attested():
            last = world.promises.last(miner)
            return last.height > world.ledger.height and last.phase == Phase.PREPARE

        for _ in range(3):
            await world.until(has_attested, within_s=60, what="the PREPARE of m1")
            await world.kill("m1")
            await asyncio.sleep(1)
            world.start("m1")
            await world.reach(world.ledger.height + 1, within_s=60)

    play(scene, quality=LinkQuality(latency_us_min=200_000, latency_us_max=200_000))


@pytest.mark.attack("A1")
def test_one_of_four_down_does_not_stop_the_chain():
    async def scene(world):
        async with under_load(world) as load:
            await world.kill("m3")
            await world.reach(world.ledger.height + 20, within_s=60)
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)
        load.check_receipts()

    play(scene)


@pytest.mark.attack("A4")
def test_two_of_four_down_commit_nothing_and_go_on_when_they_return():
    async def scene(world):
        async with under_load(world) as load:
            await world.reach(5, within_s=60)
            await world.kill("m0")
            await world.crash("m1")
            await asyncio.sleep(2)
            height = world.ledger.height
            await asyncio.sleep(60)
            assert world.ledger.height == height
            world.start("m0", "m1")
            took_s = await world.reach(height + 1, within_s=30)
            assert took_s <= 30
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)

    play(scene)


@pytest.mark.attack("A13")
def test_all_down_at_once_come_back():
    async def scene(world):
        async with under_load(world) as load:
            for _ in range(3):
                await world.reach(world.ledger.height + 5, within_s=60)
                for name in world.up():
                    await world.crash(name)
                await asyncio.sleep(3)
                world.start()
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)

    play(scene)


@pytest.mark.attack("A15")
def test_a_node_that_starts_empty_catches_up():
    async def scene(world):
        names = [name for name in world.hosts if name != "o0"]
        world.start(*names)
        async with under_load_of(world, names):
            await world.reach(40, *names, within_s=100)
            world.start("o0")
            await world.reach(world.ledger.height, within_s=20)
            await world.reach(world.ledger.height + 5, within_s=20)

    play(scene, observers=1)


@asynccontextmanager
async def under_load_of(world, names):
    load = Workload(world)
    await load.prepare()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run())
        yield load
        task.cancel()


@pytest.mark.attack("A14", "B8")
def test_a_miner_whose_disk_was_lost_catches_up_and_votes_again():
    async def scene(world):
        async with under_load(world) as load:
            await world.reach(10, within_s=60)
            await world.kill("m2")
            world.hosts["m2"].wipe()
            world.start("m2")
            await world.reach(world.ledger.height + 5, within_s=60)
            # Without m3, nothing is committed unless m2 votes.
            await world.kill("m3")
            await world.reach(world.ledger.height + 5, within_s=60)
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)

    play(scene)


@pytest.mark.parametrize("seed", range(3))
def test_messages_that_get_lost_delay_blocks_only(seed):
    async def scene(world):
        async with under_load(world) as load:
            await world.reach(30, within_s=300)
        world.network.quality = LinkQuality()
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)
        load.check_receipts()

    play(scene, seed, quality=LinkQuality(loss_ppm=50_000, duplicate_ppm=20_000))


def test_sessions_that_break_all_the_time_delay_blocks_only():
    async def scene(world):
        async with under_load(world) as load:
            await world.reach(30, within_s=300)
        world.network.quality = LinkQuality()
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)

    play(scene, quality=LinkQuality(break_ppm=5_000))


@pytest.mark.attack("A16")
def test_a_partition_commits_on_the_side_of_the_quorum_alone():
    async def scene(world):
        async with under_load(world) as load:
            await world.reach(5, within_s=60)
            world.network.partition(["m0"], ["m1", "m2", "m3"])
            await asyncio.sleep(1)
            height = world.node("m0").chain.height
            await world.reach(height + 10, "m1", "m2", "m3", within_s=60)
            assert world.node("m0").chain.height == height
            world.network.heal_all()
            await world.reach(world.ledger.height, within_s=30)
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)

    play(scene)


def test_a_full_disk_stops_the_node_cleanly_and_room_brings_it_back():
    async def scene(world):
        async with under_load(world) as load:
            await world.reach(5, within_s=60)
            host = world.hosts["m0"]
            host.disk.full = True
            await world.until(lambda: not host.is_up, within_s=60, what="the stop")
            await world.reach(world.ledger.height + 5, within_s=60)
            host.disk.full = False
            world.start("m0")
            await world.reach(world.ledger.height + 2, within_s=60)
        await load.commit_at_each(within_s=ROUND_TIMEOUTS_S)

    play(scene)


def test_verdicts_of_the_detectors_reach_the_chain_once_each():
    async def scene(world):
        async with under_load(world):
            await world.reach(30, within_s=100)
        await asyncio.sleep(5)

    world = play(scene, seed=5)

    kinds = [
        (transaction.payload.kind, transaction.payload.sender, transaction.payload.body)
        for entry in world.ledger.blocks
        for transaction in entry.block.transactions
    ]
    verdicts = [entry for entry in kinds if entry[0] == "verdict"]
    assert len(verdicts) == len(set(verdicts))
    assert {sender for _, sender, _ in verdicts} == {
        identity.miner_id for identity in world.identities.values()
    }

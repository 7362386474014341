"""Clocks that are wrong, drift and jump: the chain's time stays true, and the chain goes on.

DESIGN rule 13; ATTACKS C2 to C4. Timers never look at the wall clock, so no scene needs more rounds
than those in which a miner with a wrong clock proposes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chain.parameters import Parameters
from chain.types import Address
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

SECOND_MS = 1_000
HOUR_MS = 3_600 * SECOND_MS
PARAMETERS = Parameters(heartbeat_ms=5_000)
PRECISION_MS = PARAMETERS.clock_precision_ms
LATE_MS = 20 * SECOND_MS
"""A block is committed at most so long after its time: a few rounds, with one liar or none."""
WRONG = "the clock of this node is wrong; it takes no part until that is mended"
RIGHT = "the clock of this node is right again"


class TrueTime:
    """Watches that the time of each block is what an exact clock showed, within the rule."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._height = world.ledger.height

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            entries = self._world.ledger.blocks[self._height :]
            self._height += len(entries)
            for entry in entries:
                late_ms = self._world.wall_ms() - entry.block.header.time_ms
                assert -PRECISION_MS <= late_ms <= LATE_MS, f"a block of {late_ms} ms ago"


@asynccontextmanager
async def under_load(world: World, *, true_time: bool = True) -> AsyncIterator[Workload]:
    world.start()
    load = Workload(world)
    await load.prepare(within_s=60)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(load.run())]
        if true_time:
            tasks.append(group.create_task(TrueTime(world).watch()))
        yield load
        for task in tasks:
            task.cancel()


def skew(world: World, amount_ms: int, *names: str) -> None:
    for name in names:
        world.hosts[name].clock.skew_ms = amount_ms


def miner(world: World, name: str) -> Address:
    return world.identities[name].miner_id


def proposers(world: World, since: int) -> set[Address]:
    return {entry.block.header.proposer for entry in world.ledger.blocks[since:]}


def told(world: World, event: str) -> set[str]:
    return {name for name, said, _ in world.log if said == event}


def check_calm(world: World) -> None:
    """A wrong clock is nobody's lie, and time is monotone by the rule that the ledger checks."""
    assert world.blames == []
    times = [entry.block.header.time_ms for entry in world.ledger.blocks]
    assert times == sorted(set(times))


@pytest.mark.parametrize("amount_s", [-3_600, -60, -10, 10, 60, 3_600])
def test_c2_a_miner_whose_clock_is_wrong_is_passed_over_and_says_so(amount_s: int):
    """One that is behind may propose where blocks are frequent: a millisecond after the parent."""

    async def scene(world: World) -> None:
        async with under_load(world) as load:
            skew(world, amount_s * SECOND_MS, "m1")
            begun = world.ledger.height + 2
            await world.reach(begun + 16, within_s=200)
            assert amount_s < 0 or miner(world, "m1") not in proposers(world, begun)
            await world.until(lambda: told(world, WRONG) == {"m1"}, within_s=60, what="a word")
            offset_ms = world.node("m1").clock_offset_ms()
            assert offset_ms is not None
            assert abs(offset_ms - amount_s * SECOND_MS) < PRECISION_MS

            skew(world, 0, "m1")
            mended = world.ledger.height
            await world.until(
                lambda: miner(world, "m1") in proposers(world, mended),
                within_s=200,
                what="a block of the mended miner",
            )
            await world.until(lambda: told(world, RIGHT) == {"m1"}, within_s=60, what="a word")
        await load.commit_at_each(within_s=60)

    check_calm(World(1, Settings(parameters=PARAMETERS)).run(scene))


def test_c2_as_many_wrong_clocks_as_there_may_be_liars_change_nothing():
    async def scene(world: World) -> None:
        async with under_load(world):
            skew(world, HOUR_MS, "m1")
            skew(world, -HOUR_MS, "m4")
            begun = world.ledger.height + 2
            await world.reach(begun + 16, within_s=300)
            assert miner(world, "m1") not in proposers(world, begun)
            await world.until(lambda: told(world, WRONG) == {"m1", "m4"}, within_s=60, what="words")

    check_calm(World(2, Settings(miners=7, parameters=PARAMETERS)).run(scene))


@pytest.mark.parametrize("amount_ms", [HOUR_MS, -HOUR_MS])
def test_c2_an_idle_chain_keeps_its_heartbeat_whatever_one_clock_shows(amount_ms: int):
    """A clock that is ahead sees a heartbeat due at every moment, and wakes nobody for it."""

    async def scene(world: World) -> None:
        world.start()
        await world.reach(1, within_s=30)
        skew(world, amount_ms, "m1")
        height = world.ledger.height
        await asyncio.sleep(100)
        rounds = [entry.block.header.proposal_round for entry in world.ledger.blocks[height:]]
        assert 10 <= len(rounds) <= 100 * SECOND_MS / PARAMETERS.heartbeat_ms + 1
        # Those in which it was its turn; then it is passed over.
        assert sum(rounds) <= 3

    check_calm(World(3, Settings(parameters=PARAMETERS)).run(scene))


def test_c2_rates_and_lifetimes_follow_the_time_of_blocks_not_of_one_miner():
    async def scene(world: World) -> None:
        async with under_load(world) as load:
            skew(world, HOUR_MS, "m1")
            await world.reach(world.ledger.height + 20, within_s=200)
            accepted = len(load.accepted)
            assert accepted > 20
        assert load.check_receipts() > 0

    check_calm(World(4, Settings(parameters=PARAMETERS)).run(scene))


@pytest.mark.parametrize("seed", range(2))
def test_c3_small_steps_of_every_clock_at_any_moment_of_a_round_cost_no_round(seed: int):
    """Within the precision: what NTP does on honest machines."""

    async def scene(world: World) -> None:
        random = world.random("steps")
        async with under_load(world):
            begun = world.ledger.height
            while world.ledger.height < begun + 20:
                for host in world.hosts.values():
                    host.clock.skew_ms = random.randint(-PRECISION_MS // 2, PRECISION_MS // 2)
                await asyncio.sleep(random.uniform(0.001, 0.2))
            rounds = {entry.block.header.proposal_round for entry in world.ledger.blocks[begun:]}
            assert rounds == {0}

    check_calm(World(seed, Settings(parameters=PARAMETERS)).run(scene))


@pytest.mark.parametrize("seed", range(2))
def test_c3_one_clock_that_jumps_both_ways_in_the_midst_of_rounds_stops_nothing(seed: int):
    async def scene(world: World) -> None:
        random = world.random("jumps")
        async with under_load(world):
            begun = world.ledger.height
            while world.ledger.height < begun + 20:
                skew(world, random.choice((-1, 0, 1)) * random.randint(0, HOUR_MS), "m2")
                await asyncio.sleep(random.uniform(0.01, 1))

    check_calm(World(seed, Settings(parameters=PARAMETERS)).run(scene))


def test_c3_the_timers_of_a_node_do_not_see_its_wall_clock():
    async def scene(world: World) -> None:
        world.start()
        await world.reach(1, within_s=30)
        for name in ("m0", "m1"):
            await world.kill(name)
        await asyncio.sleep(20)
        before = world.node("m2").consensus()
        skew(world, HOUR_MS, "m2")
        await asyncio.sleep(0.001)
        after = world.node("m2").consensus()
        assert before is not None
        assert after is not None
        assert (after.round, after.deadline_ns) == (before.round, before.deadline_ns)

    World(5, Settings(parameters=PARAMETERS)).run(scene)


def test_c3_clocks_that_drift_apart_are_told_before_they_stop_the_chain():
    """One runs faster by a tenth, as no quartz does, to be seconds off within half a minute."""

    async def scene(world: World) -> None:
        for name, ppm in (("m0", 100), ("m1", 100_000), ("m2", -100)):
            world.hosts[name].clock.drift(ppm)
        async with under_load(world):
            await asyncio.sleep(30)
            begun = world.ledger.height
            await world.reach(begun + 10, within_s=100)
            assert told(world, WRONG) == {"m1"}
            assert miner(world, "m1") not in proposers(world, begun)

    check_calm(World(6, Settings(parameters=PARAMETERS)).run(scene))


@pytest.mark.parametrize("amount_ms", [HOUR_MS, -HOUR_MS])
def test_c2_more_wrong_clocks_than_that_stop_the_chain_until_they_are_mended(amount_ms: int):
    """Two of four: no block is timely for three. Everything goes on once they are right."""

    async def scene(world: World) -> None:
        async with under_load(world):
            skew(world, amount_ms, "m1", "m2")
            await asyncio.sleep(5)
            stopped = world.ledger.height
            await asyncio.sleep(120)
            assert world.ledger.height <= stopped + 2
            skew(world, 0, "m1", "m2")
            await world.reach(world.ledger.height + 3, within_s=60)

    World(7, Settings(parameters=PARAMETERS)).run(scene)


def test_c2_a_quorum_that_is_ahead_takes_the_chain_along_and_it_waits_when_they_are_mended():
    ahead_ms = 20 * SECOND_MS

    async def scene(world: World) -> None:
        async with under_load(world, true_time=False):
            skew(world, ahead_ms, "m0", "m1", "m2")
            await world.reach(world.ledger.height + 8, within_s=100)
            await world.until(lambda: "m3" in told(world, WRONG), within_s=60, what="a word")
            skew(world, 0, "m0", "m1", "m2")
            waited_s = await world.reach(world.ledger.height + 3, within_s=100)
            assert waited_s > 10

    check_calm(World(8, Settings(parameters=PARAMETERS)).run(scene))

"""Stalls of whole nodes, each named rightly by those that stand still, and compared as one."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from cli.stall import Answer, compare
from node.diagnosis import Diagnosis
from node.rpc import render
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

MINERS = ("m0", "m1", "m2", "m3")
STALL_S = 30
"""Long enough for sessions to end, dials to time out and several rounds to fail."""


def diagnosis(world: World, name: str) -> Diagnosis:
    found = world.node(name).diagnosis()
    assert found is not None, "agreement has begun"
    return found


def codes(world: World, *names: str) -> set[str]:
    return {diagnosis(world, name).code for name in names}


def together(world: World) -> str:
    """Return what an operator hears who asks all nodes."""
    answers = []
    for name in MINERS:
        host = world.hosts[name].node
        document: Any = None
        if host is not None:
            snapshot = host.consensus()
            assert snapshot is not None
            document = render.consensus(
                snapshot, diagnosis(world, name), now_ns=host.monotonic_ns()
            )
        answers.append(Answer(name=name, document=document))
    return compare(answers).code


def stalled(world: World, break_it, watch) -> None:
    """Let `break_it` stop a busy chain and `watch` look at it, while clients go on sending."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=4)
        await load.prepare()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(load.run())
            await asyncio.sleep(3)
            assert together(world) in ("working", "idle")
            await break_it(world)
            await asyncio.sleep(STALL_S)
            watch(world)
            task.cancel()

    world.run(scene)


def given_up(world: World) -> list[MutableMapping[str, Any]]:
    """Return what nodes have told of rounds that failed."""
    return [fields for _, event, fields in world.log if event == "round given up"]


async def lose_two(world: World) -> None:
    await world.kill("m2")
    await world.kill("m3")


async def cut_in_half(world: World) -> None:
    world.network.partition(["m0", "m1"], ["m2", "m3"])


async def slow_disks(world: World) -> None:
    for name in ("m1", "m2"):
        world.hosts[name].disk.latency_ns = 3_000_000_000


async def wrong_clocks(world: World) -> None:
    for name, ms in (("m1", 60_000), ("m2", -60_000)):
        world.hosts[name].clock.skew_ms += ms


def test_a_lost_quorum():
    def watch(world: World) -> None:
        assert codes(world, "m0", "m1") == {"quorum_lost"}
        assert "hears 2 of 4" in diagnosis(world, "m0").text
        assert together(world) == "quorum_lost"

    stalled(World(1, Settings()), lose_two, watch)


def test_a_partition():
    def watch(world: World) -> None:
        assert codes(world, *MINERS) == {"partition"}
        assert together(world) == "partition"

    stalled(World(2, Settings()), cut_in_half, watch)


def test_slow_disks():
    def watch(world: World) -> None:
        assert codes(world, "m1", "m2") == {"slow_disk"}
        assert "slow_disk" not in codes(world, "m0", "m3")
        assert together(world) == "slow_disk"

    stalled(World(3, Settings()), slow_disks, watch)


def test_wrong_clocks():
    def watch(world: World) -> None:
        assert "clock_skew" in codes(world, *MINERS)
        assert together(world) == "clock_skew"

    stalled(World(4, Settings()), wrong_clocks, watch)


def test_a_clock_that_was_mended_is_not_named_any_more():
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=4)
        await load.prepare()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(load.run())
            await asyncio.sleep(3)
            world.hosts["m0"].clock.skew_ms += 60_000
            await asyncio.sleep(STALL_S)
            task.cancel()
        assert codes(world, "m0") == {"clock_skew"}
        await asyncio.sleep(STALL_S)
        world.hosts["m0"].clock.skew_ms -= 60_000
        assert "clock_skew" not in codes(world, "m0")

    World(8, Settings()).run(scene)


@pytest.mark.parametrize("lost", ["m0", "m1", "m2", "m3"])
def test_one_silent_miner_is_passed_over_and_the_chain_is_well(lost: str):
    async def lose_one(world: World) -> None:
        await world.kill(lost)

    def watch(world: World) -> None:
        assert together(world) in ("working", "idle")

    stalled(World(5, Settings()), lose_one, watch)


def test_a_proposal_that_does_not_come_is_what_the_round_lacked():
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        snapshot = world.node("m0").consensus()
        assert snapshot is not None
        proposer = next(n for n in MINERS if world.identities[n].miner_id == snapshot.proposer)
        await world.kill(proposer)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(load.run())
            await world.until(lambda: bool(given_up(world)), within_s=30, what="a failed round")
            task.cancel()
        assert given_up(world)[0]["lacked"] == "proposal"

    World(6, Settings()).run(scene)


def test_a_miner_without_memory_says_that_it_signs_nothing():
    async def scene(world: World) -> None:
        world.start()
        await world.reach(2, within_s=30)
        await world.kill("m3")
        world.hosts["m3"].wipe()
        world.network.partition(["m3"], ["m0", "m1", "m2"])
        world.start("m3")
        await asyncio.sleep(1)
        assert codes(world, "m3") == {"signing_nothing"}

    World(7, Settings()).run(scene)

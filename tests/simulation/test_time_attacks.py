"""Wrong clocks: of a proposer, of a miner that is not to blame, and jumps in either direction."""

import asyncio

import pytest

from chain.limits import parse_limits
from tests.simulation.workload import FEW, LIMITED, Workload
from tests.simulation.world import Settings, World

SLACK_MS = 5_000
"""Between the clocks of a scene and the time of a block, at the most."""


async def under_load(world: World, heights: int) -> None:
    load = Workload(world, per_second=5)
    async with asyncio.TaskGroup() as group:
        clients = group.create_task(load.run())
        await world.reach(world.ledger.height + heights, within_s=300)
        clients.cancel()


def check_times(world: World, *, until_ms: int) -> None:
    """See that time only rises, and stays with the clocks of the others."""
    times = [entry.block.header.time_ms for entry in world.ledger.blocks]
    assert times == sorted(set(times))
    assert times[-1] <= until_ms + SLACK_MS


def check_rates(world: World) -> None:
    """See that no window of the limited device holds more than it may, by the blocks' own time."""
    (window,) = parse_limits(FEW)
    device = Workload(world).client.devices[LIMITED].id
    sent = [
        entry.block.header.time_ms
        for entry in world.ledger.blocks
        for transaction in entry.block.transactions
        if transaction.payload.sender == device
    ]
    assert sent
    for index in range(len(sent) - window.capacity):
        assert sent[index + window.capacity] - sent[index] >= 1_000 * window.seconds


@pytest.mark.attack("C2")
@pytest.mark.parametrize("skew_ms", [-3_600_000, -10_000, 10_000, 3_600_000])
def test_a_proposer_whose_clock_is_wrong_shifts_no_time(skew_ms: int):
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        world.hosts["m1"].clock.skew_ms = skew_ms
        await under_load(world, 24)
        world.hosts["m1"].clock.skew_ms = 0
        await load.commit_at_each(within_s=30)
        check_times(world, until_ms=world.wall_ms())
        check_rates(world)

    world = World(1, Settings(detectors=False)).run(scene)

    # Behind, it proposes at one millisecond after the parent, which harms nobody; ahead, never.
    wrong = world.identities["m1"].miner_id
    late = world.ledger.blocks[10:-4]
    own = [entry for entry in late if entry.block.header.proposer == wrong]
    assert not own if skew_ms > 0 else len(own) <= len(late) / 3


@pytest.mark.attack("C3")
def test_clocks_that_jump_to_and_fro_start_no_round_and_stop_no_block():
    """Each miner's wall clock jumps by less than the precision, again and again; timers do not."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=5)
        await load.prepare()
        random = world.random("jumps")
        begun = world.ledger.height
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            for _ in range(60):
                await asyncio.sleep(0.25)
                clock = world.hosts[random.choice(sorted(world.hosts))].clock
                clock.skew_ms = random.randint(-200, 200)
            clients.cancel()
        await load.commit_at_each(within_s=30)
        check_times(world, until_ms=world.wall_ms())
        rounds = [entry.block.header.proposal_round for entry in world.ledger.blocks[begun:]]
        assert len(rounds) > 20
        assert not any(rounds)

    World(1, Settings(detectors=False)).run(scene)


@pytest.mark.attack("C3")
@pytest.mark.parametrize("jump_ms", [-86_400_000, 86_400_000])
def test_a_clock_that_jumps_by_a_day_costs_one_miner_its_turns_and_nobody_else_anything(
    jump_ms: int,
):
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        world.hosts["m2"].clock.skew_ms = jump_ms
        await under_load(world, 16)
        # Put right, it takes its part as before: without m0 nothing is decided unless it votes.
        world.hosts["m2"].clock.skew_ms = 0
        await world.kill("m0")
        await under_load(world, 8)
        world.start("m0")
        await load.commit_at_each(within_s=60)
        check_times(world, until_ms=world.wall_ms())

    World(1, Settings(detectors=False)).run(scene)

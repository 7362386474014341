"""A partition at every step of agreement, healed sooner or later: nothing differs, all goes on.

The cut is made in the instant in which the first message of a type leaves its sender, so that each
step is met; which side is left with a quorum, if any, is tried systematically.
"""

import asyncio
from itertools import product

import pytest

from chain.eligibility import eligible_miners, proposer_of
from chain.state import miner_sets_of
from chain.types import Round
from consensus.messages import Phase
from tests.simulation.moments import lose_nothing, when_said
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

HEALED_AFTER_S = (0.3, 6.0)
"""Within the round, and after some rounds have failed."""
GROUPS = ("proposer alone", "another alone", "proposer with one", "everybody alone")


def groups_of(world: World, which: str) -> tuple[list[str], ...]:
    """Return who is cut off from whom."""
    state = world.ledger.tip.state
    miners, _ = miner_sets_of(state)
    height = world.ledger.tip.next_height
    proposer = proposer_of(eligible_miners(state, miners, height), height, Round(0))
    names = {world.identities[name].miner_id: name for name in world.identities}
    first = names[proposer]
    others = [name for name in sorted(world.identities) if name != first]
    match which:
        case "proposer alone":
            return [first], others
        case "another alone":
            return [others[0]], [first, *others[1:]]
        case "proposer with one":
            return [first, others[0]], others[1:]
        case _:
            return tuple([name] for name in sorted(world.identities))


@pytest.mark.attack("A16")
@pytest.mark.parametrize("which", GROUPS)
@pytest.mark.parametrize("phase", [Phase.PRE_PREPARE, Phase.PREPARE, Phase.COMMIT])
def test_a_partition_at_any_step_changes_nothing_but_time(phase: Phase, which: str):
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=4)
        await load.prepare()
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            for healed_after_s in HEALED_AFTER_S:
                is_cut = asyncio.Event()

                def cut(is_cut: asyncio.Event = is_cut) -> None:
                    world.network.partition(*groups_of(world, which))
                    is_cut.set()

                when_said(world, height=world.ledger.height + 1, phase=phase, act=cut)
                await asyncio.wait_for(is_cut.wait(), timeout=30)
                await asyncio.sleep(healed_after_s)
                world.network.heal_all()
                await world.reach(world.ledger.height + 2, within_s=60)
            clients.cancel()
        lose_nothing(world)
        await load.commit_at_each(within_s=30)
        load.check_receipts()

    World(1, Settings(detectors=False)).run(scene)


@pytest.mark.attack("A16", "A6")
@pytest.mark.parametrize("which", GROUPS)
def test_a_partition_in_the_midst_of_a_round_change_changes_nothing_but_time(which: str):
    """The proposer of each height is silenced first, so that every height has a round change."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=4)
        await load.prepare()
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            for healed_after_s in HEALED_AFTER_S:
                groups = groups_of(world, "proposer alone")
                world.network.partition(*groups)
                is_cut = asyncio.Event()

                def cut(is_cut: asyncio.Event = is_cut) -> None:
                    world.network.heal_all()
                    world.network.partition(*groups_of(world, which))
                    is_cut.set()

                when_said(world, height=world.ledger.height + 1, phase=Phase.ROUND_CHANGE, act=cut)
                await asyncio.wait_for(is_cut.wait(), timeout=30)
                await asyncio.sleep(healed_after_s)
                world.network.heal_all()
                await world.reach(world.ledger.height + 2, within_s=60)
            clients.cancel()
        lose_nothing(world)
        await load.commit_at_each(within_s=30)

    World(1, Settings(detectors=False)).run(scene)


@pytest.mark.attack("A16", "B6", "E1")
@pytest.mark.parametrize(("phase", "power_fails"), list(product(Phase, (False, True))))
def test_a_miner_that_ends_at_any_step_takes_its_part_again(phase: Phase, power_fails: bool):
    """The others cannot decide without it: m3 is down."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=4)
        await load.prepare()
        await world.kill("m3")
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            for name in ("m0", "m1", "m2"):
                is_down = asyncio.Event()

                def end(name: str = name, is_down: asyncio.Event = is_down) -> None:
                    world.hosts[name].go_silent()
                    is_down.set()

                when_said(world, height=world.ledger.height + 1, phase=phase, act=end)
                await asyncio.wait_for(is_down.wait(), timeout=60)
                await (world.crash if power_fails else world.kill)(name)
                world.start(name)
                await world.reach(world.ledger.height + 2, "m0", "m1", "m2", within_s=60)
            clients.cancel()
        lose_nothing(world)
        world.start("m3")
        await load.commit_at_each(within_s=30)

    World(1, Settings(detectors=False)).run(scene)

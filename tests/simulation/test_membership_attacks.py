"""Miners that leave and come back while nodes end, rounds fail and clients send."""

import asyncio

import pytest

from chain.kinds.miners import RemoveMiner
from chain.state import miner_sets_of
from consensus.messages import Phase
from tests.simulation.aimed import Aim, change_members, restore_member, rotation
from tests.simulation.moments import lose, lose_nothing, when_said
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World


@pytest.mark.attack("E1")
@pytest.mark.parametrize("seed", range(1, 6))
def test_miners_leave_and_come_back_while_others_restart(seed: int):
    Aim(trouble=rotation).play(seed)


@pytest.mark.attack("E1")
@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("heights", [1, 2])
def test_a_node_that_ends_at_any_step_around_a_change_of_the_set_knows_who_decides(
    phase: Phase, heights: int
):
    """The set changes two heights after the deciding vote; m0 ends at one of those between."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=4)
        await load.prepare()
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            leaver = RemoveMiner(miner=world.identities["m3"].miner_id)
            await change_members(world, leaver, ["m0", "m1", "m2"])
            await _end_at(world, phase, heights)
            await world.reach(world.ledger.height + 2, "m0", "m1", "m2", within_s=60)
            current, _ = miner_sets_of(world.ledger.tip.state)
            assert len(current) == 3
            await restore_member(world, "m3", ["m0", "m1", "m2"])
            await _end_at(world, phase, heights)
            await world.reach(world.ledger.height + 2, within_s=60)
            clients.cancel()
        lose_nothing(world)
        await load.commit_at_each(within_s=30)
        load.check_receipts()

    World(1, Settings(detectors=False)).run(scene)


async def _end_at(world: World, phase: Phase, heights: int) -> None:
    """End m0 when a message of this type leaves, so many heights from now, and start it again."""
    height = world.ledger.height + heights
    is_down = asyncio.Event()

    def end() -> None:
        world.hosts["m0"].go_silent()
        is_down.set()

    if phase == Phase.ROUND_CHANGE:
        # There is one only where a proposal is lost.
        lose(world, lambda source, target, message: message.phase == Phase.PRE_PREPARE)
        await asyncio.sleep(1)
        height = world.ledger.height + 1
    when_said(world, height=height, phase=phase, act=end)
    await asyncio.wait_for(is_down.wait(), timeout=60)
    await world.crash("m0")
    world.start("m0")

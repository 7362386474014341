"""Changes of the miners, with a failed round and a power cut in their midst, at every step."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from chain.kinds.miners import MinerPropose, RemoveMiner
from chain.kinds.vote import MinerVote
from chain.state import miner_sets_of
from chain.types import Height
from tests.simulation.acceptance import addition_of, replacement_of
from tests.simulation.test_evidence import govern
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

STEPS = range(1, 13)
"""At which sync, behind the vote that decides, the power fails: over all of the two heights until
the change is in effect, and the first one after it."""

pytestmark = pytest.mark.attack("E1")


def addition(world: World, name: str) -> MinerPropose:
    """Return the proposal to let the observer `name` be a miner."""
    return MinerPropose(change=addition_of(world, name))


def replacement(world: World, name: str) -> MinerPropose:
    """Return the proposal to give the miner `name` its next key."""
    return MinerPropose(change=replacement_of(world, name))


def removal(world: World, name: str) -> MinerPropose:
    """Return the proposal to remove the miner `name`."""
    return MinerPropose(change=RemoveMiner(miner=world.identities[name].miner_id))


def members(world: World) -> set[str]:
    """Return the names of the miners of the next height."""
    current, _ = miner_sets_of(world.ledger.tip.state)
    return {name for name, known in world.identities.items() if known.miner_id in current}


def world_of(seed: int) -> World:
    world = World(seed, Settings(observers=1, detectors=False))
    world.give_next_key("m3")
    return world


CHANGES = {
    "add": (addition, "o0", {"m0", "m1", "m2", "m3", "o0"}),
    "remove": (removal, "m3", {"m0", "m1", "m2"}),
    "replace": (replacement, "m3", {"m0", "m1", "m2", "m3"}),
}


async def decided(world: World, body: MinerPropose) -> None:
    """Let a quorum agree on a change; return when the vote that decides is on the chain."""
    proposal = await govern(world, "miner.propose", body, "m0")
    for voter in ("m1", "m2"):
        await govern(world, "miner.vote", MinerVote(proposal=proposal, approve=True), voter)


@pytest.mark.parametrize("victim", ["m1", "m3"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_power_cut_at_any_step_and_a_failed_round_do_not_stop_a_change(change, victim):
    propose, name, expected = CHANGES[change]

    async def scene(world, step):
        world.start()
        load = Workload(world)
        await load.prepare()
        proposal = await govern(world, "miner.propose", propose(world, name), "m0")
        await govern(world, "miner.vote", MinerVote(proposal=proposal, approve=True), "m1")
        host = world.hosts[victim]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(load.run())
            host.disk.lose_power_at = host.disk.syncs + step
            # One miner is cut off as well, so that its rounds fail while the power is away.
            world.network.partition(["m0"], ["m1", "m2", "m3", "o0"])
            vote = MinerVote(proposal=proposal, approve=True)
            client = load.client
            voter = world.identities["m2"]
            transaction = client.make("miner.vote", vote, sender=voter.miner_id, key=voter.key)
            await world.node("m2").submit([transaction.wire])
            await asyncio.sleep(3)
            world.network.heal_all()
            if not host.is_up:
                world.start(victim)
            host.disk.lose_power_at = None
            await world.until(
                lambda: transaction.id in world.ledger.places, within_s=120, what="the vote"
            )
            await world.until(lambda: members(world) == expected, within_s=120, what="the change")
            task.cancel()
        await world.reach(world.ledger.height + 5, within_s=120)
        if change == "replace":
            assert any(
                who == "m3" and event == "the miner's key was replaced; the next key signs"
                for who, event, _ in world.log
            )

    for step in STEPS:
        world_of(step).run(partial(scene, step=step))


def test_miners_come_and_go_one_behind_the_other_and_blocks_go_on():
    async def scene(world):
        world.start()
        load = Workload(world)
        await load.prepare()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(load.run())
            await decided(world, addition(world, "o0"))
            await world.until(lambda: len(members(world)) == 5, within_s=60, what="five")
            proposal = await govern(world, "miner.propose", removal(world, "m1"), "m0")
            for voter in ("m2", "m3", "o0"):
                vote = MinerVote(proposal=proposal, approve=True)
                await govern(world, "miner.vote", vote, voter)
            await world.until(lambda: len(members(world)) == 4, within_s=60, what="four")
            proposal = await govern(world, "miner.propose", replacement(world, "m3"), "m0")
            for voter in ("m2", "o0"):
                vote = MinerVote(proposal=proposal, approve=True)
                await govern(world, "miner.vote", vote, voter)
            height = world.ledger.height
            await world.reach(height + 8, within_s=60)
            task.cancel()
        assert world.node("m3").consensus().signing == "yes"
        assert world.node("m1").consensus().signing == "observer"

    world = world_of(1).run(scene)

    assert members(world) == {"m0", "m2", "m3", "o0"}
    assert world.blames == []


def test_a_node_with_the_old_key_alone_signs_nothing_and_says_so():
    async def scene(world):
        world.start()
        await world.reach(2, within_s=20)
        next_key = world.identities["m3"].next_key
        host = world.hosts["m3"]
        await world.kill("m3")
        host.identity = replace(host.identity, next_key=None)
        world.start("m3")
        await world.reach(3, within_s=60)
        assert next_key is not None
        await decided(world, replacement(world, "m3"))
        await world.reach(Height(world.ledger.height + 4), within_s=60)
        assert world.node("m3").consensus().signing == "key-replaced"

    world = world_of(2).run(scene)

    said = [event for who, event, _ in world.log if who == "m3" and "was replaced" in event]
    assert len(said) == 1
    assert "signs nothing" in said[0]


def test_a_miner_that_is_cut_off_while_its_key_is_replaced_is_blamed_by_nobody():
    """It goes on in its old height with its old key, until it hears what it has missed."""

    async def scene(world):
        world.start()
        load = Workload(world)
        await load.prepare()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(load.run())
            proposal = await govern(world, "miner.propose", replacement(world, "m3"), "m0")
            vote = MinerVote(proposal=proposal, approve=True)
            await govern(world, "miner.vote", vote, "m1")
            world.network.partition(["m3"], ["m0", "m1", "m2", "o0"])
            await govern(world, "miner.vote", vote, "m2")
            decided_at = world.ledger.height
            await world.until(
                lambda: world.ledger.height > decided_at + 4, within_s=60, what="the change"
            )
            await asyncio.sleep(5)
            world.blames.clear()
            world.network.heal_all()
            await world.reach(world.ledger.height, within_s=60)
            task.cancel()
        await world.reach(world.ledger.height + 5, within_s=60)
        assert world.node("m3").consensus().signing == "yes"

    world = world_of(3).run(scene)

    assert world.blames == []

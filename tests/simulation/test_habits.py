"""A traitor among three honest miners, which has a node and bends what it says.

In every world here the checkers see to it that honest miners agree, commit nothing bad and convict
nobody honest, and clients go on sending; each scene asks besides what comes of the one habit.
"""

import asyncio
from functools import cache

import pytest

from tests.simulation.habits import HABITS
from tests.simulation.traitor import Traitor
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

TRAITOR = "m1"
PLAYS_S = 8.0
PROVABLE = {"votes_twice"}
LUCKY = {"forges_round_changes"}
"""It signs two things for one place as well, but seldom before the same peer."""
UNPROVABLE = set(HABITS) - PROVABLE - LUCKY


@cache
def play(habit: str, *, seed: int = 1) -> World:
    """Play a habit for a while; the world is over when it is returned."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=5)
        async with asyncio.TaskGroup() as group:
            part = group.create_task(Traitor(world, TRAITOR, HABITS[habit]).run())
            await load.prepare(within_s=60)
            clients = group.create_task(load.run())
            await asyncio.sleep(PLAYS_S)
            clients.cancel()
            await load.commit_at_each(within_s=30)
            load.check_receipts()
            part.cancel()

    return World(seed, Settings(hostile=(TRAITOR,), detectors=False)).run(scene)


def is_convicted(world: World) -> bool:
    return world.ledger.is_convicted(world.identities[TRAITOR].miner_id)


def proposed_by_traitor(world: World) -> int:
    traitor = world.identities[TRAITOR].miner_id
    return sum(entry.block.header.proposer == traitor for entry in world.ledger.blocks)


@pytest.mark.attack("A2", "A3", "B1", "B3", "C2", "D2")
@pytest.mark.parametrize("habit", sorted(HABITS))
def test_the_chain_goes_on_beside_one_that(habit: str):
    world = play(habit)

    assert world.ledger.height > 10
    assert {blamed for _, blamed, _, _ in world.blames} <= {TRAITOR}


@pytest.mark.attack("B1")
@pytest.mark.parametrize("habit", sorted(PROVABLE))
def test_what_can_be_proven_is_punished(habit: str):
    assert is_convicted(play(habit))


@pytest.mark.parametrize("habit", sorted(UNPROVABLE))
def test_bad_manners_are_no_proof(habit: str):
    assert not is_convicted(play(habit))


@pytest.mark.attack("A1", "A3")
@pytest.mark.parametrize("habit", ["says_nothing", "says_nothing_at_all", "censors_everybody"])
def test_one_that_does_not_propose_is_passed_over(habit: str):
    world = play(habit)

    failed = [entry.block.header.proposal_round > 0 for entry in world.ledger.blocks]
    assert proposed_by_traitor(world) < 3
    assert sum(failed) < len(failed) / 10


@pytest.mark.attack("D2", "D8")
@pytest.mark.parametrize("habit", ["babbles", "poisons_sync", "claims_other_heights"])
def test_a_nuisance_is_blamed(habit: str):
    assert {blamed for _, blamed, _, _ in play(habit).blames} == {TRAITOR}

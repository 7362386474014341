"""The miners change their own number while the chain runs, as users would have them do it."""

import asyncio
from collections.abc import Sequence

import pytest

from chain.state import miner_sets_of, parameters_of
from chain.types import Address
from tests.simulation.changes import PARAMETERS, Change, Council
from tests.simulation.faults import Fault, can_be_lost, play, spare
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World


def change(what: str, *names: str, amount: int = 0) -> Change:
    return Change(what=what, at_s=0.0, names=names, amount=amount)


def decide(
    *changes: Change, faults: Sequence[Fault] = (), seed: int = 1, **settings
) -> tuple[World, Council]:
    """Have miners decide, through faults, and go on for a few heights after it."""
    found: list[Council] = []

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=1)
        await load.prepare()
        found.append(Council(world, load))
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            trouble = group.create_task(play(world, faults))
            await found[0].play(changes)
            await trouble
            await world.reach(world.ledger.height + 6, within_s=120)
            await load.commit_at_each(within_s=30)
            clients.cancel()

    world = World(seed, Settings(joiners=2, detectors=False, real_signatures=False, **settings))
    return world.run(scene), found[0]


def members(world: World) -> set[str]:
    """Return the names of those that decide the next height."""
    current, _ = miner_sets_of(world.ledger.tip.state)
    return {name for name, identity in world.identities.items() if identity.miner_id in current}


def proposers(world: World, last: int) -> set[Address]:
    return {entry.block.header.proposer for entry in world.ledger.blocks[-last:]}


def test_a_node_that_starts_from_nothing_becomes_a_miner_and_proposes():
    world, council = decide(change("add", "j0"))

    assert council.decided == ["add"]
    assert members(world) == {"m0", "m1", "m2", "m3", "j0"}
    assert world.identities["j0"].miner_id in proposers(world, 6)


def test_a_miner_that_leaves_proposes_no_more_and_may_come_back():
    gone, _ = decide(change("remove", "m2"))
    back, council = decide(change("remove", "m2"), change("add", "m2"))

    assert members(gone) == {"m0", "m1", "m3"}
    assert gone.identities["m2"].miner_id not in proposers(gone, 6)
    assert gone.hosts["m2"].committed == gone.ledger.height
    assert council.decided == ["remove", "add"]
    assert members(back) == {"m0", "m1", "m2", "m3"}


def test_a_miner_that_has_moved_is_found_at_its_new_address():
    world, council = decide(change("move", "m1"))

    assert council.decided == ["move"]
    assert world.hosts["m1"].address != "m1"
    assert world.hosts["m1"].committed == world.ledger.height


def test_a_parameter_has_its_new_value():
    names = [name for name, _ in PARAMETERS]
    world, council = decide(change("parameter", amount=names.index("heartbeat_ms")))

    assert council.decided == ["parameter"]
    assert parameters_of(world.ledger.tip.state).heartbeat_ms == 3_000


@pytest.mark.parametrize("seed", range(3))
def test_changes_are_decided_through_crashes_and_failed_rounds(seed: int):
    """A proposer is down at nearly every step, so that most votes need a later round."""
    faults = [
        Fault(what=what, at_s=at_s, lasts_s=1.5, names=(name,), amount=1 + at_s % 3)
        for at_s, (what, name) in enumerate(
            [("crash", "m0"), ("crash-in-sync", "m1"), ("kill", "m2"), ("crash-at-start", "m3")] * 3
        )
    ]
    world, council = decide(
        change("add", "j0"),
        change("remove", "m1"),
        change("add", "j1"),
        change("move", "m0"),
        faults=faults,
        seed=seed,
    )

    assert council.decided == ["add", "remove", "add", "move"]
    assert members(world) == {"m0", "m2", "m3", "j0", "j1"}
    assert any(entry.block.header.proposal_round > 0 for entry in world.ledger.blocks)


def test_nobody_is_removed_whom_the_others_need():
    world, council = decide(change("remove", "m0"), miners=4, hostile=("m3",))

    # Three miners withstand no liar, and m3 is one.
    assert council.decided == []
    assert members(world) == {"m0", "m1", "m2", "m3"}


def test_liars_lost_disks_and_wrong_clocks_count_together():
    async def scene(world: World) -> None:
        world.start()
        await world.reach(2, within_s=60)
        (miners, *_) = world.miner_sets()
        assert spare(world, miners) == 1
        world.hosts["m0"].clock.skew_ms = 3_600_000
        assert spare(world, miners) == 0
        assert not can_be_lost(world, world.hosts["m1"])
        world.hosts["m0"].clock.set_right()
        await world.kill("m1")
        world.hosts["m1"].wipe()
        assert spare(world, miners) == 0
        world.start("m1")
        await world.until(lambda: spare(world, miners) == 1, within_s=120, what="a signature of m1")

    World(1, Settings(miners=7, hostile=("m6",), real_signatures=False)).run(scene)

"""An older copy of a miner's disk is put back: it signs nothing that contradicts what it forgot.

`tests.simulation.checkers.Promises` watches every message that leaves an honest miner, over all its
lives: two statements at one place, or one behind an earlier one, end the world.
"""

import asyncio

import pytest

from consensus.durable import decode_record, recover
from consensus.messages import Position
from tests.simulation.disk import SimulatedDisk
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

MINER = "m1"
STEPS = range(6)
"""Syncs of one height and the next: own votes, the proposed block, the committed one, the log."""
LATER = (1, 3)
"""How many syncs later the power fails."""


OLDER = "the log of consensus is an older copy; nothing is signed for a while"


def signing(world: World, name: str = MINER) -> str:
    snapshot = world.node(name).consensus()
    assert snapshot is not None
    return snapshot.signing


def last_signed(world: World, name: str = MINER) -> Position:
    last = world.promises.last(world.identities[name].miner_id)
    assert last is not None
    return last


def last_in(disk: SimulatedDisk) -> Position:
    """Return the place of the last signature that a log on a disk remembers."""
    log = disk.open_log()
    last = recover(decode_record(record) for record in log.records()).last
    log.close()
    return last


async def forget(world: World, step: int, later: int, *, unheard: bool = False) -> SimulatedDisk:
    """Take a backup as a sync begins, let the power fail some syncs later; return the backup.

    `unheard`: from the backup on nothing of the miner reaches anybody; so there may be no later
    sync, and it loses its power after a while.
    """
    disk = world.hosts[MINER].disk
    backups: list[SimulatedDisk] = []
    first = disk.syncs + 1 + step

    def take(number: int) -> None:
        if number == first:
            backups.append(disk.image())
            if unheard:
                silence(world)

    disk.on_sync = take
    disk.lose_power_at = first + later
    if unheard:
        await asyncio.sleep(10)
        await world.crash(MINER)
    await world.until(lambda: not world.hosts[MINER].is_up, within_s=60, what="the power cut")
    disk.on_sync = lambda number: None
    (backup,) = backups
    return backup


async def begin(world: World) -> Workload:
    world.start()
    load = Workload(world)
    await load.prepare(within_s=60)
    return load


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("step", STEPS)
def test_b7_a_backup_of_any_step_contradicts_nothing_that_others_have_heard(step: int, later: int):
    async def scene(world: World) -> None:
        load = await begin(world)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            backup = await forget(world, step, later)
            world.hosts[MINER].restore(backup)
            world.start(MINER)
            height = world.ledger.height
            await world.reach(height + 4, within_s=120)
            await world.until(lambda: signing(world) == "yes", within_s=60, what="signing")
            signed = last_signed(world)
            await world.until(lambda: last_signed(world) > signed, within_s=60, what="a vote")
            clients.cancel()

    World(step, Settings()).run(scene)


def silence(world: World) -> None:
    """Let nothing of the miner reach anybody."""
    for other in world.hosts:
        if other != MINER:
            world.network.cut(MINER, other)


@pytest.mark.parametrize("step", STEPS)
def test_b7_with_a_guard_nothing_is_contradicted_that_nobody_has_heard(step: int):
    """What it signed last has reached nobody who could show it; the guard alone knows."""
    forgot: list[bool] = []

    async def scene(world: World) -> None:
        load = await begin(world)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            backup = await forget(world, step, 3, unheard=True)
            forgot.append(last_in(backup) < last_signed(world))
            world.hosts[MINER].restore(backup)
            world.network.heal_all()
            world.start(MINER)
            height = world.ledger.height
            await world.reach(height + 4, within_s=120)
            await world.until(lambda: signing(world) == "yes", within_s=60, what="signing")
            clients.cancel()

    world = World(step, Settings(guarded=True)).run(scene)

    assert forgot == [OLDER in [event for _, event, _ in world.log]]


def test_a_guard_finds_a_backup_from_long_ago_and_says_so():
    async def scene(world: World) -> None:
        load = await begin(world)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            backup = world.hosts[MINER].disk.image()
            await world.reach(world.ledger.height + 5, within_s=60)
            await world.kill(MINER)
            world.hosts[MINER].restore(backup)
            world.start(MINER)
            await world.reach(world.ledger.height + 4, within_s=120)
            await world.until(lambda: signing(world) == "yes", within_s=60, what="signing")
            clients.cancel()

    world = World(1, Settings(guarded=True)).run(scene)

    assert OLDER in [event for _, event, _ in world.log]


def test_a_miner_that_starts_signs_nothing_before_a_quorum_has_shown_what_it_holds():
    async def scene(world: World) -> None:
        load = await begin(world)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            await world.kill(MINER)
            for other in ("m2", "m3"):
                for pair in ((MINER, other), (other, MINER)):
                    world.network.cut(*pair)
            signed = last_signed(world)
            world.start(MINER)
            await asyncio.sleep(20)
            assert signing(world) == "awaiting-peers"
            assert last_signed(world) == signed
            world.network.heal_all()
            await world.until(lambda: last_signed(world) > signed, within_s=60, what="a vote")
            clients.cancel()

    World(2, Settings()).run(scene)


@pytest.mark.parametrize("down", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_a13_a_network_that_restarts_as_a_whole_goes_on(seed: int, down: int):
    """Everybody waits for the others to show what they hold, and shows what it holds meanwhile."""

    async def scene(world: World) -> None:
        load = await begin(world)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            await world.reach(5, within_s=60)
            for name in sorted(world.hosts):
                await world.crash(name)
            await asyncio.sleep(1)
            up = sorted(world.hosts)[down:]
            world.start(*up)
            height = world.ledger.height
            await world.reach(height + 3, *up, within_s=60)
            clients.cancel()

    World(seed, Settings()).run(scene)

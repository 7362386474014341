"""Floods, griefing and lies in sync: bounded, charged to who sends them, and no help to anybody."""

import asyncio
from typing import Any

import pytest

from chain.kinds.device_registry import DeviceUpdate, Revoke, RotateKey, sign_rotation
from chain.types import Digest, Height, Round
from consensus.messages import Prepare
from tests.simulation.aimed import Aim, griefing
from tests.simulation.habits import HABITS
from tests.simulation.hostile import Hostile
from tests.simulation.test_hostile import HOSTILE, among_honest
from tests.simulation.traitor import Traitor
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

FLOOD = 2_000
FAR = 10**9


@pytest.mark.attack("D1", "D2")
def test_votes_of_far_heights_and_rounds_fill_nothing_and_displace_nobody():
    """2,000 signed votes in one turn; what the others say of next heights is kept all the while."""
    held: list[int] = []

    def floods(hostile: Hostile) -> None:
        for number in range(FLOOD):
            hostile.say(
                Prepare(
                    sender=hostile.identity.miner_id,
                    height=Height(hostile.height + (FAR, 1, 2, 0)[number % 4]),
                    round=Round(number),
                    digest=Digest(hostile.random.randbytes(32)),
                )
            )
        hostile.world.loop.call_later(0.5, count, hostile.world)

    def count(world: World) -> None:
        for name in world.up():
            replica = world.node(name)._driver._replica
            held.extend(len(log) for log in replica._others.ahead.values())
            assert set(replica._others.ahead) <= {
                world.node(name).chain.height + k for k in (1, 2, 3)
            }

    async def scene(world: World) -> None:
        async with among_honest(world, floods):
            pass

    World(1, Settings(hostile=(HOSTILE,))).run(scene)

    # Of each of four members at most two messages of three types, and eight COMMITs.
    assert max(held, default=0) <= 4 * 14


@pytest.mark.attack("D8")
@pytest.mark.parametrize("habit", ["claims_other_heights", "poisons_sync"])
def test_a_node_that_starts_empty_catches_up_beside_one_that_lies_in_sync(habit: str):
    async def scene(world: World) -> None:
        names = [name for name in world.hosts if name != "o0"]
        world.start(*names)
        load = Workload(world, per_second=5)
        async with asyncio.TaskGroup() as group:
            part = group.create_task(Traitor(world, HOSTILE, HABITS[habit]).run())
            await load.prepare(within_s=60)
            clients = group.create_task(load.run())
            await world.reach(25, *names, within_s=100)
            world.start("o0")
            await world.reach(world.ledger.height, "o0", within_s=90)
            clients.cancel()
            part.cancel()

    world = World(1, Settings(hostile=(HOSTILE,), observers=1, detectors=False)).run(scene)

    assert {blamed for _, blamed, _, _ in world.blames} <= {HOSTILE}


@pytest.mark.attack("D14")
@pytest.mark.parametrize("seed", [1, 2])
def test_forgeries_do_not_use_up_what_a_device_may_send(seed: int):
    Aim(trouble=griefing).play(seed)


@pytest.mark.attack("D13")
def test_what_was_committed_or_gave_way_is_never_committed_again():
    """Everything is sent again and again, to all nodes, until it is too old."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=5)
        await load.prepare()
        sent = [load.client.report(load.client.devices[2 + n % 4]) for n in range(30)]
        for _ in range(12):
            for transaction in sent:
                name = world.random(f"again/{world.time_s}").choice(world.up())
                await world.node(name).submit([transaction.wire])
                await asyncio.sleep(0.2)
        assert all(transaction.id in world.ledger.places for transaction in sent)

    # That nothing stands twice on the chain is the ledger's to say.
    world = World(1, Settings(detectors=False)).run(scene)

    assert world.time_s > 60


async def _decided(world: World, load: Workload, *transactions: Any) -> None:
    for transaction in transactions:
        await load.deliver("m0", transaction)
    await world.until(
        lambda: all(transaction.id in world.ledger.places for transaction in transactions),
        within_s=30,
        what="a decision",
    )
    await world.reach(world.ledger.height, within_s=30)


@pytest.mark.attack("E4")
def test_what_a_revoked_device_has_waiting_is_committed_by_nobody():
    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        client, device = load.client, load.client.devices[3]
        # Both are in every pool before either is decided; the registry goes first in a block.
        world.network.partition(["m0"], ["m1"], ["m2"], ["m3"])
        report = client.report(device)
        revocation = client.sign_as_registrar(
            "device.update", DeviceUpdate(device=device.id, change=Revoke())
        )
        for name in world.up():
            await load.deliver(name, revocation)
            await load.deliver(name, report)
        world.ledger.forbid(report, "a report of a revoked device")
        world.network.heal_all()
        await world.until(
            lambda: revocation.id in world.ledger.places, within_s=60, what="the revocation"
        )
        await world.reach(world.ledger.height + 3, within_s=60)
        assert {world.node(name).transaction(report.id).status for name in world.up()} <= {
            "rejected",
            "unknown",
        }

    World(1, Settings(detectors=False)).run(scene)


@pytest.mark.attack("E7")
def test_the_old_key_of_a_device_is_dead_from_the_rotation_on():
    """Also for what it has signed ahead of time, which is still timely."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        client, device = load.client, load.client.devices[3]
        ahead = client.report(device, time_ms=world.wall_ms() + 4_000)
        world.ledger.forbid(ahead, "a report under a key that was replaced")
        new_key = world.draw_key("rotated")
        rotation = RotateKey(
            new_key=new_key.public,
            proof=sign_rotation(world.genesis.hash, device.id, new_key),
        )
        await _decided(
            world,
            load,
            client.sign_as_registrar(
                "device.update", DeviceUpdate(device=device.id, change=rotation)
            ),
        )
        for name in world.up():
            (answer,) = await world.node(name).submit([ahead.wire])
            assert getattr(answer.error, "code", None) == "bad_signature"
        await _decided(world, load, client.report(device, key=new_key))

    World(1, Settings(detectors=False)).run(scene)

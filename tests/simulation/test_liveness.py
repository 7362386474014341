"""The chain goes on: slow and censoring proposers, outages, rounds that diverge, messages lost.

Each scene is a line of the list of known attacks; most have stopped a network of the field.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chain.state import passed_over_of
from consensus.messages import Commit, Phase
from tests.simulation.aimed import Aim, round_changes_lost, rounds_far_apart
from tests.simulation.habits import HABITS
from tests.simulation.moments import lose, lose_nothing
from tests.simulation.network import LinkQuality
from tests.simulation.traitor import Traitor
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World

TRAITOR = "m1"
TIMEOUT_S = Settings().parameters.round_timeout_ms / 1_000
REPORTS = 24


@asynccontextmanager
async def beside(world: World, habit: str) -> AsyncIterator[Workload]:
    """Let a traitor live among the miners, with devices registered and nobody sending yet."""
    world.start()
    load = Workload(world, per_second=10)
    async with asyncio.TaskGroup() as group:
        part = group.create_task(Traitor(world, TRAITOR, HABITS[habit]).run())
        await load.prepare(within_s=60)
        yield load
        part.cancel()


def play(scene: Any, seed: int = 1, **settings: Any) -> World:
    return World(seed, Settings(detectors=False, **settings)).run(scene)


async def send(world: World, load: Workload, device: int, name: str = "m0") -> float:
    """Send a report of a device to a node, and return how long it takes until it is committed."""
    transaction = load.client.report(load.client.devices[device])
    begun_s = world.time_s
    await load.deliver(name, transaction)
    await world.until(
        lambda: transaction.id in world.ledger.places, within_s=60, what="a report", poll_s=0.001
    )
    return world.time_s - begun_s


@pytest.mark.attack("A2")
def test_a_slow_proposer_costs_no_more_than_its_own_turns():
    waits: list[float] = []

    async def scene(world: World) -> None:
        async with beside(world, "proposes_at_the_last_moment") as load:
            waits.extend([await send(world, load, 2 + number % 3) for number in range(32)])

    world = play(scene, hostile=(TRAITOR,))

    slow = [wait for wait in waits if wait > TIMEOUT_S / 2]
    assert max(waits) < TIMEOUT_S + 0.5
    assert 0 < len(slow) <= len(waits) / 4 + 1
    proposers = {entry.block.header.proposer for entry in world.ledger.blocks[-8:]}
    assert len(proposers) == 4


@pytest.mark.attack("A3")
@pytest.mark.parametrize("habit", ["censors_a_device", "censors_everybody"])
def test_a_censor_delays_a_device_by_no_more_than_its_turn(habit: str):
    """The victim alone speaks: where the censor's turn is, nobody has anything else to propose."""
    waits: list[float] = []

    async def scene(world: World) -> None:
        async with beside(world, habit) as load:
            waits.extend([await send(world, load, -1) for _ in range(16)])

    play(scene, hostile=(TRAITOR,))

    assert max(waits) < TIMEOUT_S + 1
    # Once it was found silent it is passed over.
    assert sum(wait > 1 for wait in waits) <= 3


@pytest.mark.attack("A3")
def test_a_censored_device_gets_into_the_next_honest_block():
    """Others speak as well: the censor proposes blocks, only without the victim."""
    places: list[tuple[int, int]] = []

    async def scene(world: World) -> None:
        async with beside(world, "censors_a_device") as load:
            clients = asyncio.create_task(load.run())
            for _ in range(20):
                height = world.ledger.height
                await send(world, load, -1)
                places.append((height, world.ledger.height))
                await asyncio.sleep(0.3)
            clients.cancel()

    world = play(scene, hostile=(TRAITOR,))

    traitor = world.identities[TRAITOR].miner_id
    victim = Workload(world).client.devices[-1].id
    for entry in world.ledger.blocks:
        if entry.block.header.proposer == traitor and entry.block.header.proposal_round == 0:
            assert victim not in {t.payload.sender for t in entry.block.transactions[8:]}
    assert all(after - before <= 4 for before, after in places)


@pytest.mark.attack("A4")
@pytest.mark.parametrize(
    "hours", [1, pytest.param(24, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)])]
)
def test_the_chain_goes_on_within_seconds_after_hours_without_a_quorum(hours: int):
    took: list[float] = []

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        await world.kill("m2")
        await world.kill("m3")
        # Something waits to be decided all the while, until it has expired.
        await load.deliver("m0", load.client.report(load.client.devices[2]))
        height = world.ledger.height
        await asyncio.sleep(hours * 3_600.0)
        assert world.ledger.height == height
        begun_s = world.time_s
        world.start("m2", "m3")
        await load.commit_at_each(within_s=30)
        took.append(world.time_s - begun_s)

    play(scene)

    assert took[0] <= 30


@pytest.mark.attack("A5")
def test_rounds_that_are_far_apart_meet():
    """Four miners wake up in rounds 0, 3, 10 and 57 of one height, as their logs say."""

    async def scene(world: World) -> None:
        rounds_far_apart(world)
        world.start()
        await world.reach(1, within_s=30)
        await world.reach(4, within_s=30)

    world = play(scene)

    assert world.ledger.blocks[0].block.header.proposal_round >= 3


@pytest.mark.attack("A8")
@pytest.mark.parametrize("seed", range(1, 4))
def test_round_changes_that_get_lost_are_sent_again(seed: int):
    Aim(trouble=round_changes_lost).play(seed)


@pytest.mark.attack("A9")
def test_a_miner_that_catches_up_in_the_midst_of_a_round_change_takes_part_again():
    """m3 is cut off with work to do and gives up its round, while the others go on without it."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        world.network.partition(["m3"], ["m0", "m1", "m2"])
        await load.deliver("m3", load.client.report(load.client.devices[2]))
        await world.until(
            lambda: world.node("m3").status().round > 0, within_s=20, what="the end of its round"
        )
        for number in range(5):
            await send(world, load, 3 + number % 3)
        assert world.node("m3").status().round == 1, "nobody follows it, so it waits"
        world.network.heal_all()
        await world.reach(world.ledger.height, within_s=30)
        await world.kill("m0")
        # Now nothing is decided unless it votes.
        for number in range(5):
            await send(world, load, 3 + number % 3, "m1")
        await load.commit_at_each(within_s=30)

    play(scene)


@pytest.mark.attack("A12")
@pytest.mark.parametrize("freeze_s", [60.0, 1_800.0])
def test_a_block_that_was_prepared_before_a_freeze_is_committed_after_it(freeze_s: float):
    """Its time is long past by then, and is not judged again."""
    prepared: dict[str, Any] = {}

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        height = world.ledger.height + 1
        lose(world, lambda source, target, message: isinstance(message, Commit))
        await load.deliver("m0", load.client.report(load.client.devices[2]))

        def all_prepared() -> bool:
            last = [world.promises.last(world.identities[name].miner_id) for name in world.hosts]
            return all(p.height == height and p.phase == Phase.COMMIT for p in last if p)

        await world.until(all_prepared, within_s=20, what="a prepared block")
        prepared.update(height=height, frozen_ms=world.wall_ms())
        world.network.partition(["m0", "m1"], ["m2", "m3"])
        lose_nothing(world)
        await asyncio.sleep(freeze_s)
        world.network.heal_all()
        await world.reach(height, within_s=60)
        await load.commit_at_each(within_s=60)

    world = play(scene)

    header = world.ledger.blocks[prepared["height"] - 1].block.header
    assert header.time_ms <= prepared["frozen_ms"]
    assert header.proposal_round == 0


@pytest.mark.attack("A15")
def test_what_came_before_its_turn_is_not_lost():
    """m3 misses every third height whole, and hears of the next one first."""

    async def scene(world: World) -> None:
        world.start()
        load = Workload(world, per_second=5)
        await load.prepare()
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(load.run())
            lose(world, lambda source, target, message: target == "m3" and message.height % 3 == 0)
            await world.reach(world.ledger.height + 20, within_s=120)
            clients.cancel()
        lose_nothing(world)
        await load.commit_at_each(within_s=30)
        load.check_receipts()

    play(scene)


@pytest.mark.attack("A1")
def test_one_silent_miner_of_four_takes_hardly_any_throughput_once_it_is_passed_over():
    """A client that waits for each of its reports to be committed before it sends the next."""
    healthy, beside_silence = _reports_a_second(None), _reports_a_second("says_nothing_at_all")

    # Votes of three of three take longer than those of the fastest three of four: that is all.
    assert beside_silence >= 0.94 * healthy


def _reports_a_second(habit: str | None) -> float:
    """Return how many reports one client gets committed in a second, beside a traitor or none."""
    rate: list[float] = []

    async def measure(world: World, load: Workload) -> None:
        def heights_passed_over() -> int:
            entries = passed_over_of(world.ledger.tip.state).entries
            return max((entry.until_height for entry in entries), default=0) - world.ledger.height

        while habit is not None and heights_passed_over() < REPORTS:
            await send(world, load, 2)
        begun_s = world.time_s
        for _ in range(REPORTS):
            await send(world, load, 2)
        rate.append(REPORTS / (world.time_s - begun_s))

    async def alone(world: World) -> None:
        world.start()
        load = Workload(world)
        await load.prepare()
        await measure(world, load)

    async def accompanied(world: World) -> None:
        assert habit is not None
        async with beside(world, habit) as load:
            await measure(world, load)

    quality = LinkQuality(latency_us_min=20_000, latency_us_max=30_000)
    if habit is None:
        play(alone, quality=quality)
    else:
        play(accompanied, hostile=(TRAITOR,), quality=quality)
    return rate[0]

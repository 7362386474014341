"""What goes wrong in a world, drawn from its seed as a list that can be read and cut down.

Each fault begins at a time, lasts for a while, and is undone. Faults overlap freely; the list says
nothing of what they do together.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.simulation.network import LinkQuality
from tests.simulation.trace import WORLD
from tests.simulation.world import World

SKEW_MS_MAX: Final = 200
"""Two clocks differ by less than the precision of the chain's parameters, 500 ms."""
SLOW_DISK_NS: Final = 80_000_000
SYNCS_AHEAD_MAX: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Parameters
    ----------
    what : str
        A key of `FAULTS`.
    at_s, lasts_s : float
        When it begins, and how long it lasts.
    names : tuple of str
        Whom it strikes; what their order means is up to the fault.
    amount : int
        How much of it.
    """

    what: str
    at_s: float
    lasts_s: float
    names: tuple[str, ...]
    amount: int = 0

    def __str__(self) -> str:
        return (
            f"{self.at_s:6.2f} s: {self.what} {' '.join(self.names)} {self.amount or ''} "
            f"for {self.lasts_s:.2f} s"
        )


async def _crash(world: World, fault: Fault) -> None:
    """Cut the power; the machine comes back."""
    await world.crash(fault.names[0])
    await asyncio.sleep(fault.lasts_s)
    _bring_back(world, fault.names[0])


async def _kill(world: World, fault: Fault) -> None:
    """End the process; it is started again."""
    await world.kill(fault.names[0])
    await asyncio.sleep(fault.lasts_s)
    _bring_back(world, fault.names[0])


async def _crash_in_sync(world: World, fault: Fault) -> None:
    """Cut the power in the midst of one of the next syncs."""
    host = world.hosts[fault.names[0]]
    host.disk.lose_power_at = host.disk.syncs + fault.amount
    await asyncio.sleep(fault.lasts_s)
    host.disk.lose_power_at = None
    _bring_back(world, host.name)


async def _fill_disk(world: World, fault: Fault) -> None:
    """Leave no room; the node stops, and is started again when there is."""
    host = world.hosts[fault.names[0]]
    host.disk.full = True
    await asyncio.sleep(fault.lasts_s)
    host.disk.full = False
    _bring_back(world, host.name)


async def _slow_disk(world: World, fault: Fault) -> None:
    """Let each sync take long."""
    disk = world.hosts[fault.names[0]].disk
    before, disk.latency_ns = disk.latency_ns, SLOW_DISK_NS
    await asyncio.sleep(fault.lasts_s)
    disk.latency_ns = before


async def _partition(world: World, fault: Fault) -> None:
    """Cut the first `amount` names off from the others."""
    groups = fault.names[: fault.amount], fault.names[fault.amount :]
    world.network.partition(*groups)
    await asyncio.sleep(fault.lasts_s)
    for one, other in (groups, groups[::-1]):
        for source in one:
            for target in other:
                world.network.heal(source, target)


async def _cut(world: World, fault: Fault) -> None:
    """Let nothing pass in one direction between two nodes."""
    world.network.cut(*fault.names[:2])
    await asyncio.sleep(fault.lasts_s)
    world.network.heal(*fault.names[:2])


async def _break(world: World, fault: Fault) -> None:
    """Break a session."""
    world.network.break_session(*fault.names[:2])


async def _bad_links(world: World, fault: Fault) -> None:
    """Make one node's links slow and lossy, in both directions."""
    name, *others = fault.names
    bad = LinkQuality(
        latency_us_max=fault.amount,
        loss_ppm=fault.amount // 4,
        duplicate_ppm=fault.amount // 8,
        break_ppm=1_000,
    )
    for other in others:
        world.network.set_quality(name, other, bad)
        world.network.set_quality(other, name, bad)
    await asyncio.sleep(fault.lasts_s)
    for other in others:
        world.network.set_quality(name, other, world.network.quality)
        world.network.set_quality(other, name, world.network.quality)


async def _skew(world: World, fault: Fault) -> None:
    """Step a wall clock, and step it back."""
    clock = world.hosts[fault.names[0]].clock
    clock.skew_ms = fault.amount
    await asyncio.sleep(fault.lasts_s)
    clock.skew_ms = 0


Draw = Callable[[Random, int], int]
"""The amount of a fault among so many nodes."""

FAULTS: Final = {
    "crash": (_crash, None),
    "kill": (_kill, None),
    "crash-in-sync": (_crash_in_sync, lambda random, _: random.randint(1, SYNCS_AHEAD_MAX)),
    "full-disk": (_fill_disk, None),
    "slow-disk": (_slow_disk, None),
    "partition": (_partition, lambda random, count: random.randint(1, count - 1)),
    "cut": (_cut, None),
    "break": (_break, None),
    "bad-links": (_bad_links, lambda random, _: random.randint(2_000, 800_000)),
    "skew": (_skew, lambda random, _: random.randint(-SKEW_MS_MAX, SKEW_MS_MAX)),
}
"""What can go wrong, and how its amount is drawn."""

OF_MACHINES: Final = {"crash", "kill", "crash-in-sync", "full-disk", "slow-disk", "skew"}
"""Faults that strike a machine, so never one that the scene plays itself."""


def draw_faults(random: Random, world: World, *, duration_s: float, count: int) -> list[Fault]:
    """Draw faults for the first `duration_s` of a world, in the order of their beginning."""
    machines, everybody = sorted(world.hosts), sorted(world.identities)
    faults = []
    for _ in range(count):
        what = random.choice(sorted(FAULTS))
        draw = FAULTS[what][1]
        names = machines if what in OF_MACHINES else everybody
        faults.append(
            Fault(
                what=what,
                at_s=random.uniform(0, duration_s),
                lasts_s=random.choice((0.3, 1, 3, 10)) * random.uniform(0.5, 1.5),
                names=tuple(random.sample(names, len(names))),
                amount=0 if draw is None else draw(random, len(names)),
            )
        )
    return sorted(faults, key=lambda fault: fault.at_s)


async def play(world: World, faults: Sequence[Fault]) -> None:
    """Let every fault happen in its time, until cancelled or all are over."""
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            group.create_task(_play_one(world, fault))


async def _play_one(world: World, fault: Fault) -> None:
    await asyncio.sleep(fault.at_s)
    world.trace.note(WORLD, "fault", fault)
    await FAULTS[fault.what][0](world, fault)


def heal(world: World) -> None:
    """Undo every fault: links, disks and clocks are well, and every node runs."""
    world.trace.note(WORLD, "heal")
    world.network.heal_all()
    for source in world.identities:
        for target in world.identities:
            if source != target:
                world.network.set_quality(source, target, world.network.quality)
    for host in world.hosts.values():
        host.clock.skew_ms = 0
        host.disk.full = False
        host.disk.lose_power_at = None
        host.disk.latency_ns = world.settings.disk_latency_us * 1_000
    world.start()


def _bring_back(world: World, name: str) -> None:
    if not world.hosts[name].is_up and not world.hosts[name].disk.full:
        world.start(name)

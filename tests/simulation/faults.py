"""What goes wrong in a world, drawn from its seed as a list that can be read and cut down.

Each fault begins at a time, lasts for a while, and is undone. Faults overlap freely; the list says
nothing of what they do together. What the chain could not bear for good, a fault looks for first:
`spare` says how many more miners may be lost or wrong, liars included.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from chain.miners import faulty_max
from chain.types import Address
from tests.simulation.network import LinkQuality
from tests.simulation.trace import WORLD
from tests.simulation.world import Host, World

SKEW_MS_MAX: Final = 200
"""Clocks wrong by less than the precision of the chain's parameters, 500 ms, harm nothing."""
JUMP_MS_MAX: Final = 3_600_000
DRIFT_PPM_MAX: Final = 1_000
"""With it and `SKEW_MS_MAX`, clocks stay within the precision as long as a world lasts."""
SLOW_DISK_NS: Final = 80_000_000
SYNCS_AHEAD_MAX: Final = 8
SYNCS_OF_START_MAX: Final = 4


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
        Everybody whom it could strike; what their order means is up to the fault.
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


def spare(world: World, miners: Sequence[Address]) -> int:
    """Return how many of `miners` may still turn Byzantine, or as useless as if they were.

    Liars count, and whoever has lost its memory, and whoever has a clock that is far off.
    """
    lost = set(world.byzantine)
    for host in world.hosts.values():
        if host.has_amnesia or abs(host.clock.skew_ms) > SKEW_MS_MAX:
            lost.add(host.identity.miner_id)
    return faulty_max(len(miners)) - len(lost.intersection(miners))


def can_be_lost(world: World, host: Host) -> bool:
    """Tell whether every set of miners that is or may come in force can do without this one."""
    miner = host.identity.miner_id
    sets = (*world.miner_sets(), *world.intended)
    return all(miner not in miners or spare(world, miners) > 0 for miners in sets)


# Machines


async def _crash(world: World, host: Host, fault: Fault) -> None:
    """Cut the power; the machine comes back."""
    await world.crash(host.name)
    await asyncio.sleep(fault.lasts_s)


async def _kill(world: World, host: Host, fault: Fault) -> None:
    """End the process; it is started again."""
    await world.kill(host.name)
    await asyncio.sleep(fault.lasts_s)


async def _crash_in_sync(world: World, host: Host, fault: Fault) -> None:
    """Cut the power in the midst of one of the next syncs."""
    del world
    host.disk.lose_power_at = host.disk.syncs + fault.amount
    await asyncio.sleep(fault.lasts_s)
    host.disk.lose_power_at = None


async def _kill_in_sync(world: World, host: Host, fault: Fault) -> None:
    """End the process in the midst of one of the next syncs."""
    del world
    host.disk.kill_at = host.disk.syncs + fault.amount
    await asyncio.sleep(fault.lasts_s)
    host.disk.kill_at = None


async def _crash_at_start(world: World, host: Host, fault: Fault) -> None:
    """Cut the power, and once more in one of the first syncs after it is back."""
    await world.crash(host.name)
    host.disk.lose_power_at = host.disk.syncs + fault.amount
    bring_back(world, host)
    await asyncio.sleep(fault.lasts_s)
    host.disk.lose_power_at = None


async def _kill_at_start(world: World, host: Host, fault: Fault) -> None:
    """End the process, and once more in one of the first syncs after it was started again."""
    await world.kill(host.name)
    host.disk.kill_at = host.disk.syncs + fault.amount
    bring_back(world, host)
    await asyncio.sleep(fault.lasts_s)
    host.disk.kill_at = None


async def _crash_all(world: World, host: Host, fault: Fault) -> None:
    """Cut the power of every machine; they come back one after the other."""
    hosts = list(world.hosts.values())
    for other in hosts:
        await world.crash(other.name)
    await asyncio.sleep(fault.lasts_s / 2)
    for other in hosts:
        if other is not host:
            bring_back(world, other)
            await asyncio.sleep(fault.lasts_s / 2 / len(hosts))


async def _wipe(world: World, host: Host, fault: Fault) -> None:
    """Lose a disk, if there are miners enough that remember; an empty one takes its place."""
    await world.crash(host.name)
    await asyncio.sleep(fault.lasts_s)
    if not host.is_up and can_be_lost(world, host):
        host.wipe()


# Disks


async def _fill_disk(world: World, host: Host, fault: Fault) -> None:
    """Leave no room; the node stops, and is started again when there is."""
    del world
    host.disk.full = True
    await asyncio.sleep(fault.lasts_s)
    host.disk.full = False


async def _fail_disk(world: World, host: Host, fault: Fault) -> None:
    """Let reads and writes fail; the node stops, and is started again when they work."""
    del world
    host.disk.failing = True
    await asyncio.sleep(fault.lasts_s)
    host.disk.failing = False


async def _slow_disk(world: World, host: Host, fault: Fault) -> None:
    """Let each sync take long."""
    host.disk.latency_ns = SLOW_DISK_NS
    await asyncio.sleep(fault.lasts_s)
    host.disk.latency_ns = world.settings.disk_latency_us * 1_000


# Clocks


async def _skew(world: World, host: Host, fault: Fault) -> None:
    """Step a wall clock a little, and set it right again."""
    del world
    host.clock.skew_ms = fault.amount
    await asyncio.sleep(fault.lasts_s)
    host.clock.set_right()


async def _jump(world: World, host: Host, fault: Fault) -> None:
    """Step a wall clock far ahead or back, if the other miners' are right."""
    if can_be_lost(world, host):
        await _skew(world, host, fault)


async def _drift(world: World, host: Host, fault: Fault) -> None:
    """Let both clocks of a machine run too fast or too slow."""
    del world
    host.clock.drift(fault.amount)
    await asyncio.sleep(fault.lasts_s)
    host.clock.set_right()


# Links


async def _partition(world: World, fault: Fault) -> None:
    """Cut the first `amount` names off from the others."""
    groups = fault.names[: fault.amount], fault.names[fault.amount :]
    world.network.partition(*groups)
    await asyncio.sleep(fault.lasts_s)
    for one, other in (groups, groups[::-1]):
        _heal_links(world, one, other)


async def _one_way_partition(world: World, fault: Fault) -> None:
    """Let nothing of the first `amount` names reach the others."""
    one, other = fault.names[: fault.amount], fault.names[fault.amount :]
    for source in one:
        for target in other:
            world.network.cut(source, target)
    await asyncio.sleep(fault.lasts_s)
    _heal_links(world, one, other)


async def _cut(world: World, fault: Fault) -> None:
    """Let nothing pass in one direction between two nodes."""
    world.network.cut(*fault.names[:2])
    await asyncio.sleep(fault.lasts_s)
    world.network.heal(*fault.names[:2])


async def _break(world: World, fault: Fault) -> None:
    """Break all sessions of a node."""
    name, *others = fault.names
    for other in others:
        world.network.break_session(name, other)


async def _bad_links(world: World, fault: Fault) -> None:
    """Make one node's links slow and lossy, in both directions."""
    name, *others = fault.names
    bad = LinkQuality(
        latency_us_max=fault.amount,
        loss_ppm=fault.amount // 4,
        duplicate_ppm=fault.amount // 8,
        reorder_ppm=fault.amount // 8,
        break_ppm=1_000,
    )
    for other in others:
        world.network.set_quality(name, other, bad)
        world.network.set_quality(other, name, bad)
    await asyncio.sleep(fault.lasts_s)
    for other in others:
        world.network.set_quality(name, other, world.network.quality)
        world.network.set_quality(other, name, world.network.quality)


def _heal_links(world: World, sources: Sequence[str], targets: Sequence[str]) -> None:
    for source in sources:
        for target in targets:
            world.network.heal(source, target)


# All of them

Draw = Callable[[Random, int], int]
"""The amount of a fault among so many nodes."""


def _signed(maximum: int) -> Draw:
    return lambda random, _: random.randint(-maximum, maximum)


def _some(random: Random, count: int) -> int:
    return random.randint(1, count - 1)


OF_MACHINES: Final[
    dict[str, tuple[Callable[[World, Host, Fault], Awaitable[None]], Draw | None]]
] = {
    "crash": (_crash, None),
    "kill": (_kill, None),
    "crash-in-sync": (_crash_in_sync, lambda random, _: random.randint(1, SYNCS_AHEAD_MAX)),
    "kill-in-sync": (_kill_in_sync, lambda random, _: random.randint(1, SYNCS_AHEAD_MAX)),
    "crash-at-start": (_crash_at_start, lambda random, _: random.randint(1, SYNCS_OF_START_MAX)),
    "kill-at-start": (_kill_at_start, lambda random, _: random.randint(1, SYNCS_OF_START_MAX)),
    "crash-all": (_crash_all, None),
    "wipe": (_wipe, None),
    "full-disk": (_fill_disk, None),
    "failing-disk": (_fail_disk, None),
    "slow-disk": (_slow_disk, None),
    "skew": (_skew, _signed(SKEW_MS_MAX)),
    "jump": (_jump, _signed(JUMP_MS_MAX)),
    "drift": (_drift, _signed(DRIFT_PPM_MAX)),
}
"""Faults that strike a machine, so never a miner that the scene plays itself."""

OF_LINKS: Final[dict[str, tuple[Callable[[World, Fault], Awaitable[None]], Draw | None]]] = {
    "partition": (_partition, _some),
    "one-way-partition": (_one_way_partition, _some),
    "cut": (_cut, None),
    "break": (_break, None),
    "bad-links": (_bad_links, lambda random, _: random.randint(2_000, 800_000)),
}

FAULTS: Final = (*OF_MACHINES, *OF_LINKS)
"""What can go wrong."""


def draw_faults(random: Random, world: World, *, duration_s: float, count: int) -> list[Fault]:
    """Draw faults for the first `duration_s` of a world, in the order of their beginning."""
    everybody = list(world.identities)
    machines = [name for name in everybody if name not in world.settings.hostile]
    faults = []
    for _ in range(count):
        what = random.choice(FAULTS)
        names = machines if what in OF_MACHINES else everybody
        _, draw = OF_MACHINES[what] if what in OF_MACHINES else OF_LINKS[what]
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
    if fault.what in OF_LINKS:
        strike, _ = OF_LINKS[fault.what]
        await strike(world, fault)
    else:
        host = next(world.hosts[name] for name in fault.names if name in world.hosts)
        strike_host, _ = OF_MACHINES[fault.what]
        await strike_host(world, host, fault)
        bring_back(world, host)


def heal(world: World) -> None:
    """Undo every fault: links, disks and clocks are well, and every node runs."""
    world.trace.note(WORLD, "heal")
    world.network.heal_all()
    for source in world.identities:
        for target in world.identities:
            if source != target:
                world.network.set_quality(source, target, world.network.quality)
    for host in world.hosts.values():
        host.clock.set_right()
        host.disk.full = host.disk.failing = False
        host.disk.lose_power_at = host.disk.kill_at = None
        host.disk.latency_ns = world.settings.disk_latency_us * 1_000
    world.start()


def bring_back(world: World, host: Host) -> None:
    """Start a machine that is down, if its disk lets it."""
    if not (host.is_up or host.disk.full or host.disk.failing):
        world.start(host.name)

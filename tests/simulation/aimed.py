"""Short worlds, each aimed at one kind of trouble, where a world of all kinds takes too long.

What a world of :mod:`tests.simulation.seeds` has once in a hundred seeds, every seed has here: a
certain liar, disks that are wiped, an outage of minutes, miners that come and go. The course is the
same for all: clients send while the trouble lasts, then everything heals, and the chain has to go
on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Final

from chain.kinds.miners import AddMiner, MinerPropose, RemoveMiner
from chain.kinds.vote import MinerVote
from chain.limits import parse_limits
from chain.state import miner_sets_of
from chain.transactions import Transaction
from chain.types import Height, Round
from consensus.codec import decode_message
from consensus.durable import Floor, Signed, encode_record
from consensus.messages import PrePrepare, RoundChange
from node.protocol import CONSENSUS
from tests.simulation.acceptance import addition_of
from tests.simulation.checkers import Violation
from tests.simulation.faults import heal
from tests.simulation.lesson import AUDITED, MASKED, Classroom, Lesson
from tests.simulation.network import LinkQuality
from tests.simulation.parts import play_part
from tests.simulation.trace import acting
from tests.simulation.workload import FEW, Client, Workload
from tests.simulation.world import Settings, World

LIVENESS_S: Final = 60.0
LATENCIES_US: Final = (2_000, 50_000, 200_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a kind of world has in every seed.

    Parameters
    ----------
    trouble : callable
        What happens while clients send; the world heals after it.
    parts : tuple of str
        What its hostile miner plays, one of them in each seed; none where there is none.
    before : callable
        What is done to the world before its nodes start.
    miners : int
        How many there are.
    quality : LinkQuality
        Of all links, but for the latency, which the seed draws.
    """

    trouble: Callable[[World], Awaitable[None]]
    parts: tuple[str, ...] = ()
    before: Callable[[World], None] = lambda world: None
    miners: int = 4
    quality: LinkQuality = field(default_factory=LinkQuality)

    def play(self, seed: int) -> World:
        """Play the world of a seed.

        Raises
        ------
        Violation
            Or whatever else ends it early, as from `World.run`.
        """
        return self._world(seed).run(self._scene)

    def _world(self, seed: int) -> World:
        random = Random(f"{seed}/aim")
        quality = replace(self.quality, latency_us_max=random.choice(LATENCIES_US))
        hostile = (f"m{random.randrange(self.miners)}",) if self.parts else ()
        return World(
            seed,
            Settings(miners=self.miners, hostile=hostile, detectors=False, quality=quality),
        )

    async def _scene(self, world: World) -> None:
        self.before(world)
        world.start()
        load = Workload(world, per_second=5)
        random = world.random("aim/part")
        async with asyncio.TaskGroup() as group:
            hostile = [
                group.create_task(play_part(world, name, random.choice(self.parts)))
                for name in world.settings.hostile
            ]
            await load.prepare(within_s=LIVENESS_S)
            clients = group.create_task(load.run())
            await self.trouble(world)
            heal(world)
            await world.reach(0, within_s=LIVENESS_S)
            await load.commit_at_each(within_s=LIVENESS_S)
            clients.cancel()
            await world.until(
                lambda: not world.unpunished(), within_s=LIVENESS_S, what="the conviction of liars"
            )
            load.check_receipts()
            for task in hostile:
                task.cancel()


# Troubles


async def none(world: World) -> None:
    """Let some heights pass."""
    await world.reach(world.ledger.height + 12, within_s=LIVENESS_S)


async def restarts(world: World) -> None:
    """End one node after another at any moment, by a signal or a power cut, also in a sync."""
    random = world.random("aim/trouble")
    for _ in range(10):
        host = world.hosts[random.choice(sorted(world.hosts))]
        await asyncio.sleep(random.uniform(0, 1))
        match random.randrange(3):
            case 0:
                await world.kill(host.name)
            case 1:
                await world.crash(host.name)
            case _:
                host.disk.lose_power_at = host.disk.syncs + random.randint(1, 6)
                await asyncio.sleep(1)
                host.disk.lose_power_at = None
        await asyncio.sleep(random.choice((0, 0.1, 2)))
        if not host.is_up:
            world.start(host.name)


async def blackouts(world: World) -> None:
    """Cut the power of all at once, at any moment, and let them come back one by one."""
    random = world.random("aim/trouble")
    for _ in range(5):
        await asyncio.sleep(random.uniform(0, 3))
        for name in world.up():
            await world.crash(name)
        for name in random.sample(sorted(world.hosts), len(world.hosts)):
            await asyncio.sleep(random.uniform(0, 2))
            world.start(name)


async def stalls(world: World) -> None:
    """Let rounds fail: now this type of message is lost, now that, between now these, now those."""
    random = world.random("aim/trouble")
    names = sorted(world.identities)
    for _ in range(6):
        phase = random.randrange(4)
        deaf = set(random.sample(names, random.randint(1, len(names) - 1)))

        def lets_through(source: str, target: str, kind: int, payload: bytes) -> bool:
            del source
            is_hit = kind == CONSENSUS and target in deaf and random.randrange(8) > 0  # noqa: B023
            return not is_hit or decode_message(payload).phase != phase  # noqa: B023

        world.network.lets_through = lets_through
        await asyncio.sleep(random.uniform(1, 6))
        if random.randrange(3) == 0:
            name = random.choice(sorted(world.hosts))
            await world.crash(name)
            world.start(name)
    world.network.lets_through = lambda *_: True


async def no_proposals(world: World) -> None:
    """Lose every proposal for minutes, so that the rounds climb; then lose the proposer awaited."""
    world.network.lets_through = lambda source, target, kind, payload: (
        not (kind == CONSENSUS and isinstance(decode_message(payload), PrePrepare))
    )
    await asyncio.sleep(140)
    snapshot = world.node(sorted(world.hosts)[0]).consensus()
    assert snapshot is not None, "a height has begun"
    awaited = next(
        name for name, known in world.identities.items() if known.miner_id == snapshot.proposer
    )
    await world.kill(awaited)
    world.network.lets_through = lambda *_: True
    await world.reach(world.ledger.height + 1, within_s=LIVENESS_S)


async def round_changes_lost(world: World) -> None:
    """Lose a proposer, and the first ROUND-CHANGEs of the others."""
    left = {name: 2 * len(world.identities) for name in world.identities}

    def lets_through(source: str, target: str, kind: int, payload: bytes) -> bool:
        del target
        if kind != CONSENSUS or not isinstance(decode_message(payload), RoundChange):
            return True
        left[source] -= 1
        return left[source] < 0

    world.network.lets_through = lets_through
    await world.kill(sorted(world.hosts)[0])
    await world.reach(world.ledger.height + 6, within_s=LIVENESS_S)
    world.network.lets_through = lambda *_: True


async def wipes(world: World) -> None:
    """Put an empty disk into a machine whose miner has just voted."""
    random = world.random("aim/trouble")
    for _ in range(3):
        await asyncio.sleep(random.uniform(0, 2))
        name = random.choice(sorted(world.hosts))
        await world.crash(name)
        world.hosts[name].wipe()
        world.start(name)
        await world.reach(world.ledger.height + 4, within_s=LIVENESS_S)


async def rotation(world: World) -> None:
    """Remove a miner and take it back, while others restart at the heights in between."""
    random = world.random("aim/trouble")
    names = [name for name in sorted(world.hosts) if name[0] == "m"]
    for _ in range(2):
        leaver = random.choice(names)
        voters = [name for name in names if name != leaver]
        removal = RemoveMiner(miner=world.identities[leaver].miner_id)
        await change_members(world, removal, voters)
        await _restart_soon(world, random.choice(voters), random.uniform(0, 1))
        await restore_member(world, leaver, voters)
        await _restart_soon(world, random.choice(names), random.uniform(0, 1))


async def griefing(world: World) -> None:
    """Send a node forgeries in the name of a device, and then what the device has to say."""
    client = Client(world, world.random("aim/grief"), devices=10)
    victim, stranger = client.devices[8:]
    limits = parse_limits(FEW)
    registration = client.register(victim, limits=limits)
    name = sorted(world.hosts)[0]
    await _submit(world, name, [registration])
    for _ in range(2):
        await asyncio.sleep(limits[0].seconds + 1)
        forged = [client.report(victim, key=stranger.key) for _ in range(limits[0].capacity)]
        with acting(name):
            await world.node(name).submit([transaction.wire for transaction in forged])
            (answer,) = await world.node(name).submit([client.report(victim).wire])
        if answer.error is not None:
            raise Violation(f"{name} refuses a device for what others forged: {answer.error}")


def lesson(word: str, *, is_masked: bool = True) -> Callable[[World], Awaitable[None]]:
    """Let a federated round be played in which one participant behaves as `word` says."""

    async def trouble(world: World) -> None:
        conduct = [""] * (MASKED if is_masked else AUDITED)
        conduct[world.random("aim/lesson").randrange(len(conduct))] = word
        plan = Lesson(at_s=None, is_masked=is_masked, conduct=tuple(conduct))
        classroom = Classroom(world, plan, Workload(world))
        await classroom.enrol(within_s=LIVENESS_S)
        await classroom.play()
        await classroom.check(is_healed=True)

    return trouble


# Parts of them


def rounds_far_apart(world: World) -> None:
    """Let the miners wake up in rounds of the first height that are far from one another."""
    for name, round in (("m1", 3), ("m2", 10), ("m3", 57)):
        identity = world.identities[name]
        message = RoundChange(
            sender=identity.miner_id,
            height=Height(1),
            round=Round(round),
            prepared_round=None,
            prepared_digest=None,
            certificate=None,
        )
        signed = Signed(message=identity.sign(message, world.genesis.hash))
        log = world.hosts[name].disk.open_log()
        log.append([encode_record(Floor(height=Height(0))), encode_record(signed)])
        log.close()


async def change_members(world: World, change: AddMiner | RemoveMiner, voters: list[str]) -> None:
    """Have a change of membership proposed and decided, and wait until its vote is committed."""
    client = Client(world, world.random(f"aim/govern/{world.ledger.height}"))
    miners, _ = miner_sets_of(world.ledger.tip.state)
    # A vote beyond the quorum would be refused: the proposal is decided.
    first, *others = [world.identities[name] for name in voters[: miners.quorum]]
    proposal = client.make(
        "miner.propose", MinerPropose(change=change), sender=first.miner_id, key=first.key
    )
    votes = [
        client.make(
            "miner.vote",
            MinerVote(proposal=proposal.id, approve=True),
            sender=voter.miner_id,
            key=voter.key,
        )
        for voter in others
    ]
    name = next(name for name in voters if name in world.up())
    await _submit(world, name, [proposal])
    await _submit(world, name, votes)


async def restore_member(world: World, name: str, voters: list[str]) -> None:
    """Have a miner that was removed taken back."""
    await change_members(world, addition_of(world, name), voters)


async def _submit(world: World, name: str, transactions: Sequence[Transaction]) -> None:
    """Hand transactions to a node, and wait until all nodes know them to be committed."""
    with acting(name):
        await world.node(name).submit([transaction.wire for transaction in transactions])
    await world.until(
        partial(_is_committed, world, transactions), within_s=LIVENESS_S, what="a decision"
    )
    await world.reach(world.ledger.height, within_s=LIVENESS_S)


def _is_committed(world: World, transactions: Sequence[Transaction]) -> bool:
    return all(transaction.id in world.ledger.places for transaction in transactions)


async def _restart_soon(world: World, name: str, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    await world.crash(name)
    world.start(name)
    # A change takes effect two heights after its vote.
    await world.reach(world.ledger.height + 3, within_s=LIVENESS_S)

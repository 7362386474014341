"""A Byzantine miner that has a whole node, and bends what the node says or hears.

The node follows every rule and believes to be honest; between it and the network stands a *habit*,
which drops, delays, changes, repeats and adds messages, and has the miner's key to sign them with.
So a traitor takes part in everything, and is dangerous where a puppet
(`tests.simulation.hostile.Hostile`) is merely in the way: its votes count.

It is none of the world's hosts. Nobody gives it transactions, and the checkers do not ask it to
keep a promise; what it makes others do they see.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from chain.eligibility import eligible_miners, proposer_of
from chain.errors import DecodeError
from chain.state import miner_sets_of
from chain.types import Address, Height, Round
from consensus.codec import encode_message
from consensus.durable import Floor, encode_record
from consensus.messages import Message
from node.metrics import Metrics
from node.ports import Receiver
from node.protocol import CONSENSUS
from node.service import Node, Ports
from tests.simulation.clock import SimulatedClock
from tests.simulation.disk import SimulatedDisk, SimulatedExecutor
from tests.simulation.network import SimulatedTransport
from tests.simulation.random_source import SeededRandom
from tests.simulation.trace import acting
from tests.simulation.world import START_MS, World


class Habit:
    """What lies between a traitor's node and the network; this one changes nothing."""

    def __init__(self, traitor: "Traitor") -> None:
        self.traitor = traitor
        self.random = traitor.random

    async def run(self) -> None:
        """Do what it does unasked, until cancelled."""

    def say(self, peer: Address, kind: int, payload: bytes) -> None:
        """Take what the node says to a peer, and send what it likes instead."""
        self.traitor.send(peer, kind, payload)

    def hear(self, peer: Address, kind: int, payload: bytes) -> bytes | None:
        """Take what a peer says, and return what the node hears of it; None is nothing."""
        del peer, kind
        return payload


class Traitor:
    """Plays one miner.

    Parameters
    ----------
    name : str
        Named among the world's hostile miners.
    habit : callable
        Makes its habit.

    Attributes
    ----------
    clock : SimulatedClock
        Its machine's.
    """

    def __init__(self, world: World, name: str, habit: Callable[["Traitor"], Habit]) -> None:
        self.world = world
        self.identity = world.identities[name]
        self.random = world.random(f"{name}/habit")
        self.clock = SimulatedClock(world.loop.time, start_ms=START_MS)
        self._transport = world.transport(self.identity)
        self._habit = habit(self)
        self.node = self._build()

    async def run(self) -> None:
        """Play until cancelled."""
        with acting(self.identity.name):
            async with asyncio.TaskGroup() as group:
                group.create_task(self.node.run())
                group.create_task(self._habit.run())

    # What habits use

    @property
    def height(self) -> Height:
        """The height that its node works on."""
        return self.node.chain.tip.next_height

    def is_proposer(self, round: int = 0) -> bool:
        """Tell whether it may propose in a round of this height."""
        state = self.node.chain.state
        miners, _ = miner_sets_of(state)
        eligible = eligible_miners(state, miners, self.height)
        return proposer_of(eligible, self.height, Round(round)) == self.identity.miner_id

    def others(self) -> Sequence[Address]:
        """Return the node ids it has a session with."""
        return self._transport.connected()

    def send(self, peer: Address, kind: int, payload: bytes) -> None:
        """Send anything."""
        self._transport.send(peer, kind, payload)

    def send_later(self, delay_s: float, peer: Address, kind: int, payload: bytes) -> None:
        """Send something after a while."""
        asyncio.get_running_loop().call_later(delay_s, self.send, peer, kind, payload)

    def say(self, peer: Address, message: Message) -> None:
        """Sign a message of consensus, whatever it says, and send it."""
        signed = self.identity.sign(message, self.world.genesis.hash)
        self.send(peer, CONSENSUS, encode_message(signed))

    def _build(self) -> Node:
        world, name = self.world, self.identity.name
        disk = SimulatedDisk(world.random(f"{name}/disk"))
        log = disk.open_log()
        log.append([encode_record(Floor(height=Height(0)))])
        return Node(
            genesis=world.genesis,
            key=self.identity.key,
            node_id=self.identity.node_id,
            ports=Ports(
                clock=self.clock,
                random=SeededRandom(world.random(f"{name}/node").getrandbits(64)),
                executor=SimulatedExecutor(disk),
                store=disk.open_store(),
                wal=log,
                files=disk.files,
                transport=_BentTransport(self._transport, self._habit, name),
                verdicts=None,
            ),
            metrics=Metrics(),
            path=Path("simulated") / name,
        )


class _BentTransport:
    """A :class:`node.ports.Transport` with a habit in between."""

    def __init__(self, inner: SimulatedTransport, habit: Habit, name: str) -> None:
        self._inner = inner
        self._habit = habit
        self._name = name

    async def run(self, receiver: Receiver) -> None:
        await self._inner.run(_BentReceiver(receiver, self._habit, self._name))

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        self._habit.say(peer, kind, payload)
        return True

    def connected(self) -> Sequence[Address]:
        return self._inner.connected()

    def trouble(self, peer: Address) -> str | None:
        return self._inner.trouble(peer)

    def penalise(self, peer: Address, points: int, reason: str) -> None:
        self._inner.penalise(peer, points, reason)


class _BentReceiver:
    """Lets the node hear what its habit lets through."""

    def __init__(self, inner: Receiver, habit: Habit, name: str) -> None:
        self._inner = inner
        self._habit = habit
        self._name = name

    def on_connected(self, peer: Address) -> None:
        with acting(self._name):
            self._inner.on_connected(peer)

    def on_disconnected(self, peer: Address) -> None:
        with acting(self._name):
            self._inner.on_disconnected(peer)

    def on_message(self, peer: Address, kind: int, payload: bytes) -> None:
        with acting(self._name):
            try:
                heard = self._habit.hear(peer, kind, payload)
            except DecodeError:
                # Another hostile miner may send noise, which is for the node to refuse.
                heard = payload
            if heard is not None:
                self._inner.on_message(peer, kind, heard)

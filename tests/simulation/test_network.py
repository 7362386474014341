"""The simulated network: one seed is one course of events, and its switches do what they say."""

import asyncio
import selectors
from contextlib import AsyncExitStack

import pytest

from chain.types import Address
from node.p2p import P2PLimits, PeerDirectory, Reason
from tests.p2p import BLOCK, KINDS, VOTE, Recorder, node_keys, running
from tests.simulation.clock import SimulatedClock
from tests.simulation.network import LinkQuality, SimulatedNetwork, SimulatedTransport
from tests.simulation.random_source import SeededRandom

LIMITS = P2PLimits()
KEYS = node_keys(4)
ENTRIES = [key.entry(1) for key in KEYS]
NAMES = ("a", "b", "c", "d")


class _NoWaiting(selectors.SelectSelector):
    """Lets time pass instead of waiting."""

    now_s = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now_s += timeout
        return ready


class TimelessLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._passing = _NoWaiting()
        super().__init__(self._passing)

    def time(self) -> float:
        return self._passing.now_s


def simulate(scene):
    """Run the coroutine function `scene` in simulated time."""
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        return runner.run(scene())


class Nodes:
    """Nodes a, b, … in ascending order of their ids, on one network."""

    def __init__(self, count: int = 2, *, seed: int = 1, **quality: int) -> None:
        self.network = SimulatedNetwork(seed, LinkQuality(**quality))
        self.ids = [key.node_id for key in KEYS[:count]]
        self.receivers = [Recorder() for _ in self.ids]
        self.transports = [self.transport(index) for index in range(count)]

    def transport(self, index: int, name: str | None = None) -> SimulatedTransport:
        return SimulatedTransport(
            self.network,
            node_id=KEYS[index].node_id,
            directory=PeerDirectory(tuple(ENTRIES)),
            kinds=KINDS,
            clock=SimulatedClock(asyncio.get_running_loop().time, start_ms=0),
            random=SeededRandom(index),
            name=name or NAMES[index],
        )

    async def __aenter__(self):
        self._stack = AsyncExitStack()
        for transport, receiver in zip(self.transports, self.receivers, strict=True):
            await self._stack.enter_async_context(running(transport, receiver))
        await asyncio.sleep(1)
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()


def received(nodes: Nodes, index: int) -> list[bytes]:
    return [payload for *_, payload in nodes.receivers[index].messages]


def test_one_seed_is_one_course_of_events():
    async def scene(seed):
        log = []
        async with Nodes(4, seed=seed, break_ppm=20_000, loss_ppm=20_000) as nodes:
            loop = asyncio.get_running_loop()
            for receiver in nodes.receivers:
                receiver.react = lambda *event: log.append((loop.time(), *event))
            for number in range(300):
                source = number % 4
                for target in nodes.ids:
                    nodes.transports[source].send(target, VOTE, number.to_bytes(2, "big"))
                await asyncio.sleep(0.003)
            await asyncio.sleep(1)
        return log, [receiver.events for receiver in nodes.receivers]

    first, again, other = (simulate(lambda seed=seed: scene(seed)) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert any("disconnected" in events[0] for events in first[1][0])


def test_a_message_takes_the_latency_of_its_link():
    async def scene():
        loop = asyncio.get_running_loop()
        async with Nodes(latency_us_min=50_000, latency_us_max=50_000) as nodes:
            began_s = loop.time()
            arrived = []
            nodes.receivers[1].react = lambda *_: arrived.append(loop.time() - began_s)
            nodes.transports[0].send(nodes.ids[1], VOTE, b"?")
            await asyncio.sleep(0.2)
            return arrived

    assert simulate(scene) == [pytest.approx(0.05)]


def test_bandwidth_delays_bulk_and_not_the_urgent_lane():
    async def scene():
        quality = {"latency_us_min": 1000, "latency_us_max": 1000, "bytes_per_ms": 1250}
        loop = asyncio.get_running_loop()
        async with Nodes(**quality) as nodes:
            arrived = {}
            began_s = loop.time()
            nodes.receivers[1].react = lambda _, kind, __: arrived.update(
                {kind: loop.time() - began_s}
            )
            nodes.transports[0].send(nodes.ids[1], BLOCK, bytes(1_250_000))
            nodes.transports[0].send(nodes.ids[1], VOTE, bytes(125))
            await asyncio.sleep(3)
            return arrived

    assert simulate(scene) == {VOTE: pytest.approx(0.0011), BLOCK: pytest.approx(1.001)}


def test_loss_and_duplicates_come_as_often_as_asked():
    async def count(**quality):
        async with Nodes(**quality) as nodes:
            for _ in range(100):
                for _ in range(100):
                    nodes.transports[0].send(nodes.ids[1], VOTE, b"x")
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            return len(received(nodes, 1)), nodes.receivers[1].count("disconnected")

    assert simulate(lambda: count()) == (10_000, 0)
    lost, breaks = simulate(lambda: count(loss_ppm=100_000))
    assert 8_800 < lost < 9_200
    assert breaks == 0
    doubled, _ = simulate(lambda: count(duplicate_ppm=100_000))
    assert 10_800 < doubled < 11_200


def test_a_short_cut_delays_and_loses_nothing():
    async def scene():
        async with Nodes() as nodes:
            nodes.network.cut("a", "b")
            sent = [bytes((number,)) for number in range(50)]
            for payload in sent:
                nodes.transports[0].send(nodes.ids[1], VOTE, payload)
                nodes.transports[1].send(nodes.ids[0], VOTE, payload)
            await asyncio.sleep(5)
            assert received(nodes, 0) == sent
            assert received(nodes, 1) == []
            nodes.network.heal("a", "b")
            await asyncio.sleep(1)
            assert received(nodes, 1) == sent
            assert nodes.receivers[1].count("disconnected") == 0

    simulate(scene)


def test_a_long_cut_ends_the_session_and_healing_brings_another():
    async def scene():
        async with Nodes() as nodes:
            nodes.network.partition(["a"], ["b"])
            nodes.transports[0].send(nodes.ids[1], VOTE, b"lost")
            await asyncio.sleep(LIMITS.idle_timeout_ms / 1000 + 1)
            assert list(nodes.transports[0].connected()) == []
            assert list(nodes.transports[1].connected()) == []
            nodes.network.heal_all()
            await asyncio.sleep(60)
            told = [event[0] for event in nodes.receivers[1].events]
            assert told == ["connected", "disconnected", "connected"]

    simulate(scene)


def test_a_one_way_cut_ends_the_session_at_both_ends():
    async def scene():
        async with Nodes() as nodes:
            nodes.network.cut("a", "b")
            await asyncio.sleep(LIMITS.idle_timeout_ms / 1000 + 1)

            assert nodes.transports[1].stats().ended == {Reason.IDLE: 1}
            assert nodes.transports[0].stats().ended == {Reason.CLOSED: 1}

    simulate(scene)


def test_a_partition_leaves_sessions_within_its_groups_alone():
    async def scene():
        async with Nodes(4) as nodes:
            nodes.network.partition(["a", "b"], ["c", "d"])
            await asyncio.sleep(60)

            peers = [list(transport.connected()) for transport in nodes.transports]
            a, b, c, d = nodes.ids
            assert peers == [[b], [a], [d], [c]]

    simulate(scene)


def test_a_break_loses_what_is_on_its_way_and_is_told_at_both_ends():
    async def scene():
        async with Nodes() as nodes:
            nodes.transports[0].send(nodes.ids[1], VOTE, b"on its way")
            nodes.network.break_session("a", "b")
            await asyncio.sleep(5)

            for receiver in nodes.receivers:
                told = [event[0] for event in receiver.events]
                assert told == ["connected", "disconnected", "connected"]

    simulate(scene)


def test_of_twins_a_peer_knows_one_at_a_time():
    async def scene():
        async with Nodes() as nodes:
            twin_receiver = Recorder()
            async with running(nodes.transport(1, "b2"), twin_receiver):
                await asyncio.sleep(5)
                assert twin_receiver.events == []
                nodes.network.partition(["a"], ["b"])
                await asyncio.sleep(60)
                nodes.transports[0].send(nodes.ids[1], VOTE, b"for the twin")
                await asyncio.sleep(1)

                assert twin_receiver.messages == [(nodes.ids[0], VOTE, b"for the twin")]

    simulate(scene)


def test_some_messages_overtake_others_where_that_is_switched_on():
    async def scene(**quality: int) -> list[bytes]:
        async with Nodes(**quality) as nodes:
            for number in range(100):
                nodes.transports[0].send(nodes.ids[1], VOTE, b"%03d" % number)
            await asyncio.sleep(1)
            return received(nodes, 1)

    straight = simulate(scene)
    mixed = simulate(lambda: scene(reorder_ppm=100_000))

    assert straight == sorted(straight)
    assert mixed != straight
    assert sorted(mixed) == straight


def test_a_node_that_has_moved_is_dialled_where_it_is_or_not_at_all():
    async def scene(host: str) -> list[Address]:
        nodes = Nodes()
        # The other one is told of no address, and dials nobody.
        nodes.transports[1].update_directory(PeerDirectory((KEYS[0].entry(),)))
        nodes.transports[1].host = host
        async with nodes:
            return list(nodes.transports[0].connected())

    assert simulate(lambda: scene("127.0.0.1")) == [KEYS[1].node_id]
    assert simulate(lambda: scene("elsewhere")) == []

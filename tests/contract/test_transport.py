"""What every transport does, over TLS on the loopback and in the simulator alike."""

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from node.clock import SystemClock
from node.p2p import PeerDirectory
from tests.p2p import (
    BLOCK,
    KINDS,
    QUICK,
    SMALL,
    VOTE,
    Recorder,
    make_transport,
    node_key,
    node_keys,
    running,
    until,
)
from tests.simulation.network import SimulatedNetwork, SimulatedTransport
from tests.simulation.random_source import SeededRandom


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TlsWorld:
    """Nodes on the loopback; every one may dial every other."""

    def __init__(self, count: int) -> None:
        self.keys = node_keys(count)
        self.ports = [free_port() for _ in self.keys]
        self.entries = [key.entry(port) for key, port in zip(self.keys, self.ports, strict=True)]

    def transport(self, index: int):
        return make_transport(self.keys[index], self.entries, port=self.ports[index])


class SimulatedWorld:
    """The same nodes on a network in memory."""

    def __init__(self, count: int) -> None:
        self.keys = node_keys(count)
        self.entries = [key.entry(1) for key in self.keys]
        self.network = SimulatedNetwork(seed=7)

    def transport(self, index: int):
        return SimulatedTransport(
            self.network,
            node_id=self.keys[index].node_id,
            directory=PeerDirectory(tuple(self.entries)),
            kinds=KINDS,
            clock=SystemClock(),
            random=SeededRandom(index),
            limits=QUICK,
        )


@pytest.fixture(params=[TlsWorld, SimulatedWorld], ids=["tls", "simulated"])
def make_world(request):
    return request.param


class Nodes:
    """Running nodes with everything they were told."""

    def __init__(self, world) -> None:
        self.world = world
        self.ids = [key.node_id for key in world.keys]
        self.transports = [world.transport(index) for index in range(len(self.ids))]
        self.receivers = [Recorder() for _ in self.ids]
        self._stacks: list[AsyncExitStack] = []

    async def __aenter__(self):
        for index in range(len(self.ids)):
            await self._start(index)
        await self.all_connected()
        return self

    async def __aexit__(self, *_):
        for stack in self._stacks:
            await stack.aclose()

    async def _start(self, index: int) -> None:
        stack = AsyncExitStack()
        await stack.enter_async_context(running(self.transports[index], self.receivers[index]))
        self._stacks.append(stack)

    async def stop(self, index: int) -> None:
        await self._stacks[index].aclose()

    async def all_connected(self) -> None:
        everybody = [[i for i in self.ids if i != own] for own in self.ids]
        await until(lambda: [list(t.connected()) for t in self.transports] == everybody)


async def test_all_find_each_other_and_are_told_once_for_each_peer(make_world):
    async with Nodes(make_world(4)) as nodes:
        await asyncio.sleep(0.1)

        for own, receiver in zip(nodes.ids, nodes.receivers, strict=True):
            connected = sorted(event[1] for event in receiver.events if event[0] == "connected")
            assert connected == [peer for peer in nodes.ids if peer != own]
            assert receiver.count("disconnected") == 0


async def test_connected_peers_are_in_ascending_order(make_world):
    async with Nodes(make_world(4)) as nodes:
        assert list(nodes.transports[0].connected()) == sorted(nodes.ids[1:])


async def test_a_message_arrives_with_its_sender_kind_and_payload(make_world):
    async with Nodes(make_world(2)) as nodes:
        assert nodes.transports[0].send(nodes.ids[1], VOTE, b"prepare")
        await until(lambda: nodes.receivers[1].messages)

        assert nodes.receivers[1].messages == [(nodes.ids[0], VOTE, b"prepare")]


@pytest.mark.parametrize("kind", [VOTE, BLOCK])
async def test_order_holds_within_a_session(make_world, kind):
    payloads = [number.to_bytes(4, "big") for number in range(3000)]
    async with Nodes(make_world(2)) as nodes:
        for start in range(0, len(payloads), 250):
            for payload in payloads[start : start + 250]:
                assert nodes.transports[0].send(nodes.ids[1], kind, payload)
            await asyncio.sleep(0)
        await until(lambda: len(nodes.receivers[1].messages) == len(payloads))

        assert [payload for *_, payload in nodes.receivers[1].messages] == payloads


async def test_an_answer_may_be_sent_from_within_the_delivery(make_world):
    async with Nodes(make_world(2)) as nodes:
        nodes.receivers[1].react = lambda peer, kind, payload: nodes.transports[1].send(
            peer, kind, payload + b"!"
        )
        nodes.transports[0].send(nodes.ids[1], VOTE, b"ping")
        await until(lambda: nodes.receivers[0].messages)

        assert nodes.receivers[0].messages == [(nodes.ids[1], VOTE, b"ping!")]


async def test_nothing_is_delivered_to_oneself(make_world):
    async with Nodes(make_world(2)) as nodes:
        assert nodes.ids[0] not in nodes.transports[0].connected()
        assert not nodes.transports[0].send(nodes.ids[0], VOTE, b"to myself")


async def test_sending_to_an_unknown_peer_is_false(make_world):
    async with Nodes(make_world(2)) as nodes:
        assert not nodes.transports[0].send(node_key(99).node_id, VOTE, b"?")


async def test_sending_before_running_is_false(make_world):
    world = make_world(2)

    assert not world.transport(0).send(world.keys[1].node_id, VOTE, b"?")


async def test_a_message_of_four_mebibytes_arrives_whole(make_world):
    payload = bytes(range(256)) * (4 * 2**20 // 256)
    async with Nodes(make_world(2)) as nodes:
        assert nodes.transports[0].send(nodes.ids[1], BLOCK, payload)
        await until(lambda: nodes.receivers[1].messages)

        assert nodes.receivers[1].messages == [(nodes.ids[0], BLOCK, payload)]


@pytest.mark.parametrize("kind", [VOTE, SMALL, BLOCK])
async def test_a_payload_at_the_limit_arrives_and_one_byte_more_is_refused(make_world, kind):
    limit = KINDS[kind].payload_size_max
    async with Nodes(make_world(2)) as nodes:
        assert not nodes.transports[0].send(nodes.ids[1], kind, bytes(limit + 1))
        assert nodes.transports[0].send(nodes.ids[1], kind, bytes(limit))
        await until(lambda: nodes.receivers[1].messages)

        assert [len(payload) for *_, payload in nodes.receivers[1].messages] == [limit]
        assert nodes.transports[0].stats().dropped_too_large == 1


async def test_a_full_queue_refuses_and_counts(make_world):
    payload = bytes(4 * 2**20)
    async with Nodes(make_world(2)) as nodes:
        results = [nodes.transports[0].send(nodes.ids[1], BLOCK, payload) for _ in range(20)]

        assert results[0] is True
        assert results[-1] is False
        assert nodes.transports[0].stats().dropped_queue_full == results.count(False)
        assert nodes.transports[0].send(nodes.ids[1], VOTE, b"urgent")


async def test_the_end_of_a_peer_is_told_and_sending_to_it_is_false(make_world):
    async with Nodes(make_world(3)) as nodes:
        await nodes.stop(2)
        await until(lambda: nodes.receivers[0].count("disconnected"))

        assert nodes.receivers[0].events[-1] == ("disconnected", nodes.ids[2])
        assert list(nodes.transports[0].connected()) == [nodes.ids[1]]
        assert not nodes.transports[0].send(nodes.ids[2], VOTE, b"?")
        assert nodes.transports[0].send(nodes.ids[1], VOTE, b"!")


async def test_after_its_end_a_transport_calls_nobody(make_world):
    async with Nodes(make_world(2)) as nodes:
        await nodes.stop(0)
        told = list(nodes.receivers[0].events)
        nodes.transports[1].send(nodes.ids[0], VOTE, b"late")
        await asyncio.sleep(0.05)

        assert nodes.receivers[0].events == told


async def test_a_peer_that_comes_back_is_connected_again(make_world):
    async with Nodes(make_world(2)) as nodes:
        await nodes.stop(1)
        await until(lambda: nodes.receivers[0].count("disconnected"))
        nodes.transports[1] = nodes.world.transport(1)
        await nodes._start(1)
        await nodes.all_connected()
        nodes.transports[0].send(nodes.ids[1], VOTE, b"again")
        await until(lambda: nodes.receivers[1].messages)

        told = [event[0] for event in nodes.receivers[0].events]
        assert told == ["connected", "disconnected", "connected"]


async def test_a_penalised_peer_is_disconnected_and_kept_away(make_world):
    async with Nodes(make_world(3)) as nodes:
        nodes.transports[0].penalise(nodes.ids[1], 60, "test")
        assert len(nodes.transports[0].connected()) == 2
        nodes.transports[0].penalise(nodes.ids[1], 60, "test")

        assert list(nodes.transports[0].connected()) == [nodes.ids[2]]
        await until(lambda: nodes.receivers[1].count("disconnected"))
        await asyncio.sleep(0.3)
        assert list(nodes.transports[0].connected()) == [nodes.ids[2]]
        assert nodes.receivers[0].count("disconnected") == 1


async def test_a_peer_may_be_banned_from_within_its_message(make_world):
    async with Nodes(make_world(2)) as nodes:
        nodes.receivers[1].react = lambda peer, *_: nodes.transports[1].penalise(peer, 100, "test")
        for _ in range(3):
            nodes.transports[0].send(nodes.ids[1], VOTE, b"bad")
        await until(lambda: nodes.receivers[1].count("disconnected"))

        told = [event[0] for event in nodes.receivers[1].events]
        assert told == ["connected", "message", "disconnected"]


async def test_who_leaves_the_directory_is_disconnected(make_world):
    world = make_world(2)
    async with Nodes(world) as nodes:
        nodes.transports[0].update_directory(PeerDirectory((world.entries[0],)))

        assert list(nodes.transports[0].connected()) == []
        await until(lambda: nodes.receivers[1].count("disconnected"))
        await asyncio.sleep(0.1)
        assert list(nodes.transports[1].connected()) == []


async def test_who_enters_the_directory_is_connected(make_world):
    world = make_world(2)
    first, second = world.transport(0), world.transport(1)
    for transport in (first, second):
        transport.update_directory(PeerDirectory())
    async with running(first, Recorder()), running(second, Recorder()):
        for transport in (first, second):
            transport.update_directory(PeerDirectory(tuple(world.entries)))

        await until(first.connected)
        await until(second.connected)


async def test_a_receiver_that_raises_ends_the_run(make_world):
    def react(*_):
        raise LookupError("a defect of the node")

    world = make_world(2)
    first, second = world.transport(0), world.transport(1)
    async with running(first, Recorder()):
        run = asyncio.get_running_loop().create_task(second.run(Recorder(react=react)))
        await until(first.connected)
        first.send(world.keys[1].node_id, VOTE, b"!")

        with pytest.raises(ExceptionGroup) as caught:
            await run

    assert caught.group_contains(LookupError)

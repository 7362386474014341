"""Sessions between honest nodes over real sockets: how they come about, last and end."""

import asyncio
import errno
import socket
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from chain.types import Digest
from node.errors import ConfigError
from node.p2p import PeerDirectory, PeerEntry, Reason
from node.p2p.framing import HEADER, FrameEncoder
from node.p2p.handshake import GOODBYE, HELLO, HELLO_SIZE, goodbye
from tests.integration.p2p_peer import RawListener, RawPeer, frame, message
from tests.p2p import (
    BLOCK,
    QUICK,
    VOTE,
    Recorder,
    make_transport,
    node_keys,
    running,
    until,
)

ALICE, BOB, CAROL = node_keys(3)


def listening_sockets(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


# --- coming about ---------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(5))
async def test_nodes_that_all_dial_at_once_have_one_session_for_each_pair(attempt):
    keys = node_keys(6)
    ports = listening_sockets(len(keys))
    entries = [key.entry(port) for key, port in zip(keys, ports, strict=True)]
    receivers = [Recorder() for _ in keys]
    transports = [
        make_transport(key, entries, port=port) for key, port in zip(keys, ports, strict=True)
    ]
    async with AsyncExitStack() as stack:
        runs = map(running, transports, receivers)
        await asyncio.gather(*map(stack.enter_async_context, runs))
        await until(lambda: all(len(transport.connected()) == 5 for transport in transports))
        await asyncio.sleep(0.1)

        for receiver in receivers:
            assert receiver.count("connected") == 5
            assert receiver.count("disconnected") == 0


async def test_one_dialler_is_enough():
    listener = make_transport(ALICE, [BOB.entry()])
    async with running(listener, Recorder()):
        dialler = make_transport(BOB, [ALICE.entry(listener.port)])
        async with running(dialler, Recorder()):
            await until(lambda: listener.connected() and dialler.connected())


async def test_a_node_finds_a_peer_that_starts_late():
    (port,) = listening_sockets(1)
    early = make_transport(ALICE, [BOB.entry(port)])
    async with running(early, Recorder()):
        await until(lambda: early.stats().refused.get(Reason.UNREACHABLE, 0) >= 2)
        async with running(make_transport(BOB, [ALICE.entry()], port=port), Recorder()):
            await until(early.connected)


async def test_a_host_name_is_resolved():
    listener = make_transport(ALICE, [BOB.entry()])
    async with running(listener, Recorder()):
        entry = replace(ALICE.entry(listener.port), host="localhost")
        dialler = make_transport(BOB, [entry])
        async with running(dialler, Recorder()):
            await until(dialler.connected)


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
async def test_a_name_that_leads_nowhere_stops_nobody(host):
    lost = replace(BOB.entry(1), host=host)
    transport = make_transport(ALICE, [lost, CAROL.entry()])
    async with running(transport, Recorder()):
        await until(lambda: transport.stats().refused.get(Reason.UNREACHABLE))
        async with running(make_transport(CAROL, [ALICE.entry(transport.port)]), Recorder()):
            await until(transport.connected)


async def test_another_member_at_the_dialled_address_is_not_taken_for_the_peer():
    impostor = make_transport(CAROL, [BOB.entry()])
    async with running(impostor, Recorder()):
        dialler = make_transport(BOB, [ALICE.entry(impostor.port), CAROL.entry()])
        async with running(dialler, Recorder()):
            await until(lambda: dialler.stats().refused.get(Reason.WRONG_PEER))

            assert list(dialler.connected()) == []


async def test_a_stranger_at_the_dialled_address_fails_in_tls():
    stranger = make_transport(CAROL, [BOB.entry()])
    async with running(stranger, Recorder()):
        dialler = make_transport(BOB, [ALICE.entry(stranger.port)])
        async with running(dialler, Recorder()):
            await until(lambda: dialler.stats().refused.get(Reason.UNKNOWN_KEY))


async def test_nodes_of_two_chains_refuse_each_other_and_say_so():
    listener = make_transport(ALICE, [BOB.entry()])
    async with running(listener, Recorder()):
        dialler = make_transport(BOB, [ALICE.entry(listener.port)], genesis_hash=Digest(bytes(32)))
        async with running(dialler, Recorder()):
            await until(lambda: dialler.stats().refused.get(Reason.REFUSED_BY_PEER))

            assert listener.stats().refused[Reason.WRONG_GENESIS]
            assert list(dialler.connected()) == list(listener.connected()) == []


@pytest.mark.parametrize(("node", "peer"), [(ALICE, BOB), (BOB, ALICE)])
async def test_of_two_that_greet_at_once_the_smaller_id_goes_first(node, peer):
    async with RawListener(peer) as listener:
        transport = make_transport(node, [peer.entry(listener.port)])
        async with running(transport, Recorder()):
            # The node has said hello and waits for the answer.
            greeting = await listener.greeting(HEADER.size + HELLO_SIZE)
            assert greeting[HEADER.size - 1] == HELLO
            async with RawPeer(peer, node) as caller:
                await caller.channel(transport.port)
                caller.write(frame(HELLO, caller.hello()))
                kind, payload = await caller.receive()

                if node is ALICE:
                    assert (kind, payload) == (GOODBYE, goodbye(Reason.DUPLICATE))
                    assert list(transport.connected()) == []
                else:
                    assert kind == HELLO
                    assert list(transport.connected()) == [peer.node_id]
                    assert transport.stats().refused == {Reason.DUPLICATE: 1}


async def test_the_end_of_a_session_is_told_before_the_next_begins():
    receiver = Recorder()
    victim = make_transport(ALICE, [BOB.entry()])
    async with running(victim, receiver), RawPeer(BOB, ALICE) as peer:
        await peer.session(victim.port)
        await until(victim.connected)
        session = victim._sessions[BOB.node_id]
        # Both in one turn of the loop, as when the peer's new connection is read right behind.
        session.close(Reason.CLOSED)
        victim.on_established(session)
        victim.on_closed(session)
        await asyncio.sleep(0)

        told = [event[0] for event in receiver.events]
        assert told == ["connected", "disconnected", "connected", "disconnected"]


async def test_an_address_that_is_taken_is_an_error_of_run():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        transport = make_transport(ALICE, port=holder.getsockname()[1])

        with pytest.raises(ConfigError, match="in use"):
            await transport.run(Recorder())


async def test_a_node_out_of_descriptors_accepts_again_later(monkeypatch):
    accept = socket.socket.accept
    failures: list[OSError] = []

    def fail_twice(listener):
        if len(failures) < 2:
            failures.append(OSError(errno.EMFILE, "Too many open files"))
            raise failures[-1]
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", fail_twice)
    listener = make_transport(ALICE, [BOB.entry()])
    async with running(listener, Recorder()):
        dialler = make_transport(BOB, [ALICE.entry(listener.port)])
        async with running(dialler, Recorder()):
            await until(lambda: listener.connected() and dialler.connected())

    assert len(failures) == 2


async def test_a_node_with_a_new_key_keeps_its_id():
    listener = make_transport(ALICE, [BOB.entry()])
    async with running(listener, Recorder()):
        old = make_transport(BOB, [ALICE.entry(listener.port)])
        new = make_transport(
            BOB, [ALICE.entry(listener.port)], seed=CAROL.seed, node_id=BOB.node_id
        )
        async with running(old, Recorder()):
            await until(listener.connected)
            rotated = PeerEntry(node_id=BOB.node_id, public_key=CAROL.public_key)
            listener.update_directory(PeerDirectory((rotated,)))
            assert list(listener.connected()) == []
        async with running(new, Recorder()):
            await until(listener.connected)


# --- lasting --------------------------------------------------------------------------------------


async def test_an_idle_session_lasts():
    limits = replace(QUICK, ping_interval_ms=100, idle_timeout_ms=1_000)
    listener = make_transport(ALICE, [BOB.entry()], limits=limits)
    dialler_receiver = Recorder()
    async with running(listener, Recorder()):
        dialler = make_transport(BOB, [ALICE.entry(listener.port)], limits=limits)
        async with running(dialler, dialler_receiver):
            await until(dialler.connected)
            await asyncio.sleep(1.5)

            assert dialler_receiver.events == [("connected", ALICE.node_id)]


async def test_a_peer_that_fell_silent_is_given_up():
    receiver = Recorder()
    limits = replace(QUICK, ping_interval_ms=50, idle_timeout_ms=200)
    victim = make_transport(ALICE, [BOB.entry()], limits=limits)
    async with running(victim, receiver), RawPeer(BOB, ALICE) as silent:
        await silent.session(victim.port)

        await until(lambda: victim.stats().ended.get(Reason.IDLE))
        await until(lambda: receiver.events[-1] == ("disconnected", BOB.node_id))


async def test_a_peer_that_reads_nothing_fills_its_own_queue_and_is_given_up():
    limits = replace(QUICK, idle_timeout_ms=60_000, stall_timeout_ms=300, bulk_queue_size_max=2**22)
    victim = make_transport(ALICE, [BOB.entry(), CAROL.entry()], limits=limits)
    async with running(victim, Recorder()), RawPeer(BOB, ALICE) as deaf:
        await deaf.session(victim.port)
        await until(victim.connected)
        deaf.fall_silent()
        while victim.send(BOB.node_id, BLOCK, bytes(2**20)):
            await asyncio.sleep(0)
        async with RawPeer(CAROL, ALICE) as other:
            await other.session(victim.port)
            assert victim.send(CAROL.node_id, BLOCK, b"for another")
            assert await other.receive() == (BLOCK, b"for another")

        await until(lambda: victim.stats().ended.get(Reason.STALLED))
        assert victim.stats().dropped_queue_full == 1


async def test_a_lost_connection_makes_room_once_the_peer_dials_anew():
    limits = replace(QUICK, ping_interval_ms=10_000, idle_timeout_ms=60_000, probe_timeout_ms=200)
    victim = make_transport(ALICE, [BOB.entry()], limits=limits)
    async with running(victim, Recorder()), RawPeer(BOB, ALICE) as lost:
        await lost.session(victim.port)
        # As after a cut cable, the old connection answers nothing and closes nothing.
        lost.fall_silent()
        peer = make_transport(BOB, [ALICE.entry(victim.port)])
        async with running(peer, Recorder()):
            await until(peer.connected)

            assert peer.stats().refused[Reason.REFUSED_BY_PEER]
            assert victim.stats().ended == {Reason.IDLE: 1}


async def test_megabytes_flow_without_anything_else_to_push_them():
    limits = replace(QUICK, ping_interval_ms=60_000, idle_timeout_ms=60_000)
    receiver = Recorder()
    listener = make_transport(ALICE, [BOB.entry()], limits=limits)
    async with running(listener, receiver):
        sender = make_transport(BOB, [ALICE.entry(listener.port)], limits=limits)
        async with running(sender, Recorder()):
            await until(lambda: sender.connected() and listener.connected())
            for _ in range(4):
                assert sender.send(ALICE.node_id, BLOCK, bytes(6 * 2**20))

            await until(lambda: len(receiver.messages) == 4)


async def test_an_urgent_message_overtakes_megabytes_on_a_slow_line():
    victim = make_transport(ALICE, [BOB.entry()])
    async with running(victim, Recorder()), RawPeer(BOB, ALICE) as slow:
        await slow.session(victim.port, receive_buffer=64 * 1024)
        await until(victim.connected)
        slow.fall_silent()
        for _ in range(4):
            assert victim.send(BOB.node_id, BLOCK, bytes(6 * 2**20))
        # Now all buffers below the queues are full.
        await asyncio.sleep(0.2)
        assert victim.send(BOB.node_id, VOTE, b"vote")
        before = await slow.size_before(VOTE)

        # Both ends' sockets, a record or two, and what the reader had taken: not 24 MiB.
        assert before < 2**20


async def test_a_peer_above_its_bytes_a_second_is_slowed_and_loses_nothing():
    receiver = Recorder()
    limits = replace(QUICK, inbound_bytes_per_second=4 * 2**20, inbound_burst_size=2**20)
    listener = make_transport(ALICE, [BOB.entry()], limits=limits)
    async with running(listener, receiver):
        sender = make_transport(BOB, [ALICE.entry(listener.port)])
        async with running(sender, Recorder()):
            await until(lambda: sender.connected() and listener.connected())
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            for _ in range(3):
                assert sender.send(ALICE.node_id, BLOCK, bytes(2**20))
            await until(lambda: len(receiver.messages) == 3)

            assert loop.time() - began_s > 0.4
            assert receiver.count("disconnected") == 0


async def test_what_is_sent_in_one_turn_leaves_in_one_write(monkeypatch):
    writes = []
    take = FrameEncoder.take

    def spy(*arguments):
        writes.append(take(*arguments))
        return writes[-1]

    victim = make_transport(ALICE, [BOB.entry()])
    async with running(victim, Recorder()), RawPeer(BOB, ALICE) as peer:
        await peer.session(victim.port)
        await until(victim.connected)
        monkeypatch.setattr(FrameEncoder, "take", spy)
        for _ in range(100):
            victim.send(BOB.node_id, VOTE, bytes(20))
        await peer.receive()

        assert [len(data) for data in writes if data] == [100 * (20 + HEADER.size)]


async def test_the_traffic_is_counted():
    receiver = Recorder()
    listener = make_transport(ALICE, [BOB.entry()])
    async with running(listener, receiver), RawPeer(BOB, ALICE) as peer:
        await peer.session(listener.port)
        before = listener.stats()
        peer.write(message(VOTE, b"12345"))
        await until(lambda: receiver.messages)
        listener.send(BOB.node_id, VOTE, b"123")
        await peer.receive()

        after = listener.stats()
        assert after.peers == 1
        assert after.messages_received - before.messages_received == 1
        assert after.bytes_received - before.bytes_received == 5 + HEADER.size
        assert after.messages_sent - before.messages_sent == 1
        assert after.bytes_sent - before.bytes_sent == 3 + HEADER.size

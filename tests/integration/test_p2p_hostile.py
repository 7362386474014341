"""What strangers and false peers may send to a node: it is counted, and others notice nothing.

Every test has an honest pair talking while the attack goes on.
"""

import asyncio
import random
import ssl
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from chain.types import Digest
from node.p2p import PeerDirectory, Reason
from node.p2p.errors import GOODBYE_CODES
from node.p2p.framing import FRAGMENT_SIZE, HEADER, MORE_FLAG
from node.p2p.handshake import GOODBYE, HELLO, HELLO_SIZE, HELLO_TAG, PING, goodbye
from tests.integration.p2p_peer import RawPeer, frame, message
from tests.p2p import (
    BLOCK,
    QUICK,
    SMALL,
    VOTE,
    Recorder,
    make_transport,
    node_keys,
    running,
    until,
)

VICTIM, FRIEND, MEMBER, STRANGER = node_keys(4)


class Victim:
    """A node under attack, with a friend that it has to stay in touch with."""

    limits = QUICK

    async def __aenter__(self):
        self._stack = AsyncExitStack()
        self.receiver = Recorder()
        self.friend_receiver = Recorder()
        self.transport = make_transport(
            VICTIM, [FRIEND.entry(), MEMBER.entry()], limits=self.limits
        )
        await self._stack.enter_async_context(running(self.transport, self.receiver))
        self.port = self.transport.port
        self.friend = make_transport(FRIEND, [VICTIM.entry(self.port)])
        await self._stack.enter_async_context(running(self.friend, self.friend_receiver))
        await until(lambda: self.friend.connected() and self.transport.connected())
        return self

    async def __aexit__(self, *_):
        try:
            await self.assert_friend_unaffected()
        finally:
            await self._stack.aclose()

    async def assert_friend_unaffected(self):
        assert self.friend_receiver.count("disconnected") == 0
        received = len(self.friend_receiver.messages)
        assert self.transport.send(FRIEND.node_id, VOTE, b"still here")
        await until(lambda: len(self.friend_receiver.messages) > received, within_s=2)

    @property
    def refused(self):
        return self.transport.stats().refused

    @property
    def ended(self):
        return self.transport.stats().ended

    async def counts_refusal(self, reason: Reason):
        await until(lambda: self.refused.get(reason))


@pytest.fixture
async def victim():
    async with Victim() as victim:
        yield victim


async def send_plain(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


# --- strangers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        random.Random(1).randbytes(5000),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.Random(2).randbytes(507),
        frame(HELLO, bytes(HELLO_SIZE)),
        bytes(100_000),
    ],
    ids=["http", "noise", "client hello of noise", "hello in the clear", "zeros"],
)
async def test_whatever_is_not_tls_is_refused(victim, data):
    await send_plain(victim.port, data)

    await victim.counts_refusal(Reason.TLS)


async def test_a_truncated_tls_handshake_is_refused(victim):
    _, writer = await asyncio.open_connection("127.0.0.1", victim.port)
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01")
    writer.write_eof()

    await until(lambda: sum(victim.refused.values()))
    writer.transport.abort()


async def test_silence_ends_at_the_handshake_timeout(victim):
    assert await send_plain(victim.port, b"") == b""

    await victim.counts_refusal(Reason.HANDSHAKE_TIMEOUT)


async def test_a_key_outside_the_directory_fails_in_tls(victim):
    async with RawPeer(STRANGER, VICTIM) as stranger:
        await stranger.channel(victim.port)

        assert await stranger.is_closed()
    await victim.counts_refusal(Reason.UNKNOWN_KEY)


async def test_strangers_that_dial_again_and_again_are_logged_once(victim):
    with capture_logs() as lines:
        for attempt in range(3):
            async with RawPeer(STRANGER, VICTIM) as stranger:
                await stranger.channel(victim.port)
                assert await stranger.is_closed()
            await until(lambda: victim.refused.get(Reason.UNKNOWN_KEY) == attempt + 1)  # noqa: B023

    told = [line for line in lines if "unknown key" in line["event"]]
    assert [(line["log_level"], line["host"]) for line in told] == [("warning", "127.0.0.1")]


async def test_a_key_that_left_the_directory_is_refused_after_tls(victim):
    victim.transport.update_directory(PeerDirectory((FRIEND.entry(),)))
    async with RawPeer(MEMBER, VICTIM) as former:
        await former.channel(victim.port)

        assert await former.receive() == (GOODBYE, goodbye(Reason.UNKNOWN_KEY))
    await victim.counts_refusal(Reason.UNKNOWN_KEY)


async def test_a_client_without_certificate_fails(victim):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", victim.port, ssl=context)

    # In TLS 1.3 a client learns only afterwards that it should have shown one.
    with suppress(ssl.SSLError, ConnectionError):
        assert await reader.read() == b""
    writer.transport.abort()
    await victim.counts_refusal(Reason.TLS)


class CrowdedVictim(Victim):
    limits = replace(QUICK, pending_per_address_max=10, handshake_timeout_ms=2000)


@pytest.mark.attack("D10")
async def test_a_crowd_of_idle_connections_is_bounded_and_keeps_nobody_out_for_long():
    async with CrowdedVictim() as victim:
        crowd = [await asyncio.open_connection("127.0.0.1", victim.port) for _ in range(60)]

        await until(lambda: victim.refused.get(Reason.TOO_MANY_FROM_ADDRESS, 0) >= 50)
        assert victim.transport.stats().pending == 10
        await victim.assert_friend_unaffected()
        await until(lambda: victim.transport.stats().pending == 0)
        async with RawPeer(MEMBER, VICTIM) as member:
            await member.session(victim.port)
        for _, writer in crowd:
            writer.transport.abort()


class RateLimitedVictim(Victim):
    limits = replace(QUICK, accepts_per_second=5, accepts_burst=10)


@pytest.mark.attack("D11")
async def test_a_flood_of_connections_is_refused_before_it_costs_a_handshake():
    async with RateLimitedVictim() as victim:
        for _ in range(100):
            _, writer = await asyncio.open_connection("127.0.0.1", victim.port)
            writer.transport.abort()

        await until(lambda: victim.refused.get(Reason.TOO_FREQUENT, 0) >= 80)


# --- members before a session ---------------------------------------------------------------------


async def refusal_of(victim: Victim, data: bytes) -> Reason:
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.channel(victim.port)
        member.write(data)
        kind, payload = await member.receive()
        assert kind == GOODBYE
        assert await member.is_closed()
    assert MEMBER.node_id not in victim.transport.connected()
    return GOODBYE_CODES[payload[0]]


GENUINE = RawPeer(MEMBER, VICTIM)


def hello_with(at: int, byte: int) -> bytes:
    hello = bytearray(GENUINE.hello())
    hello[at] ^= byte
    return frame(HELLO, bytes(hello))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(HELLO, GENUINE.hello(Digest(bytes(32)))), Reason.WRONG_GENESIS),
        (frame(HELLO, RawPeer(FRIEND, VICTIM).hello()), Reason.WRONG_PEER),
        (frame(HELLO, RawPeer(MEMBER, FRIEND).hello()), Reason.WRONG_PEER),
        (hello_with(len(HELLO_TAG) + 1, 2), Reason.WRONG_VERSION),
        (hello_with(len(HELLO_TAG) + 2, 1), Reason.WRONG_PEER),
        (hello_with(0, 1), Reason.MALFORMED_HELLO),
        (frame(HELLO, b""), Reason.MALFORMED_HELLO),
        (frame(HELLO, bytes(HELLO_SIZE + 1)), Reason.PAYLOAD_TOO_LARGE),
        (HEADER.pack(2**31 - 1, HELLO), Reason.PAYLOAD_TOO_LARGE),
        (HEADER.pack(2**32 - 1, HELLO), Reason.MALFORMED_FRAME),
        (frame(VOTE, b"early"), Reason.UNKNOWN_KIND),
        (b"GET / HTTP/1.1\r\n\r\n", Reason.UNKNOWN_KIND),
    ],
    ids=[
        "other chain",
        "other sender",
        "other recipient",
        "other version",
        "other role",
        "other tag",
        "empty",
        "too long",
        "absurd length",
        "absurd length with fragments",
        "message before hello",
        "http",
    ],
)
async def test_a_false_hello_is_refused_by_name(victim, data, reason):
    assert await refusal_of(victim, data) is reason
    assert victim.refused[reason] == 1


async def test_a_hello_that_never_ends_is_cut_off(victim):
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.channel(victim.port)
        for byte in frame(HELLO, member.hello())[:-1]:
            member.write(bytes((byte,)))
            await asyncio.sleep(0.001)

        assert await member.is_closed()
    assert victim.refused[Reason.HANDSHAKE_TIMEOUT] == 1


async def test_a_hello_in_single_bytes_is_a_hello(victim):
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.channel(victim.port)
        for byte in frame(HELLO, member.hello()):
            member.write(bytes((byte,)))
            await asyncio.sleep(0)

        kind, _ = await member.receive()
    assert kind == HELLO


# --- members within a session ---------------------------------------------------------------------

VIOLATIONS = {
    "unknown kind": (frame(200, b"?"), Reason.UNKNOWN_KIND),
    "hello again": (frame(HELLO, GENUINE.hello()), Reason.UNKNOWN_KIND),
    "oversized": (HEADER.pack(64 * 1024 + 1, VOTE), Reason.PAYLOAD_TOO_LARGE),
    "urgent in fragments": (HEADER.pack(1 | MORE_FLAG, VOTE), Reason.MALFORMED_FRAME),
    "short fragment": (HEADER.pack(1 | MORE_FLAG, BLOCK), Reason.MALFORMED_FRAME),
    "ping with payload": (frame(PING, b"x"), Reason.PAYLOAD_TOO_LARGE),
    "empty goodbye": (frame(GOODBYE, b""), Reason.MALFORMED_FRAME),
    "endless fragments": (
        200 * (HEADER.pack(FRAGMENT_SIZE | MORE_FLAG, BLOCK) + bytes(FRAGMENT_SIZE)),
        Reason.PAYLOAD_TOO_LARGE,
    ),
}


@pytest.mark.parametrize(("data", "reason"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
async def test_what_no_honest_node_sends_ends_the_session(victim, data, reason):
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.session(victim.port)
        member.write(data)

        assert await member.is_closed()
    await until(lambda: victim.ended.get(reason) == 1)
    await until(lambda: victim.receiver.events[-1] == ("disconnected", MEMBER.node_id))


async def test_the_second_violation_bans(victim):
    for _ in range(2):
        async with RawPeer(MEMBER, VICTIM) as member:
            await member.session(victim.port)
            member.write(frame(200, b"?"))
            assert await member.is_closed()

    async with RawPeer(MEMBER, VICTIM) as member:
        await member.channel(victim.port)
        assert await member.receive() == (GOODBYE, goodbye(Reason.BANNED))


async def test_what_came_before_a_violation_is_delivered_and_nothing_after(victim):
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.session(victim.port)
        member.write(message(VOTE, b"before") + frame(200, b"?") + message(VOTE, b"after"))

        assert await member.is_closed()
    assert victim.receiver.messages == [(MEMBER.node_id, VOTE, b"before")]


async def test_a_message_cut_off_by_the_end_is_no_message(victim):
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.session(victim.port)
        member.write(message(BLOCK, bytes(100_000))[:-1])
        await member.writer.drain()
        await asyncio.sleep(0.05)
    await until(lambda: victim.ended.get(Reason.CLOSED) == 1)

    assert victim.receiver.messages == []


@pytest.mark.attack("D6")
@pytest.mark.parametrize("seed", range(10))
async def test_noise_within_a_session_is_survived(victim, seed):
    noise = random.Random(seed)
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.session(victim.port)
        for _ in range(20):
            kind = noise.choice([VOTE, SMALL, BLOCK, PING, noise.randrange(256)])
            payload = noise.randbytes(noise.choice([0, 1, 16, 17, 1000]))
            data = bytearray(frame(kind, payload))
            if noise.random() < 0.3:
                data[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
            member.write(bytes(data))
        member.write(noise.randbytes(1000))

        assert await member.is_closed()


@pytest.mark.attack("D2")
async def test_a_flood_of_messages_is_dropped_counted_and_in_the_end_banned(victim):
    flood = message(SMALL, b"x") * 10_000
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.session(victim.port)
        member.write(flood)

        assert await member.is_closed()
    assert victim.ended[Reason.BANNED] == 1
    assert victim.transport.stats().dropped_rate >= 100 * QUICK.excess_messages_per_point
    assert 100 <= len(victim.receiver.messages) < 200


async def test_a_storm_of_sessions_is_banned(victim):
    refusal = None
    while refusal is None:
        async with RawPeer(MEMBER, VICTIM) as member:
            await member.channel(victim.port)
            member.write(frame(HELLO, member.hello()))
            kind, payload = await member.receive()
            if kind == GOODBYE:
                refusal = payload
            member.writer.transport.abort()
            # A session of which the end is not yet seen would make the next one a duplicate.
            await until(lambda: MEMBER.node_id not in victim.transport.connected())

    assert refusal == goodbye(Reason.BANNED)
    assert victim.receiver.count("connected") > 100


async def test_a_flood_of_pings_is_not_answered(victim):
    async with RawPeer(MEMBER, VICTIM) as member:
        await member.session(victim.port)
        member.write(frame(PING, b"") * 5_000)
        await until(lambda: victim.transport.stats().dropped_rate >= 4_900)

        assert victim.transport.stats().messages_sent < 100


async def test_a_second_connection_with_one_key_does_not_replace_the_first(victim):
    async with RawPeer(MEMBER, VICTIM) as first, RawPeer(MEMBER, VICTIM) as second:
        await first.session(victim.port)
        await second.channel(victim.port)
        second.write(frame(HELLO, second.hello()))
        assert await second.receive() == (GOODBYE, goodbye(Reason.DUPLICATE))

        first.write(message(VOTE, b"first"))
        await until(lambda: victim.receiver.messages)
    assert victim.receiver.messages == [(MEMBER.node_id, VOTE, b"first")]

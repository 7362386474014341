"""The RPC on real sockets: hostile, slow and many clients, TLS, start and stop."""

import asyncio
import datetime
import ipaddress
import json
import re
import socket
import ssl
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any

import aiohttp
import msgpack
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from node.errors import ConfigError
from node.rpc import RpcConfig, RpcLimits, RpcServer, render
from tests.unit.node.rpc.chain_node import ChainNode, serving

QUICK = RpcLimits(
    header_timeout_ms=1_000,
    idle_timeout_ms=1_000,
    body_timeout_ms=500,
    write_timeout_ms=3_000,
    slow_consumer_ms=500,
)
"""Short, but not shorter than a busy machine may pause."""
STATUS = b"GET /v1/status HTTP/1.1\r\nHost: node\r\n\r\n"


@pytest.fixture
async def node():
    node = ChainNode(limits="")
    await node.register()
    return node


async def read_all(reader):
    """Return what comes until the other side closes."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def is_open(reader, writer):
    """Tell whether the server still answers on this connection."""
    try:
        writer.write(STATUS)
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            [length] = re.findall(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(length))
            return head.startswith(b"HTTP/1.1 200")
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


@asynccontextmanager
async def connected(server, count=1):
    pairs: list[Any] = []
    try:
        while len(pairs) < count:
            pairs.append(await asyncio.open_connection("127.0.0.1", server.port))
        yield pairs
    finally:
        for _, writer in pairs:
            writer.transport.abort()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def subscribed(server, **options):
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.url + "/v1/events", **options) as stream,
    ):
        yield stream


async def get(server, path="/v1/status", **options):
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.url + path, **options) as answer,
    ):
        return answer.status, await answer.json()


def metric(node, name):
    found = [
        float(line.split()[-1])
        for line in node.metrics.render().decode().splitlines()
        if line.startswith(name)
    ]
    return sum(found)


# Slow and many clients


async def test_a_connection_that_sends_nothing_is_closed(node):
    async with serving(node, limits=QUICK) as server, connected(server) as [(reader, _)]:
        assert await read_all(reader) == b""

    assert metric(node, 'securenet_rpc_connections_refused_total{reason="not_sending"}') == 1


@pytest.mark.attack("D10")
async def test_headers_that_drip_are_cut_off(node):
    async with serving(node, limits=QUICK) as server, connected(server) as [(reader, writer)]:
        writer.write(b"GET /v1/status HTTP/1.1\r\n")
        async with asyncio.timeout(5):
            while not reader.at_eof() and reader.exception() is None:
                writer.write(b"X-Drip: 1\r\n")
                await asyncio.sleep(0.05)

        assert await read_all(reader) == b""


async def test_a_second_request_that_drips_is_cut_off_too(node):
    async with serving(node, limits=QUICK) as server, connected(server) as [(reader, writer)]:
        assert await is_open(reader, writer)
        writer.write(b"GET /v1/st")

        rest = await read_all(reader)

    assert rest.count(b"HTTP/1.1") == 0


@pytest.mark.attack("D10")
async def test_a_body_that_drips_is_answered_408(node):
    head = (
        b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\nContent-Type: application/msgpack\r\n"
        b"Content-Length: 100\r\n\r\n"
    )
    async with serving(node, limits=QUICK) as server, connected(server) as [(reader, writer)]:
        writer.write(head + b"x")

        answer = await reader.readline()

    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_request_under_way_is_not_idle(node):
    limits = replace(QUICK, commit_wait_ms=1_500)
    transaction = node.report()

    async with (
        serving(node, limits=limits) as server,
        aiohttp.ClientSession() as session,
        session.post(
            f"{server.url}/v1/transactions?wait=commit",
            data=transaction.wire,
            headers={"Content-Type": "application/msgpack"},
        ) as answer,
    ):
        assert answer.status == 202
        assert (await answer.json())["status"] == "pending"


async def test_idle_connections_give_way_to_newcomers(node):
    limits = RpcLimits(connections_max=20)

    async with serving(node, limits=limits) as server, connected(server, 20) as pairs:
        assert await is_open(*pairs[0])

        answers = [await get(server) for _ in range(5)]

        assert {status for status, _ in answers} == {200}
        # The one that asked last has been idle for the shortest time.
        assert await is_open(*pairs[0])
        assert await read_all(pairs[1][0]) == b""

    assert metric(node, 'securenet_rpc_connections_refused_total{reason="gave_way"}') >= 1


async def test_where_nobody_is_idle_a_newcomer_is_refused_in_words(node):
    limits = RpcLimits(connections_max=2)

    async with (
        serving(node, limits=limits) as server,
        subscribed(server) as first,
        subscribed(server) as second,
    ):
        status, problem = await get(server)
        for stream in (first, second):
            await stream.send_json({"subscribe": ["block"]})
            assert "cursor" in await stream.receive_json(timeout=5)

    assert (status, problem["code"]) == (503, "busy")


@pytest.mark.attack("D10")
async def test_a_flood_of_idle_connections_keeps_nobody_out(node):
    limits = RpcLimits(connections_max=50)

    async with serving(node, limits=limits) as server, connected(server, 300):
        answers = await asyncio.gather(*(get(server) for _ in range(10)))

        assert {status for status, _ in answers} == {200}
        assert metric(node, "securenet_rpc_connections ") <= 50


async def test_bodies_in_memory_have_one_bound(node):
    limits = replace(QUICK, bodies_size_max=200_000, body_timeout_ms=2_000)
    head = (
        b"POST /v1/transactions/batch HTTP/1.1\r\nHost: node\r\n"
        b"Content-Type: application/msgpack\r\nContent-Length: 150000\r\n\r\n"
    )
    async with serving(node, limits=limits) as server, connected(server, 2) as pairs:
        for _, writer in pairs:
            writer.write(head + bytes(140_000))
            await writer.drain()

        async with asyncio.timeout(5):
            done, _ = await asyncio.wait(
                [asyncio.ensure_future(reader.readline()) for reader, _ in pairs],
                return_when=asyncio.FIRST_COMPLETED,
            )
            answer = done.pop().result()
        # Once the other has gone too, its room is free again.
        for _, writer in pairs:
            writer.transport.abort()
        await asyncio.sleep(0.1)
        good = await submit(server, [node.report().wire])

    assert answer.startswith(b"HTTP/1.1 503")
    assert good["results"][0]["status"] == "pending"


async def submit(server, wires):
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            server.url + "/v1/transactions/batch",
            data=msgpack.packb(wires),
            headers={"Content-Type": "application/msgpack"},
        ) as answer,
    ):
        return await answer.json()


@pytest.mark.attack("D16")
async def test_a_client_that_reads_nothing_is_closed(node, monkeypatch):
    monkeypatch.setattr(
        "node.rpc.handlers.blocks.render_genesis", lambda genesis: {"x": "y" * 30_000_000}
    )
    limits = replace(QUICK, write_timeout_ms=300)
    closed = 'securenet_rpc_connections_refused_total{reason="not_reading"}'

    async with serving(node, limits=limits) as server:
        with closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(STATUS.replace(b"status", b"genesis"))
            async with asyncio.timeout(5):
                while not metric(node, closed):
                    await asyncio.sleep(0.05)
        assert metric(node, "securenet_rpc_connections ") == 0


# What is no HTTP


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
        b"POST /v1/transactions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_bytes_that_are_no_http_harm_nobody(node, data):
    async with serving(node, limits=QUICK) as server, connected(server) as [(reader, writer)]:
        writer.write(data)
        answer = await read_all(reader)
        status, _ = await get(server)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"Traceback" not in answer
    assert status == 200


async def test_a_chunked_body_out_of_form_is_malformed(node):
    head = (
        b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\nContent-Type: application/msgpack\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    async with serving(node, limits=QUICK) as server, connected(server) as [(reader, writer)]:
        writer.write(head + b"zz\r\n")

        answer = await reader.readline()

    assert re.match(rb"HTTP/1.. 400", answer)


async def test_a_client_that_leaves_in_the_middle_harms_nobody_and_fills_no_log(node, caplog):
    head = (
        b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\nContent-Type: application/msgpack\r\n"
        b"Content-Length: 100\r\n\r\n"
    )
    async with serving(node, limits=QUICK) as server:
        async with connected(server, 5) as pairs:
            for _, writer in pairs:
                writer.write(head + b"x")
                await writer.drain()
        await asyncio.sleep(0.05)

        status, _ = await get(server)

    assert status == 200
    assert metric(node, "securenet_rpc_internal_errors_total") == 0
    assert not [record for record in caplog.records if record.exc_info]


# Event streams


class Growing:
    """Makes a chain whose blocks from height 2 on all hold the same reports."""

    def __init__(self, node, reports):
        self.node = node
        self.reports = [node.report() for _ in range(reports)]

    async def grow(self, blocks):
        await self.node.mine(*self.reports, verify=lambda *_: True)
        for _ in range(blocks - 1):
            self.reports = [self.node.report() for _ in self.reports]
            await self.node.mine(*self.reports, verify=lambda *_: True)


@pytest.mark.attack("D16")
async def test_a_slow_subscriber_is_told_its_cursor_and_others_go_on(node, monkeypatch):
    original = render.transaction
    # Large events fill the buffers of the kernel sooner.
    monkeypatch.setattr(
        render, "transaction", lambda *of: {**original(*of), "padding": "x" * 20_000}
    )
    request = (
        b"GET /v1/events HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    message = b'{"subscribe":["transaction"],"from":"1:3"}'
    frame = bytes((0x81, 0x80 | len(message))) + bytes(4) + message

    limits = replace(QUICK, header_timeout_ms=20_000, write_timeout_ms=10_000)
    async with serving(node, limits=limits) as server:
        with closing(socket.socket()) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", server.port))
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(slow, request + frame)
            async with aiohttp.ClientSession() as session:
                healthy = [
                    await session.ws_connect(server.url + "/v1/events", max_msg_size=0)
                    for _ in range(5)
                ]
                for stream in healthy:
                    await stream.send_json({"subscribe": ["block"], "from": "1:3"})
                await Growing(node, 300).grow(4)
                cursors = [
                    [(await stream.receive_json(timeout=10))["cursor"] for _ in range(5)]
                    for stream in healthy
                ]
                for stream in healthy:
                    await stream.close()
            async with asyncio.timeout(10):
                while not metric(
                    node, 'securenet_rpc_subscribers_dropped_total{reason="slow_consumer"}'
                ):
                    await asyncio.sleep(0.05)
            tail = b""
            async with asyncio.timeout(10):
                while data := await loop.sock_recv(slow, 1 << 20):
                    tail = (tail + data)[-60_000:]

    assert cursors == [["1:3", "2:0", "3:0", "4:0", "5:0"]] * 5
    last = json.loads(tail[tail.rindex(b'{"error"') : tail.rindex(b"}") + 1])
    assert last["error"]["code"] == "slow_consumer"
    # The reason of the close frame names the cursor of the last event before it.
    assert tail.endswith(f"slow_consumer {last['cursor']}".encode())
    sent_before = tail[: tail.rindex(b'{"error"')]
    marker = b'"cursor":"' + last["cursor"].encode() + b'"'
    assert marker in sent_before[sent_before.rindex(b'{"type"') :]


async def test_streams_beyond_the_bound_are_refused(node):
    limits = replace(QUICK, subscribers_max=1)

    async with serving(node, limits=limits) as server, subscribed(server):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with subscribed(server):
                pass

    assert refused.value.status == 503


async def test_a_stream_without_a_subscription_is_closed(node):
    async with serving(node, limits=QUICK) as server, subscribed(server) as stream:
        message = await stream.receive_json(timeout=5)
        end = await stream.receive(timeout=5)

    assert message["error"]["code"] == "malformed"
    assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1008)


async def test_a_subscriber_that_answers_no_ping_is_dropped(node):
    limits = replace(QUICK, ping_ms=200)

    async with serving(node, limits=limits) as server, subscribed(server, autoping=False) as stream:
        await stream.send_json({"subscribe": ["block"]})
        async with asyncio.timeout(5):
            while metric(node, "securenet_rpc_subscribers "):
                await asyncio.sleep(0.05)


async def test_stopping_the_node_ends_the_streams_with_a_word(node):
    async with aiohttp.ClientSession() as session:
        async with serving(node) as server:
            stream = await session.ws_connect(server.url + "/v1/events")
            await stream.send_json({"subscribe": ["block"]})
            await stream.receive_json(timeout=5)

            async def end():
                return await stream.receive(timeout=5)

            waiting = asyncio.ensure_future(end())
            await asyncio.sleep(0)
        message = await waiting

    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert message.extra == "shutdown"


async def test_who_waits_for_a_commit_and_leaves_is_waited_for_no_longer(node, monkeypatch):
    waiting = set()

    async def wait_transaction(id, timeout_ms):
        waiting.add(id)
        try:
            await asyncio.Event().wait()
        finally:
            waiting.discard(id)

    monkeypatch.setattr(node, "wait_transaction", wait_transaction)
    wire = node.report().wire
    head = (
        "POST /v1/transactions?wait=commit HTTP/1.1\r\nHost: node\r\n"
        f"Content-Type: application/msgpack\r\nContent-Length: {len(wire)}\r\n\r\n"
    )

    async with serving(node) as server:
        async with connected(server) as [(_, writer)]:
            writer.write(head.encode() + wire)
            await until(lambda: waiting)
        await until(lambda: not waiting)


# TLS, start and stop


def certificate(folder):
    """Write a certificate of 127.0.0.1 and its key, and return the two paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.fixture
def tls(tmp_path):
    paths = certificate(tmp_path)
    return {"tls_certificate": paths[0], "tls_key": paths[1]}


async def test_with_a_certificate_it_speaks_tls(node, tls):
    client = ssl.create_default_context(cafile=tls["tls_certificate"])

    async with serving(node, **tls) as server:
        status, document = await get(server, ssl=client)

    assert server.url.startswith("https://127.0.0.1:")
    assert (status, document["height"]) == (200, 1)


async def test_tls_older_than_1_2_is_refused(node, tls):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1

    async with serving(node, **tls) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
        status, _ = await get(server, ssl=ssl.create_default_context(cafile=tls["tls_certificate"]))

    assert status == 200


async def test_handshakes_that_stall_count_as_connections_and_end(node, tls):
    limits = replace(QUICK, connections_max=5)

    async with serving(node, limits=limits, **tls) as server, connected(server, 5) as pairs:
        for reader, _ in pairs:
            assert await read_all(reader) == b""
        status, _ = await get(server, ssl=ssl.create_default_context(cafile=tls["tls_certificate"]))

    assert status == 200


async def test_a_handshake_that_stalls_gives_way_to_a_newcomer(node, tls):
    client = ssl.create_default_context(cafile=tls["tls_certificate"])

    async with (
        serving(node, limits=RpcLimits(connections_max=5), **tls) as server,
        connected(server, 5),
    ):
        status, _ = await get(server, ssl=client)

    assert status == 200


async def test_a_handshake_that_fails_is_forgotten_at_once(node, tls):
    client = ssl.create_default_context(cafile=tls["tls_certificate"])

    async with serving(node, limits=RpcLimits(connections_max=1), **tls) as server:
        for junk in (b"", b"no TLS at all\r\n\r\n", STATUS):
            async with connected(server) as [(reader, writer)]:
                writer.write(junk)
                writer.write_eof()
                await read_all(reader)
        assert metric(node, "securenet_rpc_connections") == 0
        status, _ = await get(server, ssl=client)

    assert status == 200


async def test_a_request_in_the_same_bytes_as_the_end_of_the_handshake_is_answered(node, tls):
    client = ssl.create_default_context(cafile=tls["tls_certificate"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    channel = client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

    async with serving(node, **tls) as server, connected(server) as [(reader, writer)]:
        while True:
            try:
                channel.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65_536))
        channel.write(STATUS)
        writer.write(outgoing.read())
        answer = b""
        while b"\r\n\r\n" not in answer:
            incoming.write(await asyncio.wait_for(reader.read(65_536), 5))
            while incoming.pending:
                try:
                    answer += channel.read()
                except ssl.SSLWantReadError:
                    break

    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_port_in_use_is_a_clear_error(node):
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = RpcServer(node, RpcConfig(port=other.getsockname()[1]))

        with pytest.raises(ConfigError, match=r"rpc\.port.*is not to be had"):
            await server.run()


async def test_after_the_end_nobody_listens(node):
    async with serving(node) as server:
        await get(server)

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)

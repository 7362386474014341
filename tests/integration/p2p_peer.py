"""A peer that says what it likes: TLS with a real node key, and raw bytes inside."""

import asyncio
import socket
import ssl

from chain.types import Digest
from node.p2p.framing import HEADER, FrameDecoder, FrameEncoder
from node.p2p.handshake import GOODBYE, HANDSHAKE_LIMITS, HELLO, PING, PONG, Handshake, Role
from node.p2p.tls import ChannelContexts
from node.random_source import SystemRandom
from tests.p2p import GENESIS, KINDS, NodeKey, node_keys

LIMITS = HANDSHAKE_LIMITS | {PING: 0, PONG: 0, GOODBYE: 1}


def frame(kind: int, payload: bytes) -> bytes:
    """Return one frame, whatever the limits say."""
    return HEADER.pack(len(payload), kind) + payload


def message(kind: int, payload: bytes) -> bytes:
    """Return a message as an honest encoder cuts it."""
    encoder = FrameEncoder(urgent_size_max=2**24, bulk_size_max=2**24)
    encoder.put(kind, payload)
    return encoder.take(2**24)


class RawPeer:
    """The dialling end of a connection to `victim`."""

    def __init__(self, own: NodeKey, victim: NodeKey) -> None:
        self.own = own
        self.victim = victim
        self._decoder = FrameDecoder(
            LIMITS | {kind: policy.payload_size_max for kind, policy in KINDS.items()}
        )
        self._messages: list[tuple[int, bytes]] = []

    async def __aenter__(self) -> "RawPeer":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        # A connection that the victim has ended may say so here.
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    async def channel(self, port: int, *, receive_buffer: int | None = None) -> "RawPeer":
        """Connect and shake hands in TLS."""
        contexts = ChannelContexts(self.own.seed, SystemRandom())
        contexts.trust([self.victim.public_key])
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        self.reader, self.writer = await asyncio.open_connection(
            sock=sock, ssl=contexts.dialling, server_hostname=""
        )
        return self

    async def session(self, port: int, *, receive_buffer: int | None = None) -> "RawPeer":
        """Connect and exchange hellos."""
        await self.channel(port, receive_buffer=receive_buffer)
        self.write(frame(HELLO, self.hello()))
        kind, payload = await self.receive()
        assert kind == HELLO, f"refused with kind {kind}, {payload!r}"
        return self

    def hello(self, genesis_hash: Digest = GENESIS) -> bytes:
        """Return the hello that is due, or one of another chain."""
        return Handshake(
            role=Role.DIALLER,
            genesis_hash=genesis_hash,
            local=self.own.node_id,
            peer=self.victim.node_id,
        ).hello()

    def write(self, data: bytes) -> None:
        """Write raw bytes into the channel."""
        self.writer.write(data)

    def fall_silent(self) -> None:
        """Read nothing more, and so answer nothing."""
        assert isinstance(self.writer.transport, asyncio.Transport)
        self.writer.transport.pause_reading()

    async def receive(self) -> tuple[int, bytes]:
        """Return the next message that is no ping."""
        while True:
            while not self._messages:
                data = await self.reader.read(2**16)
                if not data:
                    raise EOFError
                self._messages.extend(self._decoder.feed(data))
            received = self._messages.pop(0)
            if received[0] != PING:
                return received

    async def size_before(self, kind: int) -> int:
        """Read on; return how many bytes arrive before the first message of `kind` is complete."""
        assert isinstance(self.writer.transport, asyncio.Transport)
        self.writer.transport.resume_reading()
        size = 0
        while True:
            data = await self.reader.read(2**12)
            size += len(data)
            if kind in [received for received, _ in self._decoder.feed(data)]:
                return size

    async def is_closed(self, within_s: float = 5.0) -> bool:
        """Tell whether the victim ends the connection in time."""
        try:
            async with asyncio.timeout(within_s):
                while await self.reader.read(2**16):
                    pass
        except TimeoutError:
            return False
        except (ConnectionError, ssl.SSLError):
            return True
        return True


class RawListener:
    """A listening end that takes one connection into TLS and says nothing."""

    def __init__(self, own: NodeKey) -> None:
        self.own = own

    async def __aenter__(self) -> "RawListener":
        contexts = ChannelContexts(self.own.seed, SystemRandom())
        contexts.trust(key.public_key for key in node_keys(3))
        self._connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.get_running_loop().create_future()
        )
        self._server = await asyncio.start_server(
            self._on_connection, "127.0.0.1", 0, ssl=contexts.listening
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self._connected.done():
            self._connected.result()[1].transport.abort()
        await asyncio.sleep(0)

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connected.done():
            writer.transport.abort()
        else:
            self._connected.set_result((reader, writer))

    async def greeting(self, size: int) -> bytes:
        """Return the first `size` bytes that arrive."""
        async with asyncio.timeout(5):
            return await (await asyncio.shield(self._connected))[0].readexactly(size)

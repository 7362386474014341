"""One channel between a node and its signer: frames over TLS whose two keys are pinned."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final, Self

from chain.types import PublicKey
from node.p2p.errors import UnknownKey
from node.p2p.framing import FrameDecoder
from node.p2p.tls import peer_key
from node.signer.wire import Message, decode_payload, encode_frame

HANDSHAKE_TIMEOUT_S: Final = 5.0
WRITE_TIMEOUT_S: Final = 5.0
"""An end that takes nothing off its socket for so long is left."""
READ_SIZE: Final = 64 * 1024


class Channel:
    """A context; leaving it closes the connection.

    Parameters
    ----------
    limits : mapping of int to int
        The largest payload of each kind that this end takes.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: Mapping[int, int],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder(limits)

    @property
    def peer(self) -> PublicKey:
        """The key that the other end has proven to hold; raises `UnknownKey`."""
        channel = self._writer.get_extra_info("ssl_object")
        if not isinstance(channel, ssl.SSLObject):
            raise UnknownKey("no TLS")
        return peer_key(channel)

    async def receive(self) -> list[Message]:
        """Return what has come, at least in part; an empty list may be no end.

        Raises
        ------
        FrameError, DecodeError
            The other end does not keep to the protocol.
        EOFError
            It has closed the connection.
        """
        data = await self._reader.read(READ_SIZE)
        if not data:
            raise EOFError("the other end has closed the connection")
        return [decode_payload(kind, payload) for kind, payload in self._decoder.feed(data)]

    def put(self, message: Message) -> None:
        """Queue a message; whoever calls bounds how many."""
        self._writer.write(encode_frame(message))

    async def send(self, message: Message) -> None:
        """Send a message, and wait until the other end takes it; raises `TimeoutError`."""
        self.put(message)
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._writer.drain()

    def close(self) -> None:
        """Drop the connection; whoever waits in `receive` is told."""
        transport = self._writer.transport
        transport.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

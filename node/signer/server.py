"""The signer's end: takes connections of its nodes, and answers one question after the other."""

import asyncio
import contextlib
import socket
from collections.abc import Collection
from typing import Final

import structlog

from chain.errors import DecodeError
from chain.types import PublicKey
from node.errors import ConfigError
from node.p2p.errors import FrameError, UnknownKey
from node.p2p.tls import ChannelContexts
from node.ports import Executor
from node.signer.channel import HANDSHAKE_TIMEOUT_S, READ_SIZE, Channel
from node.signer.keeper import KeyKeeper
from node.signer.wire import TO_SIGNER, Message, Refusal, SetFloor, SignTransaction, SignVote

CONNECTIONS_MAX: Final = 32
"""Connections at once, those without a handshake included; further ones are closed on arrival."""
ACCEPT_PAUSE_S: Final = 0.1

log = structlog.get_logger(__name__)


class SignerServer:
    """Serves the nodes whose keys it knows.

    Parameters
    ----------
    nodes : collection of PublicKey
        The node keys that may ask; of each one connection stands, the last.
    executor : Executor
        Of one thread: the keeper takes one question at a time.
    """

    def __init__(
        self,
        *,
        keeper: KeyKeeper,
        nodes: Collection[PublicKey],
        contexts: ChannelContexts,
        executor: Executor,
        host: str,
        port: int,
    ) -> None:
        self._keeper = keeper
        self._nodes = frozenset(nodes)
        self._contexts = contexts
        self._executor = executor
        contexts.trust(self._nodes)
        self._connections = 0
        self._standing: dict[PublicKey, Channel] = {}
        try:
            self._socket = socket.create_server((host, port), backlog=CONNECTIONS_MAX)
        except OSError as error:
            reason = f"cannot listen on {host}:{port} ({error.strerror})"
            raise ConfigError("signer.toml", reason) from error
        self._socket.setblocking(False)

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    async def run(self) -> None:
        """Serve until cancelled.

        Raises
        ------
        StorageError
            The disk refused: nothing is signed any more.
        """
        loop = asyncio.get_running_loop()
        with self._socket:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        accepted, _ = await loop.sock_accept(self._socket)
                    except OSError as error:
                        # A caller that is gone already, or no descriptor left for now.
                        log.warning("a connection could not be taken", reason=str(error))
                        await asyncio.sleep(ACCEPT_PAUSE_S)
                        continue
                    if self._connections >= CONNECTIONS_MAX:
                        accepted.close()
                        continue
                    self._connections += 1
                    group.create_task(self._serve(accepted))

    async def _serve(self, accepted: socket.socket) -> None:
        """Live through one connection; whatever a peer does ends no more than that."""
        try:
            with await self._open(accepted) as channel:
                await self._answer(channel)
        except (FrameError, DecodeError, UnknownKey) as error:
            log.warning("a connection to the signer was refused", reason=str(error))
        except (OSError, EOFError) as error:
            log.info("a connection to the signer has ended", reason=str(error))
        finally:
            self._connections -= 1

    async def _open(self, accepted: socket.socket) -> Channel:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_SIZE)
        protocol = asyncio.StreamReaderProtocol(reader)
        with contextlib.ExitStack() as undo:
            undo.callback(accepted.close)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._contexts.listening,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=HANDSHAKE_TIMEOUT_S,
            )
            undo.pop_all()
        return Channel(reader, asyncio.StreamWriter(transport, protocol, reader, loop), TO_SIGNER)

    async def _answer(self, channel: Channel) -> None:
        node = channel.peer
        if node not in self._nodes:
            raise UnknownKey("not one of this signer's nodes")
        before = self._standing.get(node)
        if before is not None:
            before.close()
        self._standing[node] = channel
        log.info("a node has come", node_key=node.hex())
        try:
            await channel.send(self._keeper.hello())
            while True:
                for message in await channel.receive():
                    await self._take(channel, message)
        finally:
            if self._standing.get(node) is channel:
                del self._standing[node]

    async def _take(self, channel: Channel, message: Message) -> None:
        assert isinstance(message, SignVote | SignTransaction | SetFloor), "the limits let no other"
        answer = await self._executor.run(self._keeper.answer, message)
        if isinstance(answer, Refusal):
            log.warning("not signed", reason=answer.reason, question=type(message).__name__)
        if answer is not None:
            await channel.send(answer)

"""The real `node.ports.Transport`: sessions over TLS between the nodes of a directory."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Final

import structlog

from chain.types import Address, Digest
from node.errors import ConfigError
from node.p2p.connection import Connection, State
from node.p2p.errors import Banned, Duplicate, Reason, UnknownKey, WrongPeer
from node.p2p.handshake import OWN_KINDS_END, Role
from node.p2p.limits import KindTable, P2PLimits
from node.p2p.peers import Doorkeeper, PeerBook, PeerDirectory, PeerEntry
from node.p2p.stats import Counters, TransportStats
from node.p2p.tls import ChannelContexts, tls_reason
from node.ports import Clock, Random, Receiver

ACCEPT_BACKLOG: Final = 128
"""Connections that the kernel completes ahead of `accept`; it drops what comes beyond."""

ACCEPT_PAUSE_S: Final = 0.1
"""Rest after a failing `accept`, which is out of descriptors or memory."""

TLS_SHUTDOWN_S: Final = 1.0

STRANGER_PAUSE_NS: Final = 60 * 10**9
"""Strangers dial again and again; one line in this time tells of them."""

log = structlog.get_logger(__name__)


class TlsTransport:
    """Listens, dials and carries messages; implements :class:`node.ports.Transport`.

    Order holds within a session for the urgent kinds (below 16) among themselves, and for the bulk
    kinds among themselves; an urgent message overtakes bulk ones.

    Parameters
    ----------
    node_id : Address
        Id of this node.
    seed : bytes of length 32
        Its private node key.
    genesis_hash : Digest
        Its chain; peers of another one are refused.
    directory : PeerDirectory
        Who may connect; an entry of this node itself is ignored.
    kinds : mapping of int to KindPolicy
        The kinds of message, from 4 to 255.
    host, port : str and int
        Where to listen; port 0 lets the system choose.
    clock, random : Clock and Random
        Deadlines, jitter and nonces.
    limits : P2PLimits, optional
        Bounds and times.

    Notes
    -----
    A receiver that raises has broken its contract: `run` ends with what it raised, since a node
    stops rather than continue in a state it cannot explain.
    """

    def __init__(
        self,
        *,
        node_id: Address,
        seed: bytes,
        genesis_hash: Digest,
        directory: PeerDirectory,
        kinds: KindTable,
        host: str,
        port: int,
        clock: Clock,
        random: Random,
        limits: P2PLimits | None = None,
    ) -> None:
        assert all(OWN_KINDS_END <= kind < 256 for kind in kinds), "kinds below 4 are taken"
        self.node_id = node_id
        self.listening = asyncio.Event()
        self._genesis_hash = genesis_hash
        self._kinds = kinds
        self._host = host
        self._port = port
        self._clock = clock
        self._limits = limits or P2PLimits()
        self._contexts = ChannelContexts(seed, random)
        self._book = PeerBook(clock=clock, random=random, limits=self._limits)
        self._doorkeeper = Doorkeeper(clock=clock, limits=self._limits)
        self._counters = Counters()
        self._wake = asyncio.Event()
        self._receiver: Receiver | None = None
        self._failure: asyncio.Future[None] | None = None
        # They hold at most one entry for each node of the directory, or each pending connection.
        self._sessions: dict[Address, Connection] = {}
        self._opening: set[Connection] = set()
        self._departed: set[Address] = set()
        self._arrived: set[socket.socket] = set()
        self._accept_again: asyncio.TimerHandle | None = None
        self._stranger_told_ns: int | None = None
        self.update_directory(directory)

    # --- the port ---------------------------------------------------------------------------------

    async def run(self, receiver: Receiver) -> None:
        """Listen, dial and deliver until cancelled; afterwards the receiver is left alone.

        Raises
        ------
        ConfigError
            The address to listen on is not to be had.
        """
        assert self._receiver is None, "a transport runs once"
        listener = await self._bind()
        self._failure = asyncio.get_running_loop().create_future()
        self._receiver = receiver
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._dial_all(group))
                self._resume_accepting(listener, group)
                try:
                    await self._failure
                finally:
                    self._stop_accepting(listener)
        finally:
            self._receiver = None
            for connection in list(self._sessions.values()):
                connection.close(Reason.SHUTDOWN)
            # One turn of the loop lets asyncio close the sockets.
            await asyncio.sleep(0)

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        """Queue a message; False where no session stands, the queue is full or it is too large."""
        session = self._sessions.get(peer)
        if session is None:
            return False
        if len(payload) > self._kinds[kind].payload_size_max:
            self._counters.dropped_too_large += 1
            return False
        return session.send(kind, payload)

    def connected(self) -> Sequence[Address]:
        """Peers with a standing session, in ascending order of their ids."""
        return sorted(self._sessions)

    def penalise(self, peer: Address, points: int, reason: str) -> None:
        """Lower the peer's score; below the limit it is disconnected and kept away for a while."""
        log.debug("peer penalised", peer=peer.hex(), points=points, reason=reason)
        if self._book.penalise(peer, points):
            log.warning("peer banned", peer=peer.hex(), reason=reason)
            if session := self._sessions.get(peer):
                session.close(Reason.BANNED)

    # --- what the node sets and reads -------------------------------------------------------------

    def update_directory(self, directory: PeerDirectory) -> None:
        """Replace who may connect; sessions of keys that have left it end at once."""
        directory = directory.without(self.node_id)
        if directory == self._book.directory:
            return
        self._book.update(directory)
        self._contexts.trust(entry.public_key for entry in directory)
        for peer, session in list(self._sessions.items()):
            entry = directory.of_id(peer)
            if entry is None or entry.public_key != session.public_key:
                session.close(Reason.UNKNOWN_KEY)
        self._wake.set()

    @property
    def port(self) -> int:
        """The port it listens on, once `listening` is set."""
        return self._port

    def trouble(self, peer: Address) -> Reason | None:
        """Return why `peer` could not be reached the last time; None where it could."""
        return self._book.trouble(peer)

    def stats(self) -> TransportStats:
        """Return what was counted so far."""
        return self._counters.snapshot(
            peers=len(self._sessions), pending=self._doorkeeper.pending_count
        )

    # --- connections ------------------------------------------------------------------------------

    async def _bind(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, _, _, _, address = found[0]
            listener = socket.create_server(address[:2], family=family, backlog=ACCEPT_BACKLOG)
        except OSError as error:
            raise ConfigError(
                "p2p.port", f"{self._host}:{self._port} is not to be had ({error.strerror})"
            ) from error
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        self.listening.set()
        log.info("listening for peers", host=self._host, port=self._port)
        return listener

    def _resume_accepting(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        asyncio.get_running_loop().add_reader(listener, self._on_arrival, listener, group)

    def _stop_accepting(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()
        if self._accept_again is not None:
            self._accept_again.cancel()
        # Their tasks may be cancelled before they begin.
        for sock in self._arrived:
            sock.close()

    def _on_arrival(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        """Accept one connection; in each turn of the loop, so that a flood holds up no session."""
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError as error:
            # Out of descriptors or memory: what waits in the backlog would wake the loop for ever.
            log.warning("cannot accept connections", error=str(error))
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            self._accept_again = loop.call_later(
                ACCEPT_PAUSE_S, self._resume_accepting, listener, group
            )
            return
        refusal = self._doorkeeper.enter(address[0])
        if refusal is None:
            sock.setblocking(False)
            self._arrived.add(sock)
            group.create_task(self._accept(sock, address[0]))
        else:
            self._counters.refused[refusal] += 1
            sock.close()

    async def _accept(self, sock: socket.socket, host: str) -> None:
        self._arrived.discard(sock)
        loop = asyncio.get_running_loop()
        connection = self._connection(dialled=None)
        try:
            opening = loop.connect_accepted_socket(_Doorway, sock)
            await self._settle(connection, opening, self._contexts.listening)
        finally:
            self._doorkeeper.leave(host)
        if connection.reason is Reason.UNKNOWN_KEY:
            self._tell_of_stranger(host)

    def _tell_of_stranger(self, host: str) -> None:
        """Log that a key is unknown: a new miner or observer can learn it nowhere else.

        It is told in its dialler's log only that the connection was closed: asyncio drops the alert
        of a TLS handshake that fails.
        """
        now_ns = self._clock.monotonic_ns()
        if self._stranger_told_ns is None or now_ns - self._stranger_told_ns >= STRANGER_PAUSE_NS:
            self._stranger_told_ns = now_ns
            log.warning("a node with an unknown key was refused", host=host)

    async def _dial_all(self, group: asyncio.TaskGroup) -> None:
        while True:
            for entry in self._book.take_due():
                group.create_task(self._dial(entry))
            self._wake.clear()
            due_ms = self._book.next_due_ms()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_ms is None else due_ms / 1000):
                    await self._wake.wait()

    async def _dial(self, entry: PeerEntry) -> None:
        peer = entry.node_id
        assert entry.host is not None, "only entries with an address fall due"
        assert entry.port is not None, "only entries with an address fall due"
        connection = self._connection(dialled=peer)
        opening = asyncio.get_running_loop().create_connection(_Doorway, entry.host, entry.port)
        trouble: Reason | None = Reason.SHUTDOWN
        try:
            await self._settle(connection, opening, self._contexts.dialling)
            trouble = None if connection.state is State.STANDING else connection.reason
            if Reason.DUPLICATE in (trouble, connection.told):
                trouble = None
        finally:
            if self._book.on_dial_ended(peer, trouble):
                log.info(
                    "cannot reach peer",
                    peer=peer.hex(),
                    host=entry.host,
                    port=entry.port,
                    reason=trouble,
                    told=connection.told,
                )
            self._wake.set()

    async def _settle(
        self,
        connection: Connection,
        opening: Coroutine[None, None, tuple[asyncio.Transport, "_Doorway"]],
        context: ssl.SSLContext,
    ) -> None:
        """Wait until `connection` is a session, or close it with the reason why it is none."""
        loop = asyncio.get_running_loop()
        self._opening.add(connection)
        reason = Reason.SHUTDOWN
        plain: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(self._limits.handshake_timeout_ms / 1000):
                plain, _ = await opening
                # No host name: keys name nodes, and nobody on the way needs to know.
                channel = await loop.start_tls(
                    plain,
                    connection,
                    context,
                    server_side=connection.dialled is None,
                    ssl_shutdown_timeout=TLS_SHUTDOWN_S,
                )
                if channel is not None:
                    connection.connection_made(channel)
                await connection.settled.wait()
        except TimeoutError:
            reason = Reason.HANDSHAKE_TIMEOUT
        except ssl.SSLError as error:
            reason = tls_reason(error)
        except (OSError, UnicodeError):
            # UnicodeError: a name that cannot even be asked for; the registry may hold one.
            reason = Reason.UNREACHABLE
        finally:
            self._opening.discard(connection)
            if connection.state is not State.STANDING:
                connection.close(reason)
                if plain is not None:
                    plain.abort()

    def _connection(self, *, dialled: Address | None) -> Connection:
        return Connection(
            owner=self,
            dialled=dialled,
            local=self.node_id,
            genesis_hash=self._genesis_hash,
            kinds=self._kinds,
            limits=self._limits,
            clock=self._clock,
            counters=self._counters,
        )

    # --- what connections ask and tell ------------------------------------------------------------

    def authenticate(self, connection: Connection) -> Address:
        """Return whose key the channel has proven, if the directory holds it now."""
        entry = self._book.directory.of_key(connection.public_key)
        if entry is None:
            raise UnknownKey(connection.public_key.hex())
        if connection.dialled not in (None, entry.node_id):
            raise WrongPeer(f"{entry.node_id.hex()} answers in its place")
        if self._book.is_banned(entry.node_id):
            raise Banned(entry.node_id.hex())
        return entry.node_id

    def admit(self, connection: Connection) -> None:
        """Let one connection for each pair of nodes become a session.

        The first that both ends agreed on stands; a later one only makes it prove that it is
        alive, so that a peer which lost it without our knowledge is let in on its next attempt.
        While both dial at once, the greeting of the node with the smaller id goes first.
        """
        peer = connection.peer
        standing = self._sessions.get(peer)
        if standing is not None:
            standing.probe()
            raise Duplicate("a session stands")
        if connection.role is Role.DIALLER:
            return
        for other in list(self._opening):
            if other.dialled == peer and other.state is State.GREETING:
                if self.node_id < peer:
                    raise Duplicate("this node's own greeting goes first")
                other.close(Reason.DUPLICATE)

    def on_established(self, connection: Connection) -> None:
        """Tell the receiver of a new session."""
        peer = connection.peer
        self._sessions[peer] = connection
        self._book.on_connected(peer)
        log.info("peer connected", peer=peer.hex(), dialled=connection.dialled is not None)
        self._tell_departed(peer)
        if self._receiver is not None:
            self._tell(self._receiver.on_connected, peer)

    def on_message(self, peer: Address, kind: int, payload: bytes) -> None:
        """Hand a message to the receiver."""
        if self._receiver is not None:
            try:
                self._receiver.on_message(peer, kind, payload)
            except Exception as error:
                self._fail(error)

    def on_misbehaviour(self, connection: Connection, points: int, reason: Reason) -> None:
        """Penalise the peer of a session."""
        self.penalise(connection.peer, points, reason)

    def on_closed(self, connection: Connection) -> None:
        """Forget a connection; the receiver hears of a session's end in the next turn."""
        peer = connection.peer
        if self._sessions.get(peer) is not connection:
            self._counters.refused[connection.reason] += 1
            return
        del self._sessions[peer]
        self._counters.ended[connection.reason] += 1
        log.info("peer disconnected", peer=peer.hex(), reason=connection.reason)
        if self._book.on_disconnected(peer):
            log.warning("peer banned", peer=peer.hex(), reason="comes and goes")
        self._wake.set()
        # Whoever caused the end may be in the midst of something; calls come one at a time.
        self._departed.add(peer)
        asyncio.get_running_loop().call_soon(self._tell_departed, peer)

    def _tell_departed(self, peer: Address) -> None:
        if peer not in self._departed:
            return
        self._departed.discard(peer)
        if self._receiver is not None:
            self._tell(self._receiver.on_disconnected, peer)

    def _tell(self, what: Callable[[Address], None], peer: Address) -> None:
        try:
            what(peer)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Let `run` end with `error`."""
        self._receiver = None
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)


class _Doorway(asyncio.Protocol):
    """Holds a fresh connection still until TLS takes it over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

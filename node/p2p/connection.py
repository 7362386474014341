"""One asyncio connection inside TLS: handshake, then a session until either end closes.

What the connection decides by itself is whether the peer keeps to the protocol and its rates, and
whether it is alive. Who may connect, and which of two connections stands, is the owner's to say.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from chain.types import Address, Digest, PublicKey
from node.p2p.errors import (
    FrameError,
    HandshakeError,
    MalformedFrame,
    Reason,
    RefusedByPeer,
)
from node.p2p.framing import HEADER, FrameDecoder, FrameEncoder
from node.p2p.handshake import (
    GOODBYE,
    HANDSHAKE_LIMITS,
    HELLO,
    OWN_KINDS_END,
    PING,
    PONG,
    Handshake,
    Role,
    goodbye,
)
from node.p2p.limits import KindPolicy, KindTable, P2PLimits, TokenBucket
from node.p2p.peers import MS_NS
from node.p2p.stats import Counters
from node.p2p.tls import peer_key, tls_reason
from node.ports import Clock

OWN_KINDS: Final = {
    PING: KindPolicy(payload_size_max=0, messages_per_second=10, burst=20),
    PONG: KindPolicy(payload_size_max=0, messages_per_second=10, burst=20),
    GOODBYE: KindPolicy(payload_size_max=1, messages_per_second=10, burst=20),
}
"""The transport's messages within a session; a hello is none of them."""

WRITE_SIZE: Final = 64 * 1024
"""Bytes handed to the channel at once, and the most that waits below it: what has been handed over
can no longer be overtaken by an urgent message."""


class State(Enum):
    """How far a connection has come."""

    OPENING = "opening"
    GREETING = "greeting"
    STANDING = "standing"
    CLOSED = "closed"


class Owner(Protocol):
    """What a connection asks and tells the transport it belongs to."""

    def authenticate(self, connection: "Connection") -> Address:
        """Return whose key the channel has proven, or raise a HandshakeError."""
        ...

    def admit(self, connection: "Connection") -> None:
        """Raise a HandshakeError where this connection shall become no session."""
        ...

    def on_established(self, connection: "Connection") -> None:
        """Take note that the session stands."""
        ...

    def on_message(self, peer: Address, kind: int, payload: bytes) -> None:
        """Take one message of a standing session."""
        ...

    def on_misbehaviour(self, connection: "Connection", points: int, reason: Reason) -> None:
        """Take note of a breach of protocol or rate within a standing session."""
        ...

    def on_closed(self, connection: "Connection") -> None:
        """Take note of the end; comes once, in any state."""
        ...


class Connection(asyncio.Protocol):
    """One end of a connection, from the end of the TLS handshake on.

    Parameters
    ----------
    owner : Owner
        The transport.
    dialled : Address or None
        The node that this end dialled; None where it listened.
    local : Address
        Id of this node.
    genesis_hash : Digest
        Its chain.
    kinds : mapping of int to KindPolicy
        What a session may carry beside the transport's own kinds.
    limits : P2PLimits
        Times, queue sizes and rates.
    clock : Clock
        Its monotonic reading.
    counters : Counters
        Shared by all connections of a transport.

    Attributes
    ----------
    peer, public_key : Address and PublicKey
        The other node; empty until the channel stands.
    state : State
        How far the connection has come.
    reason : Reason
        Why it is closed, once it is.
    told : Reason or None
        Why the other end refused, if it said so.
    settled : asyncio.Event
        Set when a session stands or never will.
    """

    def __init__(
        self,
        *,
        owner: Owner,
        dialled: Address | None,
        local: Address,
        genesis_hash: Digest,
        kinds: KindTable,
        limits: P2PLimits,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self.dialled = dialled
        self.role = Role.LISTENER if dialled is None else Role.DIALLER
        self.peer = Address(b"")
        self.public_key = PublicKey(b"")
        self.state = State.OPENING
        self.reason = Reason.CLOSED
        self.told: Reason | None = None
        self.settled = asyncio.Event()
        self._owner = owner
        self._local = local
        self._genesis_hash = genesis_hash
        self._kinds = {**OWN_KINDS, **kinds}
        self._limits = limits
        self._clock = clock
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._handshake: Handshake | None = None
        self._early: list[bytes] = []
        self._decoder = FrameDecoder(HANDSHAKE_LIMITS)
        self._encoder = FrameEncoder(
            urgent_size_max=limits.urgent_queue_size_max,
            bulk_size_max=limits.bulk_queue_size_max,
        )
        self._flush_scheduled = False
        self._paused_at_ns: int | None = None
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._received_at_ns = self._sent_at_ns = clock.monotonic_ns()
        self._probed_at_ns = 0
        self._inbound = TokenBucket(limits.inbound_bytes_per_second, limits.inbound_burst_size)
        self._rates: dict[int, TokenBucket] = {}
        self._excess_messages = 0

    # --- what the owner does ----------------------------------------------------------------------

    def send(self, kind: int, payload: bytes) -> bool:
        """Queue a message of a standing session; False where its lane is full."""
        if not self._encoder.put(kind, payload):
            self._counters.dropped_queue_full += 1
            return False
        self._counters.messages_sent += 1
        # All that is sent in one turn of the loop leaves in one write.
        if not self._flush_scheduled and self._paused_at_ns is None:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        return True

    def probe(self) -> None:
        """Demand a sign of life soon: somebody else claims to be this peer's new connection."""
        if self.state is State.STANDING and self._check_probe not in self._timers:
            self._probed_at_ns = self._clock.monotonic_ns()
            self.send(PING, b"")
            self._call_later(self._limits.probe_timeout_ms, self._check_probe)

    def close(self, reason: Reason) -> None:
        """End the connection at once, with a goodbye as far as the socket takes it."""
        if self.state is State.CLOSED:
            return
        was = self.state
        self.state = State.CLOSED
        self.reason = reason
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._transport is not None:
            if was is not State.OPENING and self._paused_at_ns is None:
                self._write(GOODBYE, goodbye(reason))
            self._transport.abort()
        self.settled.set()
        self._owner.on_closed(self)

    # --- what asyncio does ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or refuse to, now that both keys are proven."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.state is State.CLOSED:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_SIZE)
        self._keep_kernel_queue_short()
        self.state = State.GREETING
        try:
            self.public_key = peer_key(transport.get_extra_info("ssl_object"))
            self.peer = self._owner.authenticate(self)
            self._handshake = Handshake(
                role=self.role,
                genesis_hash=self._genesis_hash,
                local=self._local,
                peer=self.peer,
            )
            if self.role is Role.DIALLER:
                self._owner.admit(self)
                self._write(HELLO, self._handshake.hello())
        except HandshakeError as error:
            self.close(error.reason)
        while self._early:
            self.data_received(self._early.pop(0))

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into messages, judge and deliver them."""
        if self.state is State.OPENING:
            # A hello right behind the end of the TLS handshake comes before connection_made.
            self._early.append(data)
            return
        if self.state is State.CLOSED:
            return
        now_ns = self._received_at_ns = self._clock.monotonic_ns()
        self._counters.bytes_received += len(data)
        if wait_ns := self._inbound.charge(now_ns, len(data)):
            self._pause_reading(wait_ns)
        try:
            for kind, payload in self._decoder.feed(data):
                if self.state is State.STANDING:
                    self._on_message(now_ns, kind, payload)
                else:
                    self._on_greeting(kind, payload)
                # The owner, or whoever got the message, may have had enough.
                if self._is_closed():
                    return
        except RefusedByPeer as error:
            self.told = error.told
            self.close(error.reason)
        except HandshakeError as error:
            self.close(error.reason)
        except FrameError as error:
            if self.state is State.STANDING:
                self._misbehaved(self._limits.violation_points, error.reason)
            self.close(error.reason)

    def eof_received(self) -> None:
        """Close: a peer that sends no more is no peer."""
        self.close(Reason.CLOSED)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of an end that did not come from here."""
        self._transport = None
        self.close(tls_reason(exc) if isinstance(exc, ssl.SSLError) else Reason.CLOSED)

    def pause_writing(self) -> None:
        """Keep messages in the queues, where urgent ones still overtake."""
        self._paused_at_ns = self._clock.monotonic_ns()

    def resume_writing(self) -> None:
        """Go on writing."""
        self._paused_at_ns = None
        self._flush()

    # --- receiving --------------------------------------------------------------------------------

    def _on_greeting(self, kind: int, payload: bytes) -> None:
        assert self._handshake is not None, "data arrives after connection_made"
        self._handshake.receive(kind, payload)
        self._owner.admit(self)
        if self.role is Role.LISTENER:
            self._write(HELLO, self._handshake.hello())
        self.state = State.STANDING
        self._decoder.limits = {
            kind: policy.payload_size_max for kind, policy in self._kinds.items()
        }
        self._rates = {
            kind: TokenBucket(policy.messages_per_second, policy.burst)
            for kind, policy in self._kinds.items()
        }
        self._call_later(self._limits.ping_interval_ms, self._check_life)
        self.settled.set()
        self._owner.on_established(self)

    def _on_message(self, now_ns: int, kind: int, payload: bytes) -> None:
        if not self._rates[kind].take(now_ns):
            self._counters.dropped_rate += 1
            self._excess_messages += 1
            if self._excess_messages % self._limits.excess_messages_per_point == 0:
                self._misbehaved(1, Reason.TOO_FREQUENT)
            return
        self._counters.messages_received += 1
        if kind >= OWN_KINDS_END:
            self._owner.on_message(self.peer, kind, payload)
        elif kind == PING:
            self.send(PONG, b"")
        elif kind == GOODBYE:
            if not payload:
                raise MalformedFrame(kind, 0)
            self.close(Reason.CLOSED)

    def _is_closed(self) -> bool:
        return self.state is State.CLOSED

    def _misbehaved(self, points: int, reason: Reason) -> None:
        self._owner.on_misbehaviour(self, points, reason)

    def _pause_reading(self, wait_ns: int) -> None:
        if self._resume_reading not in self._timers and self._transport is not None:
            self._transport.pause_reading()
            self._call_later(-(-wait_ns // MS_NS), self._resume_reading)

    def _resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # --- sending ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_scheduled = False
        while self._paused_at_ns is None and self.state is State.STANDING:
            data = self._encoder.take(WRITE_SIZE)
            if not data:
                return
            self._counters.bytes_sent += len(data)
            self._sent_at_ns = self._clock.monotonic_ns()
            assert self._transport is not None, "a standing session has a channel"
            self._transport.write(data)

    def _write(self, kind: int, payload: bytes) -> None:
        """Write one of the transport's own messages around the queues."""
        assert self._transport is not None, "nothing is written before TLS stands"
        self._transport.write(HEADER.pack(len(payload), kind) + payload)

    def _keep_kernel_queue_short(self) -> None:
        """Ask the kernel to accept only a little beyond what is on its way, where it can."""
        assert self._transport is not None, "called from connection_made"
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, option, WRITE_SIZE)

    # --- life -------------------------------------------------------------------------------------

    def _check_life(self) -> None:
        now_ns = self._clock.monotonic_ns()
        silent_ns = now_ns - self._received_at_ns
        if silent_ns >= self._limits.idle_timeout_ms * MS_NS:
            self.close(Reason.IDLE)
        elif (
            self._paused_at_ns is not None
            and now_ns - self._paused_at_ns >= self._limits.stall_timeout_ms * MS_NS
        ):
            self.close(Reason.STALLED)
        else:
            # The peer hears from us even while it sends more than we read, so that an answer to
            # its own ping would come late. Half the interval, for it passes between two checks.
            if now_ns - self._sent_at_ns >= self._limits.ping_interval_ms * MS_NS // 2:
                self.send(PING, b"")
            self._call_later(self._limits.ping_interval_ms, self._check_life)

    def _check_probe(self) -> None:
        if self._received_at_ns <= self._probed_at_ns:
            self.close(Reason.IDLE)

    def _call_later(self, delay_ms: int, callback: Callable[[], None]) -> None:
        def fire() -> None:
            del self._timers[callback]
            callback()

        self._timers[callback] = self._loop.call_later(delay_ms / 1000, fire)

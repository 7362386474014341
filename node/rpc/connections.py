"""Guards around HTTP connections: how many there are, and how long each may do nothing.

aiohttp bounds what one request may hold, but neither the number of connections, nor the time that
a client takes to send its headers or to read its answer.
"""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from node.addresses import accountable, is_loopback
from node.rpc.limits import RpcLimits
from node.rpc.metrics import RpcMetrics
from node.rpc.problems import CONTENT_TYPE, request_problem

_REFUSAL_BODY: Final = json.dumps(
    request_problem("busy", "all connections, or all for one address, are in use").render()
).encode()
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    + f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(_REFUSAL_BODY)}\r\n\r\n".encode()
    + _REFUSAL_BODY
)


class Connections:
    """Makes the protocols of a listening socket, and keeps their number within a bound.

    At the bound the connection that has been idle for longest gives way to a newcomer, so that
    nobody keeps others out by doing nothing; if none is idle, the newcomer is refused. Nor by being
    slow: half of them at most are of one address, this machine apart, since whoever stands behind
    a proxy on it comes from there. At that bound one of the same address gives way.

    Parameters
    ----------
    make : callable
        Makes the HTTP protocol of one connection.
    group : TaskGroup
        Where TLS handshakes run.
    context : SSLContext, optional
        For connections that speak TLS. The listening socket does not: a connection counts from the
        moment that it is accepted, and who stalls its handshake is idle like any other.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        limits: RpcLimits,
        metrics: RpcMetrics,
        *,
        group: asyncio.TaskGroup,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits
        self.group = group
        self.context = context
        self._make = make
        self._metrics = metrics
        self._half = max(1, limits.connections_max // 2)
        # With the address that each comes from.
        self._open: dict[Guard, str] = {}
        self._sources: Counter[str] = Counter()
        # In the order in which they fell idle.
        self._idle: dict[Guard, None] = {}

    def __call__(self) -> "Guard":
        """Return the protocol of a connection that is just accepted."""
        return Guard(self, self._make)

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, guard: "Guard", host: str) -> bool:
        """Count a connection from an address; False where there is no room for it."""
        source = accountable(host)
        is_crowd = self._sources[source] >= self._half and not is_loopback(host)
        if is_crowd or len(self._open) >= self.limits.connections_max:
            idle = (one for one in self._idle if not is_crowd or self._open[one] == source)
            longest = next(idle, None)
            if longest is None:
                self._metrics.refused.labels("crowd" if is_crowd else "full").inc()
                return False
            self.drop(longest, "gave_way")
        self._open[guard] = source
        self._sources[source] += 1
        self._metrics.connections.set(len(self._open))
        return True

    def set_idle(self, guard: "Guard", is_idle: bool) -> None:
        """Note that a connection waits for a request, or does not any more."""
        self._idle.pop(guard, None)
        if is_idle and guard in self._open:
            self._idle[guard] = None

    def drop(self, guard: "Guard", reason: str) -> None:
        """Close a connection at once."""
        self._metrics.refused.labels(reason).inc()
        self.leave(guard)
        guard.abort()

    def leave(self, guard: "Guard") -> None:
        """Forget a connection that has ended."""
        self._idle.pop(guard, None)
        source = self._open.pop(guard, None)
        if source is not None:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]
        self._metrics.connections.set(len(self._open))


class Guard(asyncio.Protocol):
    """Stands between one transport and its HTTP protocol, and watches the time."""

    def __init__(self, owner: Connections, make: Callable[[], asyncio.Protocol]) -> None:
        self._owner = owner
        self._make = make
        self._http: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        # What a client sends right behind its handshake comes before the channel is handed over.
        self._early: list[bytes] = []
        self._is_lost = False
        self._is_answering = False
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the connection in, or refuse it."""
        self._transport = cast(asyncio.Transport, transport)
        context = self._owner.context
        # None where the client has gone already.
        address = transport.get_extra_info("peername") or ("",)
        if not self._owner.enter(self, address[0]):
            if context is None:
                self._transport.write(_REFUSAL)
            self._transport.close()
            return
        self._await_request(self._owner.limits.header_timeout_ms)
        if context is None:
            self._serve()
        else:
            self._transport.pause_reading()
            self._owner.group.create_task(self._secure(self._transport, context))

    def data_received(self, data: bytes) -> None:
        """Hand on what came."""
        if self._http is None:
            self._early.append(data)
        else:
            self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on that no more will come."""
        return None if self._http is None else self._http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks and forget the connection."""
        self._is_lost = True
        self._stop_reading()
        self._stop_writing()
        self._owner.leave(self)
        if self._http is not None:
            self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the clock: the client does not take what it is sent."""
        # An answer that is still being taken is not idleness, even if its handler has ended.
        self._stop_reading()
        self._owner.set_idle(self, False)
        self._stop_writing()
        seconds = self._owner.limits.write_timeout_ms / 1000
        self._writing = self._loop.call_later(seconds, self._owner.drop, self, "not_reading")
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        """Stop the clock again."""
        self._stop_writing()
        if not self._is_answering:
            self._await_request(self._owner.limits.idle_timeout_ms)
        if self._http is not None:
            self._http.resume_writing()

    # What the application calls

    def begin(self) -> None:
        """Note that the headers of a request have arrived."""
        self._is_answering = True
        self._stop_reading()
        self._owner.set_idle(self, False)

    def end(self) -> None:
        """Note that the request is answered; the next one may be awaited."""
        self._is_answering = False
        is_open = self._transport is not None and not self._transport.is_closing()
        if is_open and self._writing is None:
            self._await_request(self._owner.limits.idle_timeout_ms)

    def abort(self) -> None:
        """Close the connection without sending what waits."""
        if self._transport is not None:
            self._transport.abort()

    async def _secure(self, plain: asyncio.Transport, context: ssl.SSLContext) -> None:
        """Serve HTTP inside TLS, once both ends have agreed on it."""
        channel: asyncio.Transport | None = None
        try:
            channel = await self._loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._owner.limits.header_timeout_ms / 1000,
            )
        except OSError:
            pass  # it speaks no TLS, or has gone; errors of TLS are OSErrors
        finally:
            if channel is None and not self._is_lost:
                self.connection_lost(None)
                plain.abort()
        if channel is not None and not self._is_lost:
            self._transport = channel
            self._serve()

    def _serve(self) -> None:
        """Let HTTP begin on the transport."""
        assert self._transport is not None, "the connection is made"
        self._http = self._make()
        self._http.connection_made(self._transport)
        early, self._early = self._early, []
        for data in early:
            self._http.data_received(data)

    def _await_request(self, timeout_ms: int) -> None:
        self._stop_reading()
        self._owner.set_idle(self, True)
        seconds = timeout_ms / 1000
        self._reading = self._loop.call_later(seconds, self._owner.drop, self, "not_sending")

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

"""The event stream: a WebSocket that follows the chain from a cursor and skips nothing.

A subscriber is not fed from a queue that could overflow. It walks the committed chain at its own
pace, so what waits for it is one position in the chain and what its socket holds; one that takes
nothing for a while is told so and disconnected. docs/spec/rpc.md, section "Events", is normative.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import WSMessage, WSMsgType, web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.errors import DecodeError, SecureNetError
from node.api import NodeApi
from node.damage import report_damage
from node.errors import DamagedEntry, Pruned
from node.rpc.bodies import parse_json
from node.rpc.errors import CursorAhead, MalformedRequest, RpcError, SlowConsumer
from node.rpc.feed import TYPES, EventFeed
from node.rpc.limits import SUBSCRIBE_SIZE_MAX, RpcLimits
from node.rpc.metrics import RpcMetrics
from node.rpc.paging import CURSOR_SIZE_MAX, malformed, parse_place, render_place
from node.rpc.problems import INTERNAL, Problem, problem_of

log = structlog.get_logger(__name__)

CLOSE_CODES: Final = {
    "malformed": 1008,
    "internal": 1011,
    "damaged": 1011,
    "slow_consumer": 1013,
    "ahead": 4004,
    "pruned": 4010,
}
CLOSE_SHUTDOWN: Final = 1001

_TURN: Final = 50
"""Messages sent before the event loop gets a turn: a send that does not block gives none."""
_CLOSE_S: Final = 2.0
"""For a close handshake; afterwards the connection is dropped when its buffer has drained."""

Place = tuple[int, int]


class Subscription(BaseModel):
    """The client's first message."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subscribe: list[str] = Field(min_length=1, max_length=len(TYPES))
    from_: str | None = Field(default=None, alias="from", max_length=CURSOR_SIZE_MAX)

    @property
    def types(self) -> frozenset[str]:
        """The types asked for; raises `MalformedRequest` for unknown ones."""
        if unknown := set(self.subscribe) - set(TYPES):
            raise MalformedRequest(f"subscribe: {min(unknown)[:40]} is none of {', '.join(TYPES)}")
        return frozenset(self.subscribe)


@dataclass(slots=True)
class _Stream:
    """One subscriber.

    Parameters
    ----------
    cursor : tuple of int
        The position up to which it has been sent everything.
    """

    socket: web.WebSocketResponse
    types: frozenset[str] = frozenset()
    cursor: Place = (0, 0)


class EventStreams:
    """All open event streams.

    Parameters
    ----------
    feed : EventFeed
        Where they read.
    """

    def __init__(
        self, node: NodeApi, feed: EventFeed, limits: RpcLimits, metrics: RpcMetrics
    ) -> None:
        self._node = node
        self._feed = feed
        self._limits = limits
        self._metrics = metrics
        self._open: set[web.WebSocketResponse] = set()

    @property
    def is_full(self) -> bool:
        """Whether no further stream is taken."""
        return len(self._open) >= self._limits.subscribers_max

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Follow the chain for one client until either side ends it."""
        socket = web.WebSocketResponse(
            heartbeat=self._limits.ping_ms / 1000,
            max_msg_size=SUBSCRIBE_SIZE_MAX,
            timeout=_CLOSE_S,
            compress=False,
        )
        self._open.add(socket)
        self._metrics.subscribers.set(len(self._open))
        stream = _Stream(socket)
        try:
            await socket.prepare(request)
            await self._follow(stream)
        finally:
            self._open.discard(socket)
            self._metrics.subscribers.set(len(self._open))
        return socket

    async def _follow(self, stream: _Stream) -> None:
        try:
            await self._run(stream)
        except* ConnectionError:
            log.debug("a subscriber left")
        except* SecureNetError as group:
            await self._end(stream, self._problem(group))
        except* Exception as group:
            log.error("an event stream failed", exc_info=group)
            self._metrics.errors.inc()
            await self._end(stream, INTERNAL)

    async def close(self) -> None:
        """End all streams; the node stops."""
        async with asyncio.TaskGroup() as group:
            for socket in list(self._open):
                group.create_task(_shut(socket))

    async def _run(self, stream: _Stream) -> None:
        first = await _first_message(stream.socket, self._limits)
        if first is None:
            return
        subscription = _parse(first)
        stream.types = subscription.types
        stream.cursor = await self._start(subscription.from_)
        welcome = {
            "subscribed": [type_ for type_ in TYPES if type_ in stream.types],
            "cursor": render_place(stream.cursor),
        }
        await self._send(stream, json.dumps(welcome))
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump(stream))
            async for message in stream.socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    raise MalformedRequest("a stream takes one message only")
            pump.cancel()

    async def _start(self, cursor: str | None) -> Place:
        height = self._node.chain.height
        if cursor is None:
            return height, await self._feed.count(height) - 1
        place = parse_place(cursor, "from")
        if place[0] > height:
            raise CursorAhead(f"block {place[0]} is not committed here; the last one is {height}")
        return place

    async def _pump(self, stream: _Stream) -> None:
        """Send what lies behind the cursor, block for block, and wait for more."""
        height, index = stream.cursor
        while True:
            while height > self._node.chain.height:
                await self._node.wait_height(height)
            await self._send_block(stream, height, first=index + 1)
            height, index = height + 1, -1

    async def _send_block(self, stream: _Stream, height: int, *, first: int) -> None:
        count = await self._feed.count(height)
        if first >= count:
            return
        sent = 0
        for index, events in await self._feed.events(height, stream.types):
            if index < first:
                continue
            for left, (type_, data) in enumerate(events, start=1 - len(events)):
                # All but the last event of a position carry the one before it, so that whoever
                # resumes between them sees some again and misses none.
                cursor = (height, index) if left == 0 else (height, index - 1)
                text = f'{{"type":"{type_}","cursor":"{render_place(cursor)}","data":{data}}}'
                # A send that waits has already joined what the socket holds: it comes before any
                # later message, and so before the one that names this cursor as the last.
                stream.cursor = cursor
                await self._send(stream, text)
                sent += 1
                if sent % _TURN == 0:
                    await asyncio.sleep(0)
        stream.cursor = (height, count - 1)
        await asyncio.sleep(0)

    async def _send(self, stream: _Stream, text: str) -> None:
        try:
            async with asyncio.timeout(self._limits.slow_consumer_ms / 1000):
                await stream.socket.send_str(text)
        except TimeoutError as error:
            raise SlowConsumer(
                f"nothing was taken for {self._limits.slow_consumer_ms} ms"
            ) from error

    def _problem(self, group: BaseExceptionGroup[SecureNetError]) -> Problem:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, DamagedEntry):
            report_damage(error, self._node.metrics)
        if isinstance(error, RpcError | DecodeError | DamagedEntry | Pruned):
            return problem_of(error, time_ms=0)
        log.error("an event stream failed", exc_info=error)
        self._metrics.errors.inc()
        return INTERNAL

    async def _end(self, stream: _Stream, problem: Problem) -> None:
        """Tell why and where, and close."""
        self._metrics.dropped.labels(problem.code).inc()
        cursor = render_place(stream.cursor)
        last = json.dumps({"error": problem.render(), "cursor": cursor})
        try:
            async with asyncio.timeout(_CLOSE_S):
                await stream.socket.send_str(last)
                await stream.socket.close(
                    code=CLOSE_CODES[problem.code], message=f"{problem.code} {cursor}".encode()
                )
        except (TimeoutError, ConnectionError):
            log.debug("a subscriber did not take the reason", code=problem.code)


async def _shut(socket: web.WebSocketResponse) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await socket.close(code=CLOSE_SHUTDOWN, message=b"shutdown")
    except (TimeoutError, ConnectionError, RuntimeError):
        # A stalled one is dropped with its connection; one still opening has nothing to close.
        log.debug("a subscriber did not take the close")


async def _first_message(socket: web.WebSocketResponse, limits: RpcLimits) -> WSMessage | None:
    """Return the client's first message, or None where it has gone."""
    try:
        message = await socket.receive(timeout=limits.header_timeout_ms / 1000)
    except TimeoutError as error:
        raise MalformedRequest("no subscription came") from error
    return message if message.type in (WSMsgType.TEXT, WSMsgType.BINARY) else None


def _parse(message: WSMessage) -> Subscription:
    if message.type is not WSMsgType.TEXT:
        raise MalformedRequest("a subscription is a text message")
    try:
        return Subscription.model_validate(parse_json(message.data, "subscription"))
    except ValidationError as error:
        raise malformed(error, "subscription") from error

"""A client of a node's RPC; the one module of the command line that speaks HTTP.

It answers with the JSON of the RPC as it is, and raises what `cli.errors` names: `Refused` with
the code of a problem document, `Unreachable` where nobody answers.
"""

import asyncio
import errno
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp

from chain import codec
from chain.blobs import CHUNK_SIZE
from chain.genesis import Genesis, parse_genesis
from cli.errors import BadInput, Refused, TimedOut, Unreachable
from node.clock import SystemClock

Document = dict[str, Any]
T = TypeVar("T")

CONNECTIONS_MAX: Final = 64
ANSWER_SIZE_MAX: Final = 64 * 1024 * 1024
"""A larger answer is refused: no page of the RPC comes near it."""
REQUEST_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5.0
RETRY_AFTER_S_MAX: Final = 5.0
"""Longest pause between two tries, whatever the node asks for."""
POLL_INTERVAL_S: Final = 0.02
PAGE_MAX: Final = 1_000
MSGPACK: Final = "application/msgpack"
OCTETS: Final = "application/octet-stream"
BLOB_TIMEOUT: Final = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S, sock_read=60.0)
"""Large blobs take long; what is bounded is a pause in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """What became of one transaction of a batch.

    Parameters
    ----------
    id : str or None
        In hex; None where the bytes were no transaction.
    refusal : Refused or None
        None when it is pooled.
    """

    id: str | None
    refusal: Refused | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Bytes that are made while they are sent.

    Parameters
    ----------
    size : int
        How many they are.
    parts : callable
        Yields them, from the beginning at each call.
    """

    size: int
    parts: Callable[[], AsyncGenerator[bytes, None]]


class Client:
    """Talks to one node.

    Parameters
    ----------
    url : str
        Base address of the RPC, as ``http://127.0.0.1:26757``.
    session : aiohttp.ClientSession
        Owned by the caller; see `connect`.
    attempts : int
        How often a request is made while the node answers 503 and says when to try again.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, *, attempts: int = 1) -> None:
        if not _is_address(url):
            raise BadInput(
                f"{url[:80]!r} is no address of an RPC", "give one as --rpc http://127.0.0.1:26757"
            )
        self.url = url.rstrip("/")
        self._session = session
        self._attempts = attempts

    async def status(self) -> Document:
        """Return how the node is doing."""
        return await self.get("/v1/status")

    async def genesis(self) -> Genesis:
        """Return the chain's genesis document."""
        return parse_genesis(await self.get("/v1/genesis"))

    async def block(self, reference: int | str) -> Document:
        """Return a block by height, hash or ``latest``."""
        return await self.get(f"/v1/blocks/{reference}")

    async def transaction(self, id: str) -> Document:
        """Return a transaction, its status and its receipt."""
        return await self.get(f"/v1/transactions/{id}")

    async def device(self, id: str) -> Document:
        """Return a registered device."""
        return await self.get(f"/v1/devices/{id}")

    async def submit(self, wire: bytes, *, wait: bool = False) -> Document:
        """Send one transaction; with `wait`, the answer holds its receipt if it came in time."""
        query = {"wait": "commit"} if wait else {}
        return await self.post("/v1/transactions", wire, **query)

    async def submit_batch(self, wires: Sequence[bytes]) -> list[Pooled]:
        """Send many transactions; one result for each, in order."""
        return await self.submit_encoded(codec.encode(list(wires)))

    async def submit_encoded(self, batch: bytes) -> list[Pooled]:
        """Send a batch that is encoded already: a msgpack array of transactions' bytes."""
        answer = await self.post("/v1/transactions/batch", batch)
        return [_pooled(item) for item in answer["results"]]

    async def is_ready(self, *, min_peers: int = 0) -> bool:
        """Tell whether the node says that it is ready and has so many peers."""
        try:
            await self.get("/health/ready", min_peers=str(min_peers))
        except (Refused, Unreachable):
            return False
        return True

    async def wait_height(self, height: int) -> None:
        """Return once the node has committed block `height`."""
        status = await self.status()
        while status["height"] < height:
            await asyncio.sleep(POLL_INTERVAL_S)
            status = await self.status()

    async def wait_committed(self, id: str, *, timeout_s: float) -> Document:
        """Return a transaction once it is committed.

        Raises
        ------
        Refused
            It was rejected or has expired.
        TimedOut
            It is still pending, or unknown, after `timeout_s`.
        """
        deadline = SystemClock().monotonic_ns() + int(timeout_s * 1e9)
        while True:
            answer = await self.transaction(id)
            status = answer["status"]
            if status == "committed":
                return answer
            if status in ("rejected", "expired"):
                code = answer.get("code") or status
                detail = answer.get("detail") or "it was not committed while it could be"
                raise Refused(status=422, code=code, detail=detail)
            if SystemClock().monotonic_ns() >= deadline:
                raise TimedOut(
                    f"transaction {id} is {status} after {timeout_s:g} s",
                    f"ask again: securenet tx show {id}; securenet consensus why",
                )
            await asyncio.sleep(POLL_INTERVAL_S)

    async def follow_blocks(self, first: int) -> AsyncGenerator[Document, None]:
        """Yield block after block from height `first` on, each as soon as it is committed.

        A subscription that breaks is opened again where it broke.
        """
        height = first
        while True:
            subscription = {"subscribe": ["block"], "from": f"{height - 1}:0"}
            async with aclosing(self.events(subscription)) as events:
                async for event in events:
                    yield await self.block(height)
                    assert event["data"]["header"]["height"] == height, "no block is skipped"
                    height += 1
            await asyncio.sleep(POLL_INTERVAL_S)

    async def events(self, subscription: Document) -> AsyncGenerator[Document, None]:
        """Subscribe and yield each event, until the node closes the subscription.

        Parameters
        ----------
        subscription : dict
            ``subscribe``, a list of types, and optionally ``from``, the last cursor that was seen.

        Raises
        ------
        Refused
            With the code by which the node refuses or ends the subscription, save when it stops or
            found the client slow: then the iteration ends, and the last cursor leads on.
        """
        try:
            async with self._session.ws_connect(
                f"{self.url}/v1/events", heartbeat=30, max_msg_size=ANSWER_SIZE_MAX
            ) as socket:
                await socket.send_json(subscription)
                async for message in socket:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        continue
                    document = _object(self.url, message.data, "an event is no JSON")
                    if "error" in document:
                        problem = document["error"]
                        if problem.get("code") in ("slow_consumer", "shutdown"):
                            return
                        raise _refused(int(problem.get("status", 400)), problem, None)
                    if "subscribed" not in document:
                        yield document
        except aiohttp.WSServerHandshakeError as error:
            raise Unreachable(self.url, f"no events: HTTP {error.status}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(self.url, _reason(error)) from error

    async def pages(self, path: str, *, limit: int, **query: str) -> list[Document]:
        """Return up to `limit` items of a paged route, following its cursor."""
        items: list[Document] = []
        while len(items) < limit:
            count = min(limit - len(items), PAGE_MAX)
            page = await self.get(path, limit=str(count), **query)
            items.extend(page["items"])
            if page["cursor"] is None:
                break
            query["cursor"] = page["cursor"]
        return items[:limit]

    async def get(self, path: str, **query: str) -> Document:
        """Return the JSON of a route."""
        return await self._request("GET", path, query, None)

    async def post(self, path: str, body: bytes, **query: str) -> Document:
        """Send canonical msgpack and return the JSON of the answer."""
        return await self._request("POST", path, query, body)

    async def put_blob(self, id: str, body: bytes | Path | Stream) -> Document:
        """Hand in a blob: its bytes, the file in which they are, or what makes them."""
        return await self._request("PUT", f"/v1/blobs/{id}", {}, body)

    async def has_blob(self, id: str) -> bool:
        """Tell whether the node holds a blob."""
        try:
            async with self._session.head(f"{self.url}/v1/blobs/{id}") as response:
                return response.status == 200
        except TimeoutError as error:
            raise Unreachable(self.url, "no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(self.url, _reason(error)) from error

    async def blob(self, id: str, *, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a blob from `start` on; who uses them checks their digest."""
        url = f"{self.url}/v1/blobs/{id}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            async with self._session.get(url, timeout=BLOB_TIMEOUT, headers=headers) as response:
                if response.status >= 400:
                    text = await response.content.read(ANSWER_SIZE_MAX)
                    said = f"HTTP {response.status} without JSON; is it a node?"
                    raise _refused(response.status, _object(self.url, text, said), None)
                if start and response.status != 206:
                    raise Unreachable(self.url, "it does not send a part of a blob; is it a node?")
                async for part in response.content.iter_chunked(CHUNK_SIZE):
                    yield part
        except TimeoutError as error:
            raise Unreachable(self.url, "no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(self.url, _reason(error)) from error

    async def _request(
        self, method: str, path: str, query: dict[str, str], body: bytes | Path | Stream | None
    ) -> Document:
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._request_once(method, path, query, body)
            except Refused as refusal:
                after_s = refusal.retry_after_s
                if refusal.status != 503 or after_s is None or attempt == self._attempts:
                    raise
                await asyncio.sleep(min(after_s, RETRY_AFTER_S_MAX))
        raise AssertionError("the last attempt returns or raises")

    async def _request_once(
        self, method: str, path: str, query: dict[str, str], body: bytes | Path | Stream | None
    ) -> Document:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = OCTETS if method == "PUT" else MSGPACK
        if isinstance(body, Stream):
            headers["Content-Length"] = str(body.size)
        data = _data(body)
        timeout = BLOB_TIMEOUT if method == "PUT" else self._session.timeout
        try:
            async with self._session.request(
                method, self.url + path, params=query, data=data, headers=headers, timeout=timeout
            ) as response:
                text = await response.content.read(ANSWER_SIZE_MAX)
                while not response.content.at_eof():
                    if len(text) > ANSWER_SIZE_MAX:
                        raise Unreachable(self.url, "its answer is too large for an RPC")
                    text += await response.content.read(ANSWER_SIZE_MAX)
                status, retry_after = response.status, response.headers.get("Retry-After")
        except TimeoutError as error:
            raise Unreachable(self.url, "no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(self.url, _reason(error)) from error
        document = _object(self.url, text, f"HTTP {status} without JSON; is it a node?")
        if status >= 400:
            raise _refused(status, document, retry_after)
        return document


@asynccontextmanager
async def connect(
    url: str, *, attempts: int = 1, timeout_s: float = REQUEST_TIMEOUT_S
) -> AsyncIterator[Client]:
    """Open a client of the node at `url`; connections are made when they are needed."""
    timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Client(url, session, attempts=attempts)


def ask(url: str, question: Callable[[Client], Awaitable[T]], *, attempts: int = 3) -> T:
    """Run `question` with a client of the node at `url` and return its answer."""

    async def run() -> T:
        async with connect(url, attempts=attempts) as client:
            return await question(client)

    return asyncio.run(run())


def _data(body: bytes | Path | Stream | None) -> Any:
    """Return a body as the session takes it, which closes what is open in it."""
    match body:
        case Path():
            return body.open("rb")
        case Stream():
            return body.parts()
        case _:
            return body


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Brackets that hold no address of IPv6, or a port that is no number of 16 bits.
        return False


def _object(url: str, text: str | bytes, otherwise: str) -> Document:
    """Return the object that a node's JSON holds; raises `Unreachable` where there is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreachable(url, otherwise) from error
    if not isinstance(document, dict):
        raise Unreachable(url, "its JSON is no object; is it a node?")
    return document


def _pooled(item: Document) -> Pooled:
    error = item.get("error")
    refusal = None if error is None else _refused(int(error.get("status", 422)), error, None)
    return Pooled(id=item.get("id"), refusal=refusal)


def _refused(status: int, problem: Document, retry_after: str | None) -> Refused:
    after_ms = problem.get("retry_after_ms")
    after_s: float | None = None
    if isinstance(after_ms, int):
        after_s = after_ms / 1000
    elif retry_after is not None and retry_after.isdigit():
        after_s = float(retry_after)
    return Refused(
        status=status,
        code=str(problem.get("code", f"http_{status}")),
        detail=str(problem.get("detail") or problem.get("title") or "no reason given"),
        retry_after_s=after_s,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted; SSL_CERT_FILE names further authorities"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        if number is not None and number in errno.errorcode:
            # In place of asyncio's text, which repeats the address.
            return os.strerror(number)
        return error.os_error.strerror or "the connection failed"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    return str(error) or type(error).__name__

"""The HTTP interface, without sockets: its parser is given what a client would send."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiohttp import web

from chain import codec
from chain.errors import DecodeError
from node.rpc import RpcLimits, create_app
from node.rpc.routes import ROUTES
from node.rpc.server import _http_log
from tests.fuzz.chain_targets import vector_transactions, wires
from tests.fuzz.target import Check, Target, quiet
from tests.unit.node.rpc.chain_node import FLOW, ChainNode

RPC_LIFE: Final = 1_000
ANSWER_S: Final = 5.0
MEDIA: Final = ("msgpack", "json", "x", "")
_LOG: Final = _http_log()
LIMITS: Final = RpcLimits(commit_wait_ms=1)


def targets() -> Iterator[Target]:
    """Yield the target of requests."""
    yield Target(name="rpc", form="msgpack", seeds=_requests, opened=_server, life=RPC_LIFE)


def _requests() -> list[bytes]:
    """Return ``[method, target, media type, body]``."""
    id_ = vector_transactions()[0]["id"]
    parts = {"{id}": id_, "{block}": "1", "{name}": "x", "{miner}": id_, "{organisation}": id_}
    targets = []
    for route in ROUTES:
        path = route.path
        for part, value in parts.items():
            path = path.replace(part, value)
        targets += [path, f"{path}?limit=2&cursor={id_}", f"{path}?cursor=1:0"]
    reads = [["GET", target, 0, b""] for target in targets]
    body = codec.encode(wires()[:2])
    writes = [
        ["POST", "/v1/transactions", 0, wires()[0]],
        ["POST", "/v1/transactions?wait=commit", 0, _own_transaction()],
        ["POST", "/v1/transactions/batch", 0, body],
        ["POST", "/v1/transactions", 1, b'{"kind": "device.data", "body": {}}'],
        ["POST", "/v1/transactions/batch", 1, b"[{}]"],
    ]
    return [codec.encode(request) for request in (*reads, *writes)]


class _Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


@contextmanager
def _server() -> Iterator[Check]:
    """Yield the interface of a node with a few blocks: no request is a fault of the node."""
    with quiet(), asyncio.Runner() as runner:
        node = ChainNode()

        async def start() -> web.AppRunner:
            await node.register()
            await node.mine(node.report(0, FLOW))
            made = web.AppRunner(create_app(node, limits=LIMITS), access_log=None, logger=_LOG)
            await made.setup()
            return made

        app = runner.run(start())

        async def answer(request: bytes) -> int:
            assert app.server is not None, "it is set up"
            protocol = app.server()
            wire = _Wire()
            wire.set_protocol(protocol)
            protocol.connection_made(wire)
            protocol.data_received(request)
            async with asyncio.timeout(ANSWER_S):
                while not wire.closed:
                    await asyncio.sleep(0)
            protocol.connection_lost(None)
            return int(bytes(wire.written).split(b" ", 2)[1])

        def check(data: bytes) -> bool:
            request = _request(data)
            if request is None:
                return False
            status = runner.run(answer(request))
            node.pool.clear()
            assert status < 500 or status == 503, f"status {status}"
            return status < 400

        try:
            yield check
        finally:
            runner.run(app.cleanup())


def _request(data: bytes) -> bytes | None:
    """Return the bytes of a request, or None where the input stands for none."""
    try:
        method, target, media, body = codec.decode(data, what="request", size_max=2**20)
    except (DecodeError, ValueError):
        return None
    if type(method) is not str or type(target) is not str or type(body) is not bytes:
        return None
    if type(media) is not int:
        return None
    line = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "replace")
    head = f"Content-Type: application/{MEDIA[media % len(MEDIA)]}\r\n"
    size = f"Host: node\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return line + head.encode() + size.encode() + body


def _own_transaction() -> bytes:
    node = ChainNode()
    return node.registration(0).wire

"""What operators, probes and browsers ask for."""

from importlib.resources import files
from typing import Any, Final

import prometheus_client
from aiohttp import web

from node.rpc.context import Rpc
from node.rpc.errors import Busy, ForbiddenOrigin, MalformedRequest, NotFound, NotReady
from node.rpc.paging import Query, ReadyQuery

_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


def _load() -> dict[str, tuple[str, bytes]]:
    found = {}
    for file in sorted(files("node.rpc").joinpath("static").iterdir(), key=lambda file: file.name):
        if media := _TYPES.get("." + file.name.rpartition(".")[2]):
            found[file.name] = (media, file.read_bytes())
    return found


_STATIC: Final = _load()


async def live(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer that the process serves."""
    return {"live": True}


async def ready(rpc: Rpc, request: web.Request, query: ReadyQuery) -> Any:
    """Answer whether the node keeps up with its chain and has peers enough."""
    status = rpc.node.status()
    height = rpc.node.chain.height
    if not status.has_heard:
        raise NotReady("the node has not heard yet how far its peers are")
    lag = max(0, status.highest_seen - height)
    if lag > query.max_lag_blocks:
        raise NotReady(f"{lag} blocks behind, at most {query.max_lag_blocks} are asked for")
    if len(status.peers) < query.min_peers:
        raise NotReady(f"{len(status.peers)} peers, at least {query.min_peers} are asked for")
    return {"ready": True, "height": height, "lag_blocks": lag, "peers": len(status.peers)}


async def metrics(rpc: Rpc, request: web.Request, query: None) -> Any:
    """Answer the metrics as Prometheus reads them; its own query parameters are let pass."""
    return web.Response(
        body=rpc.node.metrics.render(),
        headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
    )


async def events(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Open an event stream."""
    # A browser asks no permission for a WebSocket to another origin, it only names its own.
    origin = request.headers.get("Origin")
    if origin is not None and origin not in (f"http://{request.host}", f"https://{request.host}"):
        raise ForbiddenOrigin("event streams are open to pages of this node only")
    if not web.WebSocketResponse().can_prepare(request):
        raise MalformedRequest("this route is a WebSocket")
    if rpc.streams.is_full:
        raise Busy(f"{rpc.limits.subscribers_max} event streams are open")
    return await rpc.streams.serve(request)


async def openapi(rpc: Rpc, request: web.Request, query: None) -> Any:
    """Answer the OpenAPI document."""
    return web.Response(body=rpc.document, content_type="application/json")


async def explorer(rpc: Rpc, request: web.Request, query: None) -> Any:
    """Answer the explorer."""
    return _static("explorer.html")


async def docs(rpc: Rpc, request: web.Request, query: None) -> Any:
    """Answer the page that shows the interface."""
    return _static("docs.html")


async def static(rpc: Rpc, request: web.Request, query: None) -> Any:
    """Answer a file of the two pages."""
    return _static(request.match_info["name"])


def _static(name: str) -> web.Response:
    if name not in _STATIC:
        raise NotFound("there is no such file")
    media, body = _STATIC[name]
    return web.Response(
        body=body,
        content_type=media,
        charset="utf-8",
        headers={"Content-Security-Policy": _PAGE_POLICY, "Referrer-Policy": "no-referrer"},
    )

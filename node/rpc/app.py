"""The aiohttp application: the route table, and the edge where errors become answers."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import web

from chain.errors import SecureNetError
from node.api import NodeApi
from node.damage import report_damage
from node.errors import DamagedEntry
from node.rpc.connections import Guard
from node.rpc.context import Rpc, make_rpc
from node.rpc.limits import BODY_SIZE_MAX, RpcLimits
from node.rpc.openapi import openapi
from node.rpc.paging import parse_query
from node.rpc.problems import INTERNAL, http_problem, problem_response
from node.rpc.routes import ROUTES, Route

log = structlog.get_logger(__name__)

RPC: Final = web.AppKey("rpc", Rpc)

_BEGUN: Final = web.RequestKey("begun", bool)
"""Of a request: whether the headers of an answer are out."""

_UNMATCHED: Final = "unmatched"
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Server": "SecureNet",
}

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(node: NodeApi, *, limits: RpcLimits | None = None) -> web.Application:
    """Return the application that answers for `node`; made within a running event loop.

    Parameters
    ----------
    limits : RpcLimits, optional
        Bounds and times.
    """
    document = json.dumps(openapi(node.status().version)).encode()
    rpc = make_rpc(node, limits=limits or RpcLimits(), document=document)
    app = web.Application(middlewares=[_edge], client_max_size=BODY_SIZE_MAX)
    app[RPC] = rpc
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _endpoint(route))
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, _endpoint(route))
    app.on_response_prepare.append(_note_begin)
    app.on_shutdown.append(_close_streams)
    app.cleanup_ctx.append(_readers)
    return app


def _endpoint(route: Route) -> _Next:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        query = None if route.query is None else parse_query(route.query, request.query)
        answer = await route.handler(request.app[RPC], request, query)
        return answer if isinstance(answer, web.StreamResponse) else json_response(answer)

    return endpoint


def json_response(answer: Any, status: int = 200) -> web.Response:
    """Return `answer` as JSON."""
    body = json.dumps(answer, separators=(",", ":")).encode()
    return web.Response(status=status, body=body, content_type="application/json")


@web.middleware
async def _edge(request: web.Request, handler: _Next) -> web.StreamResponse:
    """Answer every error as a problem, count and time the request, tell the connection's guard."""
    rpc = request.app[RPC]
    guard = _guard_of(request)
    if guard is not None:
        guard.begin()
    began_ns = rpc.node.monotonic_ns()
    try:
        response = await _answer(rpc, request, handler)
    finally:
        if guard is not None:
            guard.end()
    route = _route_of(request)
    method = request.method if request.method in _METHODS else "other"
    rpc.metrics.requests.labels(method, route, str(response.status)).inc()
    rpc.metrics.seconds.labels(route).observe((rpc.node.monotonic_ns() - began_ns) / 1e9)
    if not response.prepared:
        if _BEGUN in request:
            # The client would take a second answer for bytes of the first, which is cut off.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("an answer failed in the midst")
        response.headers.update(_HEADERS)
    return response


async def _answer(rpc: Rpc, request: web.Request, handler: _Next) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = problem_response(http_problem(error))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except ConnectionError:
        # The client has gone; aiohttp ends the connection.
        raise
    except web.RequestPayloadError:
        return problem_response(http_problem(web.HTTPBadRequest(reason="malformed body")))
    except DamagedEntry as error:
        report_damage(error, rpc.node.metrics)
        return problem_response(rpc.problem(error))
    except SecureNetError as error:
        problem = rpc.problem(error)
        if problem is not INTERNAL:
            return problem_response(problem)
        return _failed(rpc, request, error)
    except Exception as error:
        return _failed(rpc, request, error)


def _failed(rpc: Rpc, request: web.Request, error: Exception) -> web.StreamResponse:
    log.error("a request failed", method=request.method, route=_route_of(request), exc_info=error)
    rpc.metrics.errors.inc()
    return problem_response(INTERNAL)


async def _note_begin(request: web.Request, response: web.StreamResponse) -> None:
    request[_BEGUN] = True


def _guard_of(request: web.Request) -> Guard | None:
    transport = request.transport
    protocol = None if transport is None else transport.get_protocol()
    return protocol if isinstance(protocol, Guard) else None


def _route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return _UNMATCHED if resource is None else resource.canonical


async def _close_streams(app: web.Application) -> None:
    await app[RPC].streams.close()


async def _readers(app: web.Application) -> AsyncIterator[None]:
    yield
    app[RPC].reader.close()

"""What every handler works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from chain.errors import SecureNetError
from node.api import NodeApi
from node.rpc.bodies import Bodies
from node.rpc.events import EventStreams
from node.rpc.feed import EventFeed
from node.rpc.limits import RpcLimits
from node.rpc.metrics import RpcMetrics
from node.rpc.problems import Problem, problem_of
from node.rpc.reader import BlockReader
from node.rpc.uploads import Uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """The parts of the RPC of one node; `document` is the OpenAPI document."""

    node: NodeApi
    limits: RpcLimits
    metrics: RpcMetrics
    reader: BlockReader
    bodies: Bodies
    uploads: Uploads
    streams: EventStreams
    document: bytes

    def next_block_time_ms(self) -> int:
        """Return the earliest time that the next block may have, as far as this node knows."""
        return self.node.chain.tip.next_time_ms(self.node.time_ms())

    def problem(self, error: SecureNetError, id: bytes | None = None) -> Problem:
        """Return what to answer for `error`, about transaction `id` where there is one."""
        return problem_of(error, time_ms=self.next_block_time_ms(), id=id)


Handler = Callable[[Rpc, web.Request, Any], Awaitable[Any]]
"""``await handler(rpc, request, query)`` gives JSON, or a response of another kind."""


def make_rpc(node: NodeApi, *, limits: RpcLimits, document: bytes) -> Rpc:
    """Put the parts together; `reader` is closed by whoever asked for them."""
    metrics = RpcMetrics(node.metrics.registry)
    reader = BlockReader(node.chain)
    return Rpc(
        node=node,
        limits=limits,
        metrics=metrics,
        reader=reader,
        bodies=Bodies(size_max=limits.bodies_size_max, timeout_ms=limits.body_timeout_ms),
        uploads=Uploads(limits.uploads_max),
        streams=EventStreams(node, EventFeed(node, reader), limits, metrics),
        document=document,
    )

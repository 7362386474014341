"""What is counted of the RPC."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class RpcMetrics:
    """The RPC's metrics, registered with the node's.

    Labels take few values: a route stands under its path in the route table, whatever was asked.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "securenet_rpc_requests",
            "Answered requests",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "securenet_rpc_request_seconds",
            "Time from the headers of a request to its answer",
            ["route"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.errors = Counter(
            "securenet_rpc_internal_errors",
            "Requests that failed by a fault of the node",
            registry=registry,
        )
        self.connections = Gauge("securenet_rpc_connections", "Open connections", registry=registry)
        self.refused = Counter(
            "securenet_rpc_connections_refused",
            "Connections that were closed to keep within a bound",
            ["reason"],
            registry=registry,
        )
        self.subscribers = Gauge(
            "securenet_rpc_subscribers", "Open event streams", registry=registry
        )
        self.dropped = Counter(
            "securenet_rpc_subscribers_dropped",
            "Event streams that the node ended",
            ["reason"],
            registry=registry,
        )

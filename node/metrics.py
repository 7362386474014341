"""What a node counts and measures, for Prometheus.

Each node has a registry of its own, so that several can live in one process. The parts of a node
tell what happened in their own words; the names that operators see stand here alone.
"""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

PREFIX: Final = "securenet_"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one node."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._height = self._gauge("consensus_height", "Height of the last committed block")
        self._round = self._gauge("consensus_round", "Round in which the last block committed")
        self._interval = self._histogram(
            "consensus_block_interval_seconds", "Block time since the block before"
        )
        self._round_changes = self._counter(
            "consensus_round_changes", "Rounds that failed before a block committed"
        )
        self._transactions = self._counter(
            "transactions_committed", "Transactions in committed blocks"
        )
        self._writes = self._histogram("storage_write_seconds", "Time to write a block, synced")
        self._rejected = self._counter(
            "admission_rejected", "Transactions refused at admission", "reason"
        )
        self._refused = self._counter(
            "p2p_messages_refused", "Messages of peers that were refused", "reason"
        )
        self._verdicts = self._counter("verdicts", "Flows judged by this node", "label")
        self._verdict_failures = self._counter(
            "verdict_failures", "Blocks that this node could not judge", "reason"
        )
        self._lag = self._gauge(
            "eventloop_lag_seconds", "How late the event loop woke up, at the last look"
        )
        self._last_time_ms: int | None = None

    def block_committed(
        self, *, height: int, round: int, transactions: int, time_ms: int, write_ns: int
    ) -> None:
        """Note a committed block."""
        self._height.set(height)
        self._round.set(round)
        self._round_changes.inc(round)
        self._transactions.inc(transactions)
        self._writes.observe(write_ns / 1e9)
        if self._last_time_ms is not None:
            self._interval.observe((time_ms - self._last_time_ms) / 1000)
        self._last_time_ms = time_ms

    def admission_rejected(self, code: str) -> None:
        """Note a transaction refused with `code`."""
        self._rejected.labels(reason=code).inc()

    def peer_refused(self, reason: str) -> None:
        """Note a message of a peer that was refused."""
        self._refused.labels(reason=reason).inc()

    def verdicts_given(self, *, anomalous: int, flows: int) -> None:
        """Note the verdicts on one block."""
        self._verdicts.labels(label="anomalous").inc(anomalous)
        self._verdicts.labels(label="normal").inc(flows - anomalous)

    def verdict_failed(self) -> None:
        """Note a block that the detector could not judge."""
        self._verdict_failures.labels(reason="failed").inc()

    def verdict_late(self) -> None:
        """Note a verdict that would not be taken any more."""
        self._verdict_failures.labels(reason="late").inc()

    def eventloop_lag(self, seconds: float) -> None:
        """Note how late the event loop is."""
        self._lag.set(seconds)

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is asked for when the metrics are read."""
        self._gauge(name, documentation).set_function(read)

    def watch_process(self) -> None:
        """Add memory, CPU and descriptors of this process, under their usual names."""
        ProcessCollector(registry=self.registry)

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(PREFIX + name, documentation, registry=self.registry)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str) -> Histogram:
        return Histogram(PREFIX + name, documentation, registry=self.registry, buckets=_SECONDS)

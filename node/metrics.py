"""What a node counts and measures, for Prometheus.

Every node has a registry of its own, so that several can live in one process. The names are part
of the interface: later work adds to them and renames none.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

INTERVAL_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WRITE_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
REASONS_MAX: Final = 64
"""Values of one label; further ones are counted as ``other``."""
LAG_LOOKS: Final = 30
"""The lag shown is the largest of so many looks at it, so that a scrape misses no short one."""

_MS_PER_S: Final = 1_000
_NS_PER_S: Final = 1_000_000_000


class Metrics:
    """The metrics of one node; `registry` holds them, and takes those of the RPC.

    Parameters
    ----------
    registry : CollectorRegistry, optional
        A new one by default; never the library's own, which is shared by the process.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._height = self._gauge("consensus_height", "Height of the last committed block")
        self._round = self._gauge("consensus_round", "Round of the height being agreed on")
        self._interval = Histogram(
            "securenet_consensus_block_interval_seconds",
            "Time of a block after the time of the block before it",
            buckets=INTERVAL_BUCKETS,
            registry=self.registry,
        )
        self._round_changes = self._counter(
            "consensus_round_changes", "Rounds that failed before a block was committed"
        )
        self._evidence = self._counter(
            "consensus_evidence", "Proofs found here that a miner signed two things"
        )
        self._transactions = self._counter(
            "transactions_committed", "Transactions in committed blocks"
        )
        self._write = Histogram(
            "securenet_storage_write_seconds",
            "Time to commit a block and its state to disk",
            buckets=WRITE_BUCKETS,
            registry=self.registry,
        )
        self._log_write = Histogram(
            "securenet_consensus_log_write_seconds",
            "Time to append to the consensus log and have it on the disk",
            buckets=WRITE_BUCKETS,
            registry=self.registry,
        )
        self._diagnosis = Gauge(
            "securenet_consensus_diagnosis",
            "1 for what agreement waits for, by its code; 0 for the others",
            ["code"],
            registry=self.registry,
        )
        self._failed_rounds = _Reasons(
            "securenet_consensus_rounds_failed",
            "Rounds that this node has left without a block, by what they lacked",
            self.registry,
        )
        self._damaged = self._counter("storage_damaged", "Reads of stored entries that are damaged")
        self._pruned = Counter(
            "securenet_storage_pruned",
            "Transactions, or receipts of blocks, that were removed from the disk, by class",
            ["what"],
            registry=self.registry,
        )
        self._beyond_share = self._counter(
            "files_beyond_share",
            "Files that devices have registered beyond their share of the store",
        )
        self._mempool_size = self._gauge("mempool_size", "Waiting transactions")
        self._mempool_bytes = self._gauge("mempool_size_bytes", "Bytes of waiting transactions")
        self._peers = self._gauge("p2p_peers", "Peers with a standing session")
        self._refused = _Reasons(
            "securenet_p2p_messages_refused",
            "Messages of peers that were not accepted",
            self.registry,
        )
        self._rejected = _Reasons(
            "securenet_admission_rejected",
            "Transactions that were not admitted",
            self.registry,
        )
        self._signing_refused = _Reasons(
            "securenet_signer_refused",
            "Messages and transactions that the remote signer did not sign",
            self.registry,
        )
        self._verdicts = Counter(
            "securenet_verdicts",
            "Flows this node judged, by its judgement",
            ["label"],
            registry=self.registry,
        )
        self._verdicts_failed = self._counter(
            "verdicts_failed", "Blocks whose flows could not be judged"
        )
        self._verdicts_late = self._counter(
            "verdicts_late", "Verdicts that were ready after their window had closed"
        )
        self._verdicts_after_decision = self._counter(
            "verdicts_after_decision",
            "Verdicts that were ready when others had decided the block already",
        )
        self._verdicts_abstained = self._counter(
            "verdicts_abstained", "Blocks whose flows were not judged for want of the model"
        )
        self._round_updates = Counter(
            "securenet_rounds_updates",
            "Updates of federated rounds that this miner has, sound or not",
            ["label"],
            registry=self.registry,
        )
        self._round_aggregates = Counter(
            "securenet_rounds_aggregates",
            "Federated rounds by what became of this miner's aggregate",
            ["label"],
            registry=self.registry,
        )
        self._round_groups_void = self._counter(
            "rounds_groups_void", "Groups that this miner has left out of an aggregate"
        )
        self._round_compute = Histogram(
            "securenet_rounds_aggregate_seconds",
            "Time to compute the aggregate of a federated round",
            buckets=INTERVAL_BUCKETS,
            registry=self.registry,
        )
        self._lag = self._gauge(
            "eventloop_lag_seconds", "Largest delay of the event loop among the last looks at it"
        )
        self._lags_s: deque[float] = deque(maxlen=LAG_LOOKS)
        self._last_time_ms: int | None = None

    def watch_process(self) -> None:
        """Add memory, CPU time and descriptors of this process."""
        ProcessCollector(namespace="securenet", registry=self.registry)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add the gauge ``securenet_name``, read whenever the metrics are asked for."""
        self._gauge(name, text).set_function(read)

    def watch_held(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Add ``securenet_held``, which tells of each kind that `read` names how many are held."""
        self.registry.register(_Held(read))

    def follow(
        self,
        *,
        height: Callable[[], int],
        mempool_size: Callable[[], int],
        mempool_bytes: Callable[[], int],
        peers: Callable[[], int],
        round: Callable[[], int],
    ) -> None:
        """Read these whenever the metrics are asked for; until then they show 0."""
        self._height.set_function(height)
        self._mempool_size.set_function(mempool_size)
        self._mempool_bytes.set_function(mempool_bytes)
        self._peers.set_function(peers)
        self._round.set_function(round)

    def block_committed(
        self, *, height: int, round: int, transactions: int, time_ms: int, write_ns: int
    ) -> None:
        """Count a committed block.

        Parameters
        ----------
        round : int
            The round of its certificate: so many failed before.
        time_ms : int
            Time of the block.
        write_ns : int
            How long it took to write it.
        """
        self._height.set(height)
        self._round_changes.inc(round)
        self._transactions.inc(transactions)
        self._write.observe(write_ns / _NS_PER_S)
        if self._last_time_ms is not None:
            self._interval.observe((time_ms - self._last_time_ms) / _MS_PER_S)
        self._last_time_ms = time_ms

    def pruned(self, what: str, count: int) -> None:
        """Count what was removed of a class of data."""
        self._pruned.labels(what).inc(count)

    def file_beyond_share(self) -> None:
        """Count a file for which its device or organisation has no share left."""
        self._beyond_share.inc()

    def log_written(self, took_ns: int) -> None:
        """Note how long a write to the consensus log took."""
        self._log_write.observe(took_ns / _NS_PER_S)

    def round_failed(self, lacked: str) -> None:
        """Count a round that was left without a block, by what it lacked."""
        self._failed_rounds.count(lacked)

    def follow_diagnosis(self, codes: Sequence[str], read: Callable[[], str | None]) -> None:
        """Show which of `codes` holds whenever the metrics are asked for."""
        for code in codes:
            self._diagnosis.labels(code).set_function(partial(_is_equal, read, code))

    def entry_damaged(self) -> None:
        """Count a read of a stored entry that is damaged."""
        self._damaged.inc()

    def admission_rejected(self, reason: str) -> None:
        """Count a transaction that was not admitted, by the code of its rejection."""
        self._rejected.count(reason)

    def signing_refused(self, reason: str) -> None:
        """Count what the remote signer did not sign."""
        self._signing_refused.count(reason)

    def peer_refused(self, reason: str) -> None:
        """Count a message of a peer that was not accepted."""
        self._refused.count(reason)

    def evidence_found(self) -> None:
        """Count a proof that a miner signed two things."""
        self._evidence.inc()

    def verdicts_given(self, *, anomalous: int, flows: int) -> None:
        """Count the judged flows of a block, `anomalous` of them found so."""
        self._verdicts.labels("anomalous").inc(anomalous)
        self._verdicts.labels("normal").inc(flows - anomalous)

    def verdict_failed(self) -> None:
        """Count a block whose flows could not be judged."""
        self._verdicts_failed.inc()

    def verdict_late(self) -> None:
        """Count a verdict that nobody takes any more."""
        self._verdicts_late.inc()

    def verdict_after_decision(self) -> None:
        """Count a verdict that was ready when its block was decided; it is sent all the same."""
        self._verdicts_after_decision.inc()

    def verdict_abstained(self) -> None:
        """Count a block whose model is not here."""
        self._verdicts_abstained.inc()

    def round_update_seen(self, *, is_sound: bool) -> None:
        """Count an update of a federated round that is here."""
        self._round_updates.labels("sound" if is_sound else "unsound").inc()

    def round_aggregate(self, label: str) -> None:
        """Count what became of this miner's aggregate: `sent`, `abstained` or `overruled`."""
        self._round_aggregates.labels(label).inc()

    def round_group_void(self) -> None:
        """Count a group whose sum cannot be known."""
        self._round_groups_void.inc()

    def round_computed(self, took_ns: int) -> None:
        """Note how long an aggregate took."""
        self._round_compute.observe(took_ns / _NS_PER_S)

    def eventloop_lag(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lags_s.append(max(0.0, seconds))
        self._lag.set(max(self._lags_s))

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"securenet_{name}", text, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"securenet_{name}", text, registry=self.registry)


class _Held(Collector):
    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def describe(self) -> list[GaugeMetricFamily]:
        return [self._family()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = self._family()
        for what, count in self._read().items():
            family.add_metric([what], count)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily("securenet_held", "Entries held in memory", labels=["what"])


def _is_equal(read: Callable[[], str | None], code: str) -> float:
    return float(read() == code)


class _Reasons:
    """A counter by reason, with a bound on how many reasons there are."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._counter = Counter(name, text, ["reason"], registry=registry)
        self._known: set[str] = set()

    def count(self, reason: str) -> None:
        if reason not in self._known:
            if len(self._known) >= REASONS_MAX:
                reason = "other"
            self._known.add(reason)
        self._counter.labels(reason).inc()

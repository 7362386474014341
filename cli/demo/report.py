"""The result of the demonstration: as a table for people, as JSON for scripts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cli.render import show_fields, show_line, show_table

SHARE_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """A node's view of the chain."""

    height: int
    block_hash: str
    state_root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the demonstration found.

    Parameters
    ----------
    submitted, committed : int
        Transactions of every kind that the demonstration sent.
    tx_per_s : float
        Committed flows per second, from the first one sent to the last one committed.
    latency_p50_ms, latency_p99_ms : float
        From just before a flow was sent until its block was seen.
    rejected : mapping of str to int
        Refused transactions by code.
    precision, recall, false_positive_rate : float
        Verdicts against labels, over committed flows.
    attackers_quarantined, others_quarantined : int
        Devices.
    """

    nodes: tuple[NodeReport, ...]
    submitted: int
    committed: int
    tx_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    rejected: Mapping[str, int]
    precision: float
    recall: float
    false_positive_rate: float
    attackers_quarantined: int
    others_quarantined: int

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "nodes": [
                {
                    "height": node.height,
                    "block_hash": node.block_hash,
                    "state_root": node.state_root,
                }
                for node in self.nodes
            ],
            "submitted": self.submitted,
            "committed": self.committed,
            "tx_per_s": round(self.tx_per_s, 1),
            "latency_ms": {
                "p50": round(self.latency_p50_ms, 1),
                "p99": round(self.latency_p99_ms, 1),
            },
            "rejected": dict(sorted(self.rejected.items())),
            "verdicts": {
                "precision": round(self.precision, SHARE_DIGITS),
                "recall": round(self.recall, SHARE_DIGITS),
                "false_positive_rate": round(self.false_positive_rate, SHARE_DIGITS),
            },
            "quarantined": {
                "attackers": self.attackers_quarantined,
                "others": self.others_quarantined,
            },
        }

    def show(self, *, attackers: int, others: int) -> None:
        """Print it for people; `attackers` and `others` are how many devices of each there are."""
        rows = [
            [f"node{number}", node.height, node.block_hash, node.state_root]
            for number, node in enumerate(self.nodes)
        ]
        show_table(["node", "height", "block hash", "state root"], rows, empty="no nodes")
        rejected = [f"{code} {count}" for code, count in sorted(self.rejected.items())]
        show_fields(
            {
                "submitted": self.submitted,
                "committed": self.committed,
                "committed tx/s": f"{self.tx_per_s:.0f}",
                "commit latency": (
                    f"p50 {self.latency_p50_ms:.0f} ms, p99 {self.latency_p99_ms:.0f} ms"
                ),
                "rejected": rejected,
                "verdicts": (
                    f"precision {self.precision:.1%}, recall {self.recall:.1%}, "
                    f"false positives {self.false_positive_rate:.1%}"
                ),
                "quarantined": (
                    f"{self.attackers_quarantined} of {attackers} attackers, "
                    f"{self.others_quarantined} of {others} other devices"
                ),
            }
        )
        roots = {node.state_root for node in self.nodes}
        show_line(f"all {len(self.nodes)} nodes agree" if len(roots) == 1 else "NODES DIFFER")

"""What a transport counts, for the metrics and the operator."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from node.p2p.errors import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportStats:
    """Counts since the transport was made; the first two are of the moment.

    Parameters
    ----------
    peers, pending : int
        Standing sessions; inbound connections without one.
    bytes_received, bytes_sent, messages_received, messages_sent : int
        Within sessions, before encryption.
    dropped_queue_full, dropped_too_large : int
        Own messages that `send` refused.
    dropped_rate : int
        Messages of peers above the rate of their kind.
    refused : mapping of Reason to int
        Connections, of either direction, that became no session.
    ended : mapping of Reason to int
        Sessions that ended.
    """

    peers: int
    pending: int
    bytes_received: int
    bytes_sent: int
    messages_received: int
    messages_sent: int
    dropped_queue_full: int
    dropped_too_large: int
    dropped_rate: int
    refused: Mapping[Reason, int]
    ended: Mapping[Reason, int]


@dataclass(slots=True)
class Counters:
    """The running counts behind `TransportStats`; the reasons are a closed set."""

    bytes_received: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    dropped_queue_full: int = 0
    dropped_too_large: int = 0
    dropped_rate: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    ended: Counter[Reason] = field(default_factory=Counter)

    def snapshot(self, *, peers: int, pending: int) -> TransportStats:
        """Return the counts as a value."""
        return TransportStats(
            peers=peers,
            pending=pending,
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
            messages_received=self.messages_received,
            messages_sent=self.messages_sent,
            dropped_queue_full=self.dropped_queue_full,
            dropped_too_large=self.dropped_too_large,
            dropped_rate=self.dropped_rate,
            refused=dict(self.refused),
            ended=dict(self.ended),
        )

"""Bounds and times of the RPC. docs/spec/rpc.md, section "Bounds", says what happens at each."""

from dataclasses import dataclass
from typing import Final

from chain.transactions import TRANSACTION_SIZE_MAX

TRANSACTION_JSON_SIZE_MAX: Final = 8 * 32 * 1024
"""Hex doubles a body, and names, punctuation and numbers take their part."""
BATCH_TRANSACTIONS_MAX: Final = 1_000
BATCH_SIZE_MAX: Final = 4 * 1024 * 1024
BATCH_JSON_SIZE_MAX: Final = 2 * 1024 * 1024
"""Less than in msgpack: parsed JSON takes some twenty times the room of its bytes."""
BODY_SIZE_MAX: Final = max(TRANSACTION_SIZE_MAX, TRANSACTION_JSON_SIZE_MAX, BATCH_SIZE_MAX)

LINE_SIZE_MAX: Final = 8_190
HEADERS_MAX: Final = 64

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1_000
SCAN_MAX: Final = 2_000
"""Records looked at for one page; a filter that fits few ends the page early."""
PAGE_TRANSACTIONS_MAX: Final = 10_000
"""Transaction ids, or scores, on one page; beyond it the page ends early."""
PAGE_ROUNDS_MAX: Final = 16
"""Federated rounds on one page, whose records have up to 40 kB each in the state."""
PAGE_SHARES_MAX: Final = 50
"""Members on one page of shares, of whom each may have 30 kB in JSON."""

READERS: Final = 2
"""Threads that read and decode blocks beside the event loop."""
CACHED_TRANSACTIONS_MAX: Final = 20_000
"""Transactions of the decoded blocks that are kept; the block used longest ago is dropped."""
CACHED_BLOCKS_MAX: Final = 256
FEED_EVENTS_MAX: Final = 20_000
"""Rendered events that are kept for subscribers; the list used longest ago is dropped."""
FEED_LISTS_MAX: Final = 1_024
"""Rendered lists of events, one for each block and type; the one used longest ago is dropped."""
SUBSCRIBE_SIZE_MAX: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcLimits:
    """Bounds and times that tests set otherwise.

    Parameters
    ----------
    connections_max : int
        Open connections, at most half of them from one other machine; beyond it the longest idle
        one gives way, or the newcomer is refused.
    subscribers_max : int
        Open event streams.
    bodies_size_max : int
        Bytes of all request bodies in memory.
    uploads_max : int
        Blobs that come in at a time; half of them from one other machine, and half of what the
        state does not name.
    header_timeout_ms : int
        For a new connection to send the headers of its first request, TLS handshake included.
    idle_timeout_ms : int
        Between requests on one connection.
    body_timeout_ms : int
        For a body to arrive; for one chunk of it where it is a blob.
    write_timeout_ms : int
        For a client that takes nothing of its answer; longer than `slow_consumer_ms`, so that a
        slow subscriber can be told why it is disconnected.
    slow_consumer_ms : int
        For a subscriber that takes nothing.
    ping_ms : int
        Between pings of an event stream; a pong has half of it.
    commit_wait_ms : int
        How long ``?wait=commit`` waits.
    """

    connections_max: int = 1_000
    subscribers_max: int = 100
    bodies_size_max: int = 64 * 1024 * 1024
    uploads_max: int = 8
    header_timeout_ms: int = 10_000
    idle_timeout_ms: int = 75_000
    body_timeout_ms: int = 20_000
    write_timeout_ms: int = 30_000
    slow_consumer_ms: int = 10_000
    ping_ms: int = 30_000
    commit_wait_ms: int = 10_000

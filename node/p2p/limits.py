"""How much one peer, or a crowd of strangers, may take of this node.

The numbers are defaults: generous enough that consensus and bulk data of ten thousand transactions
a second pass, low enough that a flood costs its sender the session. docs/spec/p2p.md, "Limits".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

URGENT_KINDS_END: Final = 16
"""Kinds below this go first: consensus must not wait behind bulk data."""

MESSAGES_PER_SECOND: Final = 20_000
SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KindPolicy:
    """What is accepted of one kind of message.

    Parameters
    ----------
    payload_size_max : int
        Larger messages are refused from their header, on sending too.
    messages_per_second : int
        A peer's steady rate; what exceeds it is dropped, counted, and in the long run penalised.
    burst : int
        Messages that may come at once.
    """

    payload_size_max: int
    messages_per_second: int = MESSAGES_PER_SECOND
    burst: int = 2 * MESSAGES_PER_SECOND


KindTable = Mapping[int, KindPolicy]
"""The kinds that a node speaks, without those of the transport itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class P2PLimits:
    """Bounds and times of one transport; each says what happens when it is reached."""

    handshake_timeout_ms: int = 5_000
    """From accepting or dialling to a standing session; then the connection is closed."""
    ping_interval_ms: int = 5_000
    """A session in which this end has sent nothing for so long is kept alive by a ping."""
    idle_timeout_ms: int = 15_000
    """After this long without a byte from the peer the session is closed."""
    stall_timeout_ms: int = 30_000
    """A peer that takes nothing off its socket for this long is disconnected."""
    probe_timeout_ms: int = 3_000
    """How long a standing session has to show life when its peer dials anew."""

    urgent_queue_size_max: int = 8 * 2**20
    """Bytes queued for one peer below kind 16; at the bound, sending returns False."""
    bulk_queue_size_max: int = 32 * 2**20
    """Bytes queued for one peer from kind 16; at the bound, sending returns False."""

    inbound_bytes_per_second: int = 128 * 2**20
    """Of one peer; above it the socket is left unread for a while, so that TCP slows the peer."""
    inbound_burst_size: int = 64 * 2**20

    pending_max: int = 64
    """Inbound connections without a session; further ones are closed on arrival."""
    pending_per_address_max: int = 16
    """The same for one address (IPv6: one /64)."""
    accepts_per_second: int = 20
    """Inbound connections of one address; further ones are closed on arrival."""
    accepts_burst: int = 40
    addresses_max: int = 4_096
    """Addresses whose rate is remembered; the one seen longest ago is forgotten."""

    dial_backoff_ms: int = 250
    """Delay after the first failure, doubled with each further one, drawn from its upper half."""
    dial_backoff_ms_max: int = 15_000
    stable_session_ms: int = 10_000
    """A session that lived this long ends the back-off."""

    score_limit: int = 100
    """Penalty points at which a peer is banned; one point is forgiven each second."""
    ban_ms: int = 60_000
    """First ban; doubled with each further one."""
    ban_ms_max: int = 600_000
    ban_memory_ms: int = 3_600_000
    """After this long without a ban the next one is a first one again."""
    violation_points: int = 50
    """Price of a frame that no honest node sends."""
    session_points: int = 1
    """Price of a session's end: one a second is forgiven, a storm of them is not."""
    excess_messages_per_point: int = 64
    """Messages above the rate of their kind that cost one point."""


class TokenBucket:
    """A rate with a burst, on integers and a caller's clock.

    Parameters
    ----------
    per_second : int
        Units that flow in each second.
    burst : int
        Units that may be taken at once.

    Notes
    -----
    The whole state is the instant at which the bucket would be full again (the generic cell rate
    algorithm), so that an unused bucket costs nothing.
    """

    __slots__ = ("_burst_ns", "_full_at_ns", "_per_second")

    def __init__(self, per_second: int, burst: int) -> None:
        self._per_second = per_second
        self._burst_ns = burst * SECOND_NS // per_second
        self._full_at_ns = 0

    def take(self, now_ns: int, units: int = 1) -> bool:
        """Take `units` if they are there."""
        full_at_ns = max(self._full_at_ns, now_ns) + units * SECOND_NS // self._per_second
        if full_at_ns - now_ns > self._burst_ns:
            return False
        self._full_at_ns = full_at_ns
        return True

    def charge(self, now_ns: int, units: int) -> int:
        """Take `units` in any case; return how many ns to wait until the debt is paid."""
        self._full_at_ns = max(self._full_at_ns, now_ns) + units * SECOND_NS // self._per_second
        return max(0, self._full_at_ns - now_ns - self._burst_ns)

"""Who may connect, whom to dial and when, who is kept away: all without any socket."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from chain.crypto import ED25519_KEY_SIZE, check_public_key
from chain.types import Address, PublicKey
from node.addresses import accountable
from node.p2p.errors import Reason
from node.p2p.limits import SECOND_NS, P2PLimits, TokenBucket
from node.ports import Clock, Random

PEERS_MAX: Final = 1_024
"""Entries of a directory; a larger one is refused as a whole."""

MS_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEntry:
    """A node that may connect.

    Parameters
    ----------
    node_id : Address
        Permanent id of the node.
    public_key : PublicKey
        Its present node key, Ed25519.
    host, port : str and int, or None
        Where to dial it; None where it only dials itself.
    """

    node_id: Address
    public_key: PublicKey
    host: str | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        check_public_key(self.public_key)
        if len(self.public_key) != ED25519_KEY_SIZE:
            raise ValueError("a node key is an Ed25519 key")


@dataclass(frozen=True, slots=True)
class PeerDirectory:
    """All nodes that may connect; ids and keys are unique."""

    entries: tuple[PeerEntry, ...] = ()
    _by_id: dict[Address, PeerEntry] = field(init=False, repr=False, compare=False)
    _by_key: dict[PublicKey, PeerEntry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.entries) > PEERS_MAX:
            raise ValueError(f"{len(self.entries)} peers where {PEERS_MAX} are allowed")
        object.__setattr__(self, "_by_id", {entry.node_id: entry for entry in self.entries})
        object.__setattr__(self, "_by_key", {entry.public_key: entry for entry in self.entries})
        if not len(self.entries) == len(self._by_id) == len(self._by_key):
            raise ValueError("two entries share an id or a key")

    def __iter__(self) -> Iterator[PeerEntry]:
        return iter(self.entries)

    def of_id(self, node_id: Address) -> PeerEntry | None:
        """Return the entry of a node."""
        return self._by_id.get(node_id)

    def of_key(self, public_key: PublicKey) -> PeerEntry | None:
        """Return the entry of the node whose present key this is."""
        return self._by_key.get(public_key)

    def without(self, node_id: Address) -> "PeerDirectory":
        """Return the directory as `node_id` itself needs it."""
        return PeerDirectory(tuple(entry for entry in self.entries if entry.node_id != node_id))


@dataclass(slots=True)
class _Peer:
    """What is remembered of one node of the directory."""

    connected_since_ns: int | None = None
    is_dialling: bool = False
    failures: int = 0
    trouble: Reason | None = None
    dial_at_ns: int = 0
    points: int = 0
    points_at_ns: int = 0
    banned_until_ns: int = 0
    bans: int = 0


class PeerBook:
    """Decides when to dial whom, and whom to keep away.

    Parameters
    ----------
    clock : Clock
        Only its monotonic reading is used.
    random : Random
        Jitter, so that nodes which lost each other at once do not come back at once.
    limits : P2PLimits
        Back-off, score and ban times.

    Notes
    -----
    One record for each node of the directory, so its size is bounded by `PEERS_MAX`. A node that
    leaves the directory is forgotten with its score: only a vote brings it back.
    """

    def __init__(self, *, clock: Clock, random: Random, limits: P2PLimits) -> None:
        self._clock = clock
        self._random = random
        self._limits = limits
        self._peers: dict[Address, _Peer] = {}
        self.directory = PeerDirectory()

    def update(self, directory: PeerDirectory) -> None:
        """Replace the directory; who is new is due at once, who moved is due anew."""
        old, self.directory = self.directory, directory
        self._peers = {
            entry.node_id: self._peers.get(entry.node_id) or _Peer() for entry in directory
        }
        for entry in directory:
            if old.of_id(entry.node_id) != entry:
                self._peers[entry.node_id].dial_at_ns = 0

    def is_banned(self, peer: Address) -> bool:
        """Tell whether `peer` is kept away now."""
        record = self._peers.get(peer)
        return record is not None and record.banned_until_ns > self._clock.monotonic_ns()

    def take_due(self) -> list[PeerEntry]:
        """Return the peers to dial now, and hold them as being dialled."""
        now_ns = self._clock.monotonic_ns()
        due = [entry for entry, at_ns in self._waiting() if at_ns <= now_ns]
        for entry in due:
            self._peers[entry.node_id].is_dialling = True
        return due

    def next_due_ms(self) -> int | None:
        """Return how long until somebody is due, or None where nobody waits."""
        times_ns = [at_ns for _, at_ns in self._waiting()]
        if not times_ns:
            return None
        return max(0, -(-(min(times_ns) - self._clock.monotonic_ns()) // MS_NS))

    def trouble(self, peer: Address) -> Reason | None:
        """Return why the last dial of `peer` failed, if it did and there is no session since."""
        record = self._peers.get(peer)
        return None if record is None or record.connected_since_ns is not None else record.trouble

    def on_dial_ended(self, peer: Address, trouble: Reason | None) -> bool:
        """Take note that dialling ended; trouble makes the next pause longer.

        Returns
        -------
        bool
            Whether this trouble is another one than last time, and so worth telling.
        """
        record = self._peers.get(peer)
        if record is None:
            return False
        is_news = trouble is not None and trouble is not record.trouble
        record.trouble = trouble
        record.is_dialling = False
        self._back_off(record, failed=trouble is not None)
        return is_news

    def on_connected(self, peer: Address) -> None:
        """Take note of a session, whoever dialled."""
        if record := self._peers.get(peer):
            record.connected_since_ns = self._clock.monotonic_ns()

    def on_disconnected(self, peer: Address) -> bool:
        """Take note of its end; a short one counts as a failure to dial.

        Returns
        -------
        bool
            Whether the peer is banned from now on, for coming and going all the time.
        """
        record = self._peers.get(peer)
        if record is None or record.connected_since_ns is None:
            return False
        lived_ns = self._clock.monotonic_ns() - record.connected_since_ns
        record.connected_since_ns = None
        if lived_ns >= self._limits.stable_session_ms * MS_NS:
            record.failures = 0
        self._back_off(record, failed=lived_ns < self._limits.stable_session_ms * MS_NS)
        return self.penalise(peer, self._limits.session_points)

    def penalise(self, peer: Address, points: int) -> bool:
        """Add penalty points; True where they ban the peer, which the caller disconnects."""
        record = self._peers.get(peer)
        now_ns = self._clock.monotonic_ns()
        if record is None or record.banned_until_ns > now_ns:
            return False
        forgiven = (now_ns - record.points_at_ns) // SECOND_NS
        if forgiven > 0:
            record.points = max(0, record.points - forgiven)
            record.points_at_ns += forgiven * SECOND_NS
        record.points += points
        if record.points < self._limits.score_limit:
            return False
        if now_ns - record.banned_until_ns > self._limits.ban_memory_ms * MS_NS:
            record.bans = 0
        ban_ms = min(self._limits.ban_ms << record.bans, self._limits.ban_ms_max)
        record.banned_until_ns = now_ns + ban_ms * MS_NS
        record.bans += 1
        record.points = 0
        return True

    def _waiting(self) -> Iterator[tuple[PeerEntry, int]]:
        """Yield the peers which are neither connected nor being dialled, with their times."""
        for entry in self.directory:
            record = self._peers[entry.node_id]
            if entry.host is None or entry.port is None or record.is_dialling:
                continue
            if record.connected_since_ns is None:
                yield entry, max(record.dial_at_ns, record.banned_until_ns)

    def _back_off(self, record: _Peer, *, failed: bool) -> None:
        pause_ms = self._limits.dial_backoff_ms
        if failed:
            # The shift is bounded, for a peer may stay away for years.
            pause_ms = min(pause_ms << min(record.failures, 16), self._limits.dial_backoff_ms_max)
            record.failures += 1
        pause_ms = pause_ms - self._random.below(pause_ms // 2 + 1)
        record.dial_at_ns = self._clock.monotonic_ns() + pause_ms * MS_NS


class Doorkeeper:
    """Bounds what strangers may hold: connections that have not become a session.

    An authenticated peer is bounded by the directory, one session for each entry; before that, only
    the address is known. An IPv6 user owns a whole /64, which therefore counts as one address.
    """

    def __init__(self, *, clock: Clock, limits: P2PLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._pending: dict[str, int] = {}
        self._pending_count = 0
        self._rates: OrderedDict[str, TokenBucket] = OrderedDict()

    def enter(self, host: str) -> Reason | None:
        """Let a connection in, or return why not; who is let in has to `leave`."""
        address = accountable(host)
        if self._pending_count >= self._limits.pending_max:
            return Reason.TOO_MANY
        pending = self._pending.get(address, 0)
        if pending >= self._limits.pending_per_address_max:
            return Reason.TOO_MANY_FROM_ADDRESS
        if not self._rate(address).take(self._clock.monotonic_ns()):
            return Reason.TOO_FREQUENT
        self._pending[address] = pending + 1
        self._pending_count += 1
        return None

    def leave(self, host: str) -> None:
        """Take note that a connection has become a session, or has ended."""
        address = accountable(host)
        self._pending_count -= 1
        self._pending[address] -= 1
        if not self._pending[address]:
            del self._pending[address]

    @property
    def pending_count(self) -> int:
        """Connections inside, for the metrics."""
        return self._pending_count

    def _rate(self, address: str) -> TokenBucket:
        bucket = self._rates.get(address)
        if bucket is None:
            limits = self._limits
            bucket = self._rates[address] = TokenBucket(
                limits.accepts_per_second, limits.accepts_burst
            )
            if len(self._rates) > limits.addresses_max:
                self._rates.popitem(last=False)
        self._rates.move_to_end(address)
        return bucket

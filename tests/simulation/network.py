"""A network in memory: one seed is one course of latencies, losses and breaks.

Each node gets a `SimulatedTransport`, the simulated twin of `node.p2p.TlsTransport`. It keeps the
same book of peers (dialling, back-off, scores, bans) and the same queues and limits; what it leaves
out are bytes, keys and TLS. Everything happens in callbacks of the running loop, at its time.

A session behaves as one over TCP: within a lane (urgent, bulk) order holds and nothing is lost
while it stands, a cut link holds messages back until it heals or the session times out, and a break
loses what was on its way. Loss within a standing session, duplicates and another order exist as
switches, beyond what TCP does.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from chain.types import Address
from node.p2p.errors import Reason
from node.p2p.framing import Lane, lane_of
from node.p2p.limits import KindTable, P2PLimits
from node.p2p.peers import PeerBook, PeerDirectory, PeerEntry
from node.p2p.stats import Counters, TransportStats
from node.ports import Clock, Random, Receiver

PPM = 1_000_000
_ROUND_TRIPS_TO_OPEN = 3
_GAP_S = 1e-6
"""Keeps what follows an event behind it: a loop does not order callbacks of one instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuality:
    """How one direction between two nodes behaves.

    Parameters
    ----------
    latency_us_min, latency_us_max : int
        Each message draws its latency between them, and waits for those before it.
    bytes_per_ms : int, optional
        Bandwidth of each lane; None is unlimited.
    break_ppm : int
        How many messages of a million break the session as they are sent.
    loss_ppm, duplicate_ppm : int
        How many vanish, or arrive twice, in a session that stands.
    reorder_ppm : int
        How many overtake the message before them.
    """

    latency_us_min: int = 200
    latency_us_max: int = 2_000
    bytes_per_ms: int | None = None
    break_ppm: int = 0
    loss_ppm: int = 0
    duplicate_ppm: int = 0
    reorder_ppm: int = 0


class SimulatedNetwork:
    """The links between transports, which are known here by their names.

    Two transports may have one node id under different names: twins. A peer has a session with one
    of them at a time.

    Parameters
    ----------
    seed : int
        Decides everything that is drawn.
    quality : LinkQuality, optional
        Of all links; `set_quality` changes it for one.

    Attributes
    ----------
    lets_through : callable
        ``lets_through(source, target, kind, payload)``: a message for which it is false is lost. A
        scene sets it to lose just what it is about.
    """

    def __init__(self, seed: int, quality: LinkQuality | None = None) -> None:
        self.quality = quality or LinkQuality()
        self._random = random.Random(seed)
        self._qualities: dict[tuple[str, str], LinkQuality] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        self._cut_count = 0
        self.lets_through: Callable[[str, str, int, bytes], bool] = lambda *_: True
        self._running: dict[str, SimulatedTransport] = {}
        self._sessions: list[_Session] = []

    # --- what a test does -------------------------------------------------------------------------

    def set_quality(self, source: str, target: str, quality: LinkQuality) -> None:
        """Give one direction its own quality."""
        self._qualities[source, target] = quality

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from `source` to `target`; the other direction stays as it is."""
        if (source, target) in self._cuts:
            return
        self._cut_count += 1
        self._cuts[source, target] = self._cut_count
        for session in self._sessions:
            if session.joins(source, target):
                session.watch(source, target, self._cut_count)

    def heal(self, source: str, target: str) -> None:
        """Let pass again what waits from `source` to `target`, and what follows."""
        if self._cuts.pop((source, target), None) is not None:
            for session in list(self._sessions):
                if session.joins(source, target):
                    session.release(source)

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut both directions between every two names of different groups."""
        sets = [list(group) for group in groups]
        for one in sets:
            for other in sets:
                if one is not other:
                    for source in one:
                        for target in other:
                            self.cut(source, target)

    def heal_all(self) -> None:
        """Heal every cut."""
        for source, target in list(self._cuts):
            self.heal(source, target)

    def break_session(self, one: str, other: str) -> None:
        """Break the session between two names, if there is one, with all that is on its way."""
        for session in list(self._sessions):
            if session.joins(one, other):
                session.break_both()

    # --- what transports do -----------------------------------------------------------------------

    def start(self, transport: "SimulatedTransport") -> None:
        """Make a transport reachable."""
        assert transport.name not in self._running, "one name runs once"
        self._running[transport.name] = transport

    def stop(self, transport: "SimulatedTransport") -> None:
        """Take a transport away as a process that ended: its peers see the connection close."""
        del self._running[transport.name]
        for session in list(self._sessions):
            if transport in session.ends:
                session.close(transport, Reason.SHUTDOWN)

    def dial(self, dialler: "SimulatedTransport", entry: PeerEntry) -> None:
        """Try to open a session; `dialler.on_dialled` hears how it went."""
        peer = entry.node_id
        candidates = [
            self._running[name]
            for name in sorted(self._running)
            if self._running[name].node_id == peer
            and self._running[name].host in (None, entry.host)
            and name != dialler.name
        ]
        passable = [target for target in candidates if self._is_passable(dialler, target)]
        if not candidates:
            delay_s = self.draw_latency_s(dialler.name, "")
            self._later(delay_s, dialler.on_dialled, peer, Reason.UNREACHABLE)
        elif not passable:
            timeout_s = dialler.limits.handshake_timeout_ms / 1000
            self._later(timeout_s, dialler.on_dialled, peer, Reason.HANDSHAKE_TIMEOUT)
        else:
            target = self._random.choice(passable)
            delay_s = sum(
                self.draw_latency_s(source.name, aim.name)
                for source, aim in _ROUND_TRIPS_TO_OPEN * ((dialler, target), (target, dialler))
            )
            self._later(delay_s, self._open, dialler, target)

    def is_cut(self, source: str, target: str) -> bool:
        """Tell whether nothing passes from `source` to `target`."""
        return (source, target) in self._cuts

    def cut_number(self, source: str, target: str) -> int | None:
        """Return which cut this is, so that a later one is told from it."""
        return self._cuts.get((source, target))

    def quality_of(self, source: str, target: str) -> LinkQuality:
        """Return the quality of one direction."""
        return self._qualities.get((source, target), self.quality)

    def happens(self, ppm: int) -> bool:
        """Draw whether something of this frequency happens now."""
        return ppm > 0 and self._random.randrange(PPM) < ppm

    def draw_latency_s(self, source: str, target: str) -> float:
        """Draw the latency of one message."""
        quality = self.quality_of(source, target)
        return self._random.randint(quality.latency_us_min, quality.latency_us_max) / 1e6

    def forget(self, session: "_Session") -> None:
        """Drop a session of which both ends know that it is over."""
        self._sessions.remove(session)

    def _open(self, dialler: "SimulatedTransport", target: "SimulatedTransport") -> None:
        if not dialler.is_running:
            return
        trouble: Reason | None = None
        if not target.is_running:
            trouble = Reason.UNREACHABLE
        elif not self._is_passable(dialler, target):
            trouble = Reason.HANDSHAKE_TIMEOUT
        else:
            trouble = dialler.refusal(target.node_id) or target.refusal(dialler.node_id)
        if trouble is not None:
            dialler.on_dialled(target.node_id, trouble)
            return
        session = _Session(self, dialler, target)
        self._sessions.append(session)
        session.establish()

    def _is_passable(self, one: "SimulatedTransport", other: "SimulatedTransport") -> bool:
        return not (self.is_cut(one.name, other.name) or self.is_cut(other.name, one.name))

    def _later(self, delay_s: float, callback: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(delay_s, callback, *arguments)


@dataclass(slots=True)
class _Stream:
    """One lane in one direction: what is on its way, oldest first."""

    items: deque[tuple[int, bytes]] = field(default_factory=deque)
    size: int = 0
    last_due_s: float = 0.0
    free_at_s: float = 0.0
    held: int = 0


class _Session:
    """A session between two transports; each end learns of its start and end in its own time."""

    def __init__(
        self,
        network: SimulatedNetwork,
        dialler: "SimulatedTransport",
        listener: "SimulatedTransport",
    ) -> None:
        self.ends = (dialler, listener)
        self._network = network
        self._open = {dialler.name: False, listener.name: False}
        self._over = {dialler.name: False, listener.name: False}
        self._streams: dict[tuple[str, Lane], _Stream] = {
            (end.name, lane): _Stream() for end in self.ends for lane in ("urgent", "bulk")
        }

    def joins(self, one: str, other: str) -> bool:
        return {one, other} == self._open.keys()

    def establish(self) -> None:
        """Open the listener's end now and the dialler's when the answer reaches it."""
        dialler, listener = self.ends
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._network.draw_latency_s(listener.name, dialler.name)
        for lane in ("urgent", "bulk"):
            self._streams[listener.name, lane].last_due_s = due_s + _GAP_S
        loop.call_at(due_s, self._open_dialler)
        self._open[listener.name] = True
        listener.on_opened(dialler.node_id, self)

    def send(self, source: "SimulatedTransport", kind: int, payload: bytes) -> bool:
        """Put a message on its way; False where the lane is full."""
        stream = self._streams[source.name, lane_of(kind)]
        target = self._other(source)
        limits = source.limits
        urgent = lane_of(kind) == "urgent"
        room = limits.urgent_queue_size_max if urgent else limits.bulk_queue_size_max
        if stream.size + len(payload) > room:
            return False
        quality = self._network.quality_of(source.name, target.name)
        if self._network.happens(quality.break_ppm):
            self.break_both()
        elif not self._network.lets_through(source.name, target.name, kind, payload):
            pass  # lost, as the scene wants it
        elif not self._network.happens(quality.loss_ppm):
            copies = 1 + self._network.happens(quality.duplicate_ppm)
            for _ in range(copies):
                self._put(stream, source, target, kind, payload)
        return True

    def close(self, end: "SimulatedTransport", reason: Reason) -> None:
        """End the session at one end; the other hears of it behind what was sent before."""
        if self._over[end.name]:
            return
        self._finish(end, reason)
        other = self._other(end)
        if self._over[other.name]:
            return
        loop = asyncio.get_running_loop()
        streams = [self._streams[end.name, lane] for lane in ("urgent", "bulk")]
        due_s = loop.time() + self._network.draw_latency_s(end.name, other.name)
        due_s = max(due_s, *(stream.last_due_s for stream in streams)) + _GAP_S
        loop.call_at(due_s, self._close_behind, end, other)

    def break_both(self) -> None:
        """End the session at both ends now; all that is on its way is lost."""
        for stream in self._streams.values():
            stream.items.clear()
        for end in self.ends:
            if not self._over[end.name]:
                self._finish(end, Reason.CLOSED)

    def watch(self, source: str, target: str, number: int) -> None:
        """Let the end that hears nothing give up after the idle time, if the cut lasts so long."""
        end = next(end for end in self.ends if end.name == target)

        def give_up() -> None:
            if self._network.cut_number(source, target) == number:
                self.close(end, Reason.IDLE)

        asyncio.get_running_loop().call_later(end.limits.idle_timeout_ms / 1000, give_up)

    def release(self, source: str) -> None:
        """Let what a cut held back arrive."""
        loop = asyncio.get_running_loop()
        for lane in ("urgent", "bulk"):
            stream = self._streams[source, lane]
            held, stream.held = stream.held, 0
            for _ in range(held):
                loop.call_soon(self._deliver, stream, source)

    def probe(self, end: "SimulatedTransport") -> None:
        """Let an end whose peer lost the session find that out."""

        def give_up() -> None:
            if self._over[self._other(end).name]:
                self.close(end, Reason.IDLE)

        asyncio.get_running_loop().call_later(end.limits.probe_timeout_ms / 1000, give_up)

    def _put(
        self,
        stream: _Stream,
        source: "SimulatedTransport",
        target: "SimulatedTransport",
        kind: int,
        payload: bytes,
    ) -> None:
        loop = asyncio.get_running_loop()
        sent_at_s = loop.time()
        quality = self._network.quality_of(source.name, target.name)
        if (rate := quality.bytes_per_ms) is not None:
            stream.free_at_s = max(stream.free_at_s, sent_at_s) + len(payload) / rate / 1000
            sent_at_s = stream.free_at_s
        due_s = sent_at_s + self._network.draw_latency_s(source.name, target.name)
        stream.last_due_s = max(due_s, stream.last_due_s)
        if stream.items and self._network.happens(quality.reorder_ppm):
            stream.items.insert(len(stream.items) - 1, (kind, payload))
        else:
            stream.items.append((kind, payload))
        stream.size += len(payload)
        # Timers only say that something is due; what is due is always the oldest of the stream.
        loop.call_at(stream.last_due_s, self._deliver, stream, source.name)

    def _deliver(self, stream: _Stream, source: str) -> None:
        sender, receiver = self.ends if self.ends[0].name == source else self.ends[::-1]
        if not stream.items:
            return
        if self._network.is_cut(sender.name, receiver.name):
            stream.held += 1
            return
        kind, payload = stream.items.popleft()
        stream.size -= len(payload)
        if self._open[receiver.name] and not self._over[receiver.name]:
            receiver.on_arrived(sender.node_id, kind, payload)

    def _open_dialler(self) -> None:
        dialler, listener = self.ends
        if self._over[dialler.name]:
            return
        if self._network.is_cut(listener.name, dialler.name):
            self.close(dialler, Reason.HANDSHAKE_TIMEOUT)
            return
        if refusal := dialler.refusal(listener.node_id):
            self.close(dialler, refusal)
            return
        self._open[dialler.name] = True
        dialler.on_opened(listener.node_id, self)
        dialler.on_dialled(listener.node_id, None)

    def _close_behind(self, end: "SimulatedTransport", other: "SimulatedTransport") -> None:
        """Let the end of the stream arrive, unless the link is cut: then idleness ends it."""
        if self._over[other.name]:
            return
        if not self._network.is_cut(end.name, other.name):
            self._finish(other, Reason.CLOSED)
            return
        loop = asyncio.get_running_loop()
        loop.call_later(other.limits.idle_timeout_ms / 1000, self._finish_late, other)

    def _finish_late(self, end: "SimulatedTransport") -> None:
        if not self._over[end.name]:
            self._finish(end, Reason.IDLE)

    def _finish(self, end: "SimulatedTransport", reason: Reason) -> None:
        self._over[end.name] = True
        if all(self._over.values()):
            self._network.forget(self)
        if self._open[end.name]:
            end.on_closed(self._other(end).node_id, reason)
        elif end is self.ends[0]:
            end.on_dialled(self._other(end).node_id, reason)

    def _other(self, end: "SimulatedTransport") -> "SimulatedTransport":
        return self.ends[1] if end is self.ends[0] else self.ends[0]


class SimulatedTransport:
    """A `node.ports.Transport` on a `SimulatedNetwork`.

    Parameters
    ----------
    network : SimulatedNetwork
        What it is attached to while it runs.
    node_id : Address
        Id of this node.
    directory : PeerDirectory
        Who may connect; entries with host and port are dialled, whatever these say.
    kinds : mapping of int to KindPolicy
        As for the real transport; rates are not simulated.
    clock, random : Clock and Random
        For the book of peers. The clock has to follow the loop's time.
    limits : P2PLimits, optional
        As for the real transport.
    name : str, optional
        What the network calls it; the first half of the node id unless given.
    host : str, optional
        Where it listens; dialling reaches it anywhere unless given.
    """

    def __init__(
        self,
        network: SimulatedNetwork,
        *,
        node_id: Address,
        directory: PeerDirectory,
        kinds: KindTable,
        clock: Clock,
        random: Random,
        limits: P2PLimits | None = None,
        name: str | None = None,
        host: str | None = None,
    ) -> None:
        self.node_id = node_id
        self.name = name or node_id.hex()[:32]
        self.host = host
        self.limits = limits or P2PLimits()
        self._network = network
        self._kinds = kinds
        self._book = PeerBook(clock=clock, random=random, limits=self.limits)
        self._counters = Counters()
        self._receiver: Receiver | None = None
        self._failure: asyncio.Future[None] | None = None
        self._sessions: dict[Address, _Session] = {}
        self._departed: set[Address] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.update_directory(directory)

    # --- the port ---------------------------------------------------------------------------------

    async def run(self, receiver: Receiver) -> None:
        assert self._receiver is None, "a transport runs once"
        self._receiver = receiver
        self._failure = asyncio.get_running_loop().create_future()
        self._network.start(self)
        self._schedule()
        try:
            async with asyncio.TaskGroup():
                await self._failure
        finally:
            self._receiver = None
            self._failure = None
            if self._timer is not None:
                self._timer.cancel()
            self._network.stop(self)

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        session = self._sessions.get(peer)
        if session is None:
            return False
        if len(payload) > self._kinds[kind].payload_size_max:
            self._counters.dropped_too_large += 1
            return False
        if not session.send(self, kind, payload):
            self._counters.dropped_queue_full += 1
            return False
        self._counters.messages_sent += 1
        self._counters.bytes_sent += len(payload)
        return True

    def connected(self) -> Sequence[Address]:
        return sorted(self._sessions)

    def penalise(self, peer: Address, points: int, reason: str) -> None:
        if self._book.penalise(peer, points) and peer in self._sessions:
            self._sessions[peer].close(self, Reason.BANNED)

    def update_directory(self, directory: PeerDirectory) -> None:
        self._book.update(directory.without(self.node_id))
        for peer, session in list(self._sessions.items()):
            if directory.of_id(peer) is None:
                session.close(self, Reason.UNKNOWN_KEY)
        self._schedule()

    def trouble(self, peer: Address) -> Reason | None:
        return self._book.trouble(peer)

    def stats(self) -> TransportStats:
        return self._counters.snapshot(peers=len(self._sessions), pending=0)

    # --- what the network does --------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether `run` has begun and not ended."""
        return self._failure is not None

    def refusal(self, peer: Address) -> Reason | None:
        """Return why no session with `peer` may stand now; a standing one has to prove itself."""
        if self._book.directory.of_id(peer) is None:
            return Reason.UNKNOWN_KEY
        if self._book.is_banned(peer):
            return Reason.BANNED
        if peer in self._sessions:
            self._sessions[peer].probe(self)
            return Reason.DUPLICATE
        return None

    def on_dialled(self, peer: Address, trouble: Reason | None) -> None:
        """Take note of how dialling ended."""
        if trouble is not None:
            self._counters.refused[trouble] += 1
        self._book.on_dial_ended(peer, None if trouble is Reason.DUPLICATE else trouble)
        self._schedule()

    def on_opened(self, peer: Address, session: _Session) -> None:
        """Take note of a session, and tell the receiver."""
        self._sessions[peer] = session
        self._book.on_connected(peer)
        self._tell_departed(peer)
        if self._receiver is not None:
            self._tell(self._receiver.on_connected, peer)

    def on_closed(self, peer: Address, reason: Reason) -> None:
        """Take note of a session's end; the receiver hears of it in the next turn of the loop."""
        del self._sessions[peer]
        self._counters.ended[reason] += 1
        self._book.on_disconnected(peer)
        self._departed.add(peer)
        asyncio.get_running_loop().call_soon(self._tell_departed, peer)
        self._schedule()

    def on_arrived(self, peer: Address, kind: int, payload: bytes) -> None:
        """Hand a message to the receiver."""
        self._counters.messages_received += 1
        self._counters.bytes_received += len(payload)
        if self._receiver is not None:
            self._tell(self._receiver.on_message, peer, kind, payload)

    # --- inside -----------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Arm the timer for the next peer that is due."""
        if not self.is_running:
            return
        if self._timer is not None:
            self._timer.cancel()
        due_ms = self._book.next_due_ms()
        if due_ms is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(due_ms / 1000, self._dial_due)

    def _dial_due(self) -> None:
        for entry in self._book.take_due():
            self._network.dial(self, entry)
        self._schedule()

    def _tell_departed(self, peer: Address) -> None:
        if peer in self._departed:
            self._departed.discard(peer)
            if self._receiver is not None:
                self._tell(self._receiver.on_disconnected, peer)

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        try:
            what(*arguments)
        except Exception as error:
            self._receiver = None
            if self._failure is not None and not self._failure.done():
                self._failure.set_exception(error)

"""From packets to connections, as Zeek tells them apart.

A connection of TCP begins with its first packet and ends with a reset, with both sides' FIN, or in
silence; one of UDP in silence; a message of ICMP is one of its own, as in NSL-KDD. Sums of bytes
are those of the packets, so that what is sent again counts again.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ml_validator.errors import InvalidDataset
from ml_validator.traffic.captures import Packet, read_packets
from ml_validator.traffic.connections import CONNECTIONS_MAX, Connection, Protocol, Traffic
from ml_validator.traffic.services import FINISHED, service_of_message, service_of_port

SILENCE_US: Final = {"tcp": 300_000_000, "udp": 60_000_000}
"""After so long a packet belongs to another connection."""
OPEN_MAX: Final = 100_000
"""Connections that are followed at once; beyond, the one that was silent for longest is over."""
DATAGRAMS_MAX: Final = 10_000
"""Datagrams in fragments that are followed at once; beyond, the oldest is over."""
RANGES_MAX: Final = 64
"""Fragments of a datagram that are compared; any more are wrong."""
DATAGRAM_SIZE_MAX: Final = 65_535

_FIN, _SYN, _RST, _ACK, _URG = 1, 2, 4, 16, 32


def read_capture(path: Path) -> Traffic:
    """Read a capture's connections.

    Raises
    ------
    MissingDataset, InvalidDataset
        As `read_packets`; or there are no connections in it, or too many.
    """
    skipped: Counter[str] = Counter()
    tracker = Tracker(skipped)
    number = 0
    for number, packet in enumerate(read_packets(path, skipped), 1):
        tracker.add(packet)
        if len(tracker.connections) > CONNECTIONS_MAX:
            raise InvalidDataset(
                str(path), number, "packet", f"more than {CONNECTIONS_MAX} connections"
            )
    connections = tracker.finish()
    if not connections:
        raise InvalidDataset(
            str(path), max(number, 1), "packet", "the file has no packets of TCP, UDP or ICMP"
        )
    return Traffic(connections=connections, skipped=skipped)


def connections_of(packets: Iterable[Packet]) -> list[Connection]:
    """Return the connections of packets in the order of a capture."""
    tracker = Tracker(Counter())
    for packet in packets:
        tracker.add(packet)
    return tracker.finish()


@dataclass(slots=True, kw_only=True)
class _Open:
    """A connection that is going on."""

    protocol: Protocol
    source: str
    source_port: int
    destination: str
    destination_port: int
    start_us: int
    last_us: int
    src_bytes: int = 0
    dst_bytes: int = 0
    wrong_fragment: int = 0
    urgent: int = 0
    # What was seen of TCP.
    syn: bool = False
    syn_ack: bool = False
    source_fin: bool = False
    destination_fin: bool = False
    reset_by_source: bool | None = None

    @property
    def is_over(self) -> bool:
        return self.reset_by_source is not None or (self.source_fin and self.destination_fin)

    def flag(self) -> str:
        """Return NSL-KDD's word for how it began and ended."""
        if self.protocol != "tcp":
            return FINISHED
        if not self.syn:
            return "OTH"
        if self.reset_by_source is not None:
            if self.reset_by_source:
                return "RSTO" if self.syn_ack else "RSTOS0"
            return "RSTR" if self.syn_ack else "REJ"
        if not self.syn_ack:
            return "SH" if self.source_fin else "S0"
        if self.source_fin and self.destination_fin:
            return FINISHED
        if self.source_fin:
            return "S2"
        return "S3" if self.destination_fin else "S1"

    def service(self) -> str:
        if self.protocol == "icmp":
            is_v6 = ":" in self.destination
            return service_of_message(self.source_port, self.destination_port, is_v6=is_v6)
        return service_of_port(self.protocol, self.destination_port)

    def connection(self) -> Connection:
        return Connection(
            start_us=self.start_us,
            duration_us=max(0, self.last_us - self.start_us),
            protocol=self.protocol,
            source=self.source,
            source_port=self.source_port,
            destination=self.destination,
            destination_port=self.destination_port,
            service=self.service(),
            flag=self.flag(),
            src_bytes=self.src_bytes,
            dst_bytes=self.dst_bytes,
            wrong_fragment=self.wrong_fragment,
            urgent=self.urgent,
        )


_Key = tuple[Protocol, str, int, str, int]


class Tracker:
    """Follows connections through the packets of a capture.

    Parameters
    ----------
    skipped : Counter of str
        Where fragments are counted whose beginning was not seen.
    """

    def __init__(self, skipped: Counter[str]) -> None:
        self.connections: list[Connection] = []
        self._skipped = skipped
        # In the order of their last packets.
        self._open: dict[_Key, _Open] = {}
        self._datagrams: dict[tuple[str, str, str, int], tuple[_Open, list[tuple[int, int]]]] = {}

    def add(self, packet: Packet) -> None:
        """Take in the next packet."""
        if packet.offset:
            self._add_fragment(packet)
            return
        assert packet.ports is not None, "a packet from its beginning on has ports"
        found = self._follow(packet, *packet.ports)
        from_source = (packet.source, packet.ports[0]) == (found.source, found.source_port)
        if from_source:
            found.src_bytes += packet.payload
        else:
            found.dst_bytes += packet.payload
        found.last_us = max(found.last_us, packet.time_us)
        if packet.protocol == "tcp":
            _see_flags(found, packet.flags, from_source=from_source)
        if packet.has_more:
            if len(self._datagrams) >= DATAGRAMS_MAX:
                del self._datagrams[next(iter(self._datagrams))]
            self._datagrams[_datagram(packet)] = found, [(0, packet.size)]
        if packet.protocol == "icmp" and not packet.has_more:
            self._end(_key(packet, *packet.ports))

    def finish(self) -> list[Connection]:
        """Return all connections, those that are still open included."""
        self.connections += [found.connection() for found in self._open.values()]
        self._open.clear()
        return self.connections

    def _follow(self, packet: Packet, source_port: int, destination_port: int) -> _Open:
        """Return the connection of a packet, which is the last in order from now on."""
        key = _key(packet, source_port, destination_port)
        found = self._open.get(key)
        if found is not None:
            silence = packet.time_us - found.last_us
            begins = packet.protocol == "icmp" or (
                packet.flags & (_SYN | _ACK) == _SYN and (found.is_over or not found.syn)
            )
            if begins or silence > SILENCE_US[packet.protocol]:
                self._end(key)
                found = None
        if found is None:
            if len(self._open) >= OPEN_MAX:
                self._end(next(iter(self._open)))
            found = _begin(packet, source_port, destination_port)
        else:
            del self._open[key]
        self._open[key] = found
        return found

    def _end(self, key: _Key) -> None:
        self.connections.append(self._open.pop(key).connection())

    def _add_fragment(self, packet: Packet) -> None:
        known = self._datagrams.get(_datagram(packet))
        if known is None:
            self._skipped["fragment without its beginning"] += 1
            return
        found, ranges = known
        start, stop = packet.offset, packet.offset + packet.size
        overlaps = any(
            start < other_stop and other_start < stop for other_start, other_stop in ranges
        )
        if overlaps or stop > DATAGRAM_SIZE_MAX or len(ranges) >= RANGES_MAX:
            found.wrong_fragment += 1
        else:
            ranges.append((start, stop))
        if packet.source == found.source:
            found.src_bytes += packet.payload
        else:
            found.dst_bytes += packet.payload
        found.last_us = max(found.last_us, packet.time_us)


def _begin(packet: Packet, source_port: int, destination_port: int) -> _Open:
    # An answer whose question was not captured: who answers did not begin.
    is_answer = packet.protocol == "tcp" and packet.flags & (_SYN | _ACK) == _SYN | _ACK
    source, destination = (packet.source, source_port), (packet.destination, destination_port)
    if is_answer:
        source, destination = destination, source
    return _Open(
        protocol=packet.protocol,
        source=source[0],
        source_port=source[1],
        destination=destination[0],
        destination_port=destination[1],
        start_us=packet.time_us,
        last_us=packet.time_us,
    )


def _see_flags(found: _Open, flags: int, *, from_source: bool) -> None:
    found.urgent += bool(flags & _URG)
    if found.is_over:
        return
    if flags & _RST:
        found.reset_by_source = from_source
    elif from_source:
        found.syn |= flags & (_SYN | _ACK) == _SYN
        found.source_fin |= bool(flags & _FIN)
    else:
        found.syn_ack |= flags & (_SYN | _ACK) == _SYN | _ACK
        found.destination_fin |= bool(flags & _FIN)


def _key(packet: Packet, source_port: int, destination_port: int) -> _Key:
    """Return what is equal for the packets of both directions."""
    source, destination = (packet.source, source_port), (packet.destination, destination_port)
    if packet.protocol != "icmp" and destination < source:
        source, destination = destination, source
    return packet.protocol, *source, *destination


def _datagram(packet: Packet) -> tuple[str, str, str, int]:
    return packet.protocol, packet.source, packet.destination, packet.datagram

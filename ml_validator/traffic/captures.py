"""Reading captures of packets, pcap and pcapng, as what a tracker of connections needs of them.

dpkt takes the files apart. It trusts the lengths that a file states, so its reads go through a
guard; a file that is cut off is refused. Of a packet only fields at fixed places are read, and one
that is too short for them is counted and passed over.
"""

import ipaddress
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import dpkt

from ml_validator.errors import InvalidDataset, MissingDataset
from ml_validator.traffic.connections import Protocol
from ml_validator.traffic.guard import Damaged, Guard
from ml_validator.traffic.pcapng import Frame, read_pcapng

_PCAP: Final = frozenset(
    bytes.fromhex(magic) for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1")
)
_PCAPNG: Final = bytes.fromhex("0a0d0d0a")

_ETHERNET, _SLL, _SLL2 = 1, 113, 276
_RAW: Final = (12, 14, 101, 228, 229)
_NULL: Final = (0, 108)
_VLAN: Final = (0x8100, 0x88A8)
_IPV4, _IPV6 = 0x0800, 0x86DD
_PROTOCOLS: Final[dict[int, Protocol]] = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}
_HEADER_4_SIZE, _HEADER_6_SIZE = 20, 40
_FRAGMENT: Final = 44
_EXTENSIONS: Final = (0, 43, 60, 135)
_LINK_TYPES: Final = (_ETHERNET, _SLL, _SLL2, *_RAW, *_NULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet of TCP, UDP or ICMP, or a later fragment of one.

    Parameters
    ----------
    datagram : int
        The identification by which fragments of one datagram know each other.
    offset, size : int
        Where in the datagram this part stands, and how long it is, headers of IP left out.
    has_more : bool
        Whether fragments follow.
    ports : tuple of int, or None
        Source and destination; of ICMP type and code; None in a later fragment.
    payload : int
        Bytes behind all headers.
    flags : int
        Of TCP, else 0.
    """

    time_us: int
    protocol: Protocol
    source: str
    destination: str
    datagram: int
    offset: int
    size: int
    has_more: bool
    ports: tuple[int, int] | None
    payload: int
    flags: int


def read_packets(path: Path, skipped: Counter[str]) -> Iterator[Packet]:
    """Yield the packets of a capture; what has no place here is counted in `skipped`.

    Raises
    ------
    MissingDataset
        The file cannot be opened.
    InvalidDataset
        It is no capture, of a link type that is not known, damaged, or cut off; the row is the
        number of the packet, from 1.
    """
    try:
        with path.open("rb") as file:
            yield from _packets(str(path), file, skipped)
    except OSError as error:
        raise MissingDataset(str(path), error.strerror or str(error)) from error


def _packets(name: str, file: BinaryIO, skipped: Counter[str]) -> Iterator[Packet]:
    magic = file.read(4)
    if magic not in _PCAP and magic != _PCAPNG:
        raise InvalidDataset(name, 1, "packet", "the file is no pcap or pcapng")
    file.seek(0)
    number = 1
    try:
        guarded = Guard(file)
        for time_us, link, data in (_read_pcap if magic in _PCAP else read_pcapng)(guarded):
            if link not in _LINK_TYPES:
                raise Damaged(f"the link type {link} is not known")
            if time_us is None:
                skipped["without a time"] += 1
            elif (packet := _decode(time_us, link, data, skipped)) is not None:
                yield packet
            number += 1
        guarded.check_end()
    except Damaged as error:
        raise InvalidDataset(name, number, "packet", str(error)) from error
    except (dpkt.Error, ArithmeticError, LookupError, ValueError, struct.error) as error:
        raise InvalidDataset(name, number, "packet", "the file is damaged here") from error


def _read_pcap(file: Guard) -> Iterator[Frame]:
    reader: Any = dpkt.pcap.Reader(file)
    link = reader.datalink()
    for time_s, data in reader:
        yield Frame(round(time_s * 1_000_000), link, bytes(data))


def _decode(time_us: int, link: int, data: bytes, skipped: Counter[str]) -> Packet | None:
    body = _network_layer(link, data)
    if body is None:
        skipped["no IP"] += 1
        return None
    try:
        packet = _of_ip(time_us, body)
    except (ValueError, IndexError, struct.error):
        skipped["malformed"] += 1
        return None
    if packet is None:
        skipped["neither TCP, UDP nor ICMP"] += 1
    return packet


def _network_layer(link: int, data: bytes) -> bytes | None:
    """Return the bytes from the header of IP on, or None where there is another."""
    if link == _ETHERNET:
        start, kind = 14, int.from_bytes(data[12:14], "big")
        while kind in _VLAN:
            kind = int.from_bytes(data[start + 2 : start + 4], "big")
            start += 4
        return data[start:] if kind in (_IPV4, _IPV6) else None
    if link == _SLL:
        return data[16:] if int.from_bytes(data[14:16], "big") in (_IPV4, _IPV6) else None
    if link == _SLL2:
        return data[20:] if int.from_bytes(data[:2], "big") in (_IPV4, _IPV6) else None
    body = data[4:] if link in _NULL else data
    return body if body and body[0] >> 4 in (4, 6) else None


def _of_ip(time_us: int, data: bytes) -> Packet | None:
    header = _header_4(data) if data[0] >> 4 == 4 else _header_6(data)
    protocol = _PROTOCOLS.get(header.number)
    if protocol is None:
        return None
    ports: tuple[int, int] | None = None
    head = flags = 0
    if not header.offset:
        if protocol == "icmp":
            kind, code = struct.unpack_from("BB", data, header.start)
            ports, head = (kind, code), 8
        else:
            source, destination = struct.unpack_from(">HH", data, header.start)
            ports, head = (source, destination), 8
        if protocol == "tcp":
            words, flags = struct.unpack_from("BB", data, header.start + 12)
            head = (words >> 4) * 4
    size = header.end - header.start
    return Packet(
        time_us=time_us,
        protocol=protocol,
        source=str(ipaddress.ip_address(header.source)),
        destination=str(ipaddress.ip_address(header.destination)),
        datagram=header.datagram,
        offset=header.offset,
        size=size,
        has_more=header.has_more,
        ports=ports,
        payload=max(0, size - head),
        flags=flags,
    )


class _Header(NamedTuple):
    """What both versions of IP say of a packet; `start` and `end` are of what it carries."""

    source: bytes
    destination: bytes
    number: int
    datagram: int
    offset: int
    has_more: bool
    start: int
    end: int


def _header_4(data: bytes) -> _Header:
    first, length, datagram, fragment, number = struct.unpack_from(">BxHHHxB", data)
    start = (first & 15) * 4
    if start < _HEADER_4_SIZE:
        raise ValueError("the header is shorter than it can be")
    return _Header(
        source=struct.unpack_from("4s", data, 12)[0],
        destination=struct.unpack_from("4s", data, 16)[0],
        number=number,
        datagram=datagram,
        offset=(fragment & 0x1FFF) * 8,
        has_more=bool(fragment & 0x2000),
        start=start,
        # A card that cuts packets itself leaves the length at 0.
        end=max(start, length or len(data)),
    )


def _header_6(data: bytes) -> _Header:
    if data[0] >> 4 != 6:
        raise ValueError("neither version of IP")
    length, number = struct.unpack_from(">HB", data, 4)
    source, destination = struct.unpack_from("16s16s", data, 8)
    start = _HEADER_6_SIZE
    end = start + length if length else len(data)
    datagram = offset = 0
    has_more = False
    while number in _EXTENSIONS or number == _FRAGMENT:
        following, size = struct.unpack_from("BB", data, start)
        if number == _FRAGMENT:
            place, datagram = struct.unpack_from(">HI", data, start + 2)
            offset, has_more, size = place & 0xFFF8, bool(place & 1), 0
        number = following
        start += 8 + 8 * size
        if offset:
            break
    return _Header(
        source=source,
        destination=destination,
        number=number,
        datagram=datagram,
        offset=offset,
        has_more=has_more,
        start=start,
        end=max(start, end),
    )

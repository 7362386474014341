"""Packets and captures that are written down by dpkt, for the reader to take apart."""

import io
import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dpkt

CLIENT, SERVER = "192.0.2.1", "198.51.100.7"
FIN, SYN, RST, PUSH, ACK, URG = 1, 2, 4, 8, 16, 32
START_S = 1_700_000_000


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def ip4(source: str, destination: str, upper: object, number: int, **fields: int) -> bytes:
    fields.setdefault("len", 20 + len(bytes(upper)))  # type: ignore[call-overload]
    packet = dpkt.ip.IP(
        src=packed(source), dst=packed(destination), p=number, sum=1, data=upper, **fields
    )
    return bytes(packet)


def tcp(
    flags: int,
    payload: int = 0,
    *,
    back: bool = False,
    port: int = 80,
    client: str = CLIENT,
    client_port: int = 40_000,
    server: str = SERVER,
) -> bytes:
    """Return a packet from the client to the server, or back."""
    ports = (port, client_port) if back else (client_port, port)
    upper = dpkt.tcp.TCP(sport=ports[0], dport=ports[1], flags=flags, data=b"x" * payload)
    return ip4(*((server, client) if back else (client, server)), upper, 6)


def udp(payload: int, *, back: bool = False, port: int = 53, client_port: int = 50_000) -> bytes:
    ports = (port, client_port) if back else (client_port, port)
    upper = dpkt.udp.UDP(sport=ports[0], dport=ports[1], ulen=8 + payload, data=b"x" * payload)
    return ip4(*((SERVER, CLIENT) if back else (CLIENT, SERVER)), upper, 17)


def icmp(kind: int, code: int = 0, payload: int = 56) -> bytes:
    upper = dpkt.icmp.ICMP(type=kind, code=code, data=b"x" * (4 + payload))
    return ip4(CLIENT, SERVER, upper, 1)


def fragments(*parts: tuple[int, int], number: int = 1, datagram: int = 7) -> list[bytes]:
    """Return the fragments of one datagram at these offsets and of these sizes, the last last."""
    made = []
    for at, (offset, size) in enumerate(parts):
        body = b"\x08" + b"\0" * (size - 1)
        more = 0x2000 if at < len(parts) - 1 else 0
        fields = {"id": datagram, "_flags_offset": more | offset // 8}
        made.append(ip4(CLIENT, SERVER, body, number, **fields))
    return made


def ethernet(packet: bytes, *, vlan: bool = False) -> bytes:
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    tag = b"\x81\x00\x00\x05" if vlan else b""
    return b"\0" * 12 + tag + kind + packet


def capture(*frames: bytes, step_s: float = 0.25, ng: bool = False, link: int = 1) -> bytes:
    """Return a capture whose packets come every `step_s`."""
    file = io.BytesIO()
    if ng:
        block = dpkt.pcapng.InterfaceDescriptionBlockLE(snaplen=65535, linktype=link)
        writer = dpkt.pcapng.Writer(file, idb=block)
    else:
        writer = dpkt.pcap.Writer(file, linktype=link)
    for number, frame in enumerate(frames):
        writer.writepkt(frame, ts=START_S + number * step_s)
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Interface:
    """An interface of a pcapng file; `option` is how its resolution is written there."""

    link: int
    ticks_per_s: int
    option: int
    offset_s: int = 0


def section(
    order: str, interfaces: Sequence[Interface], frames: Iterable[tuple[int, bytes, float]]
) -> bytes:
    """Return a section of a pcapng file: of each frame its interface, bytes and time."""
    sign = "<" if order == "little" else ">"
    made = block(order, 0x0A0D0D0A, struct.pack(f"{sign}IHHq", 0x1A2B3C4D, 1, 0, -1))
    for interface in interfaces:
        options = struct.pack(f"{sign}HHB3xHHqHH", 9, 1, interface.option, 14, 8,
                              interface.offset_s, 0, 0)  # fmt: skip
        made += block(order, 1, struct.pack(f"{sign}HHI", interface.link, 0, 65535) + options)
    for place, data, time_s in frames:
        at = interfaces[min(place, len(interfaces) - 1)]
        ticks = round((time_s - at.offset_s) * at.ticks_per_s)
        head = (place, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        made += block(order, 6, struct.pack(f"{sign}5I", *head) + data)
    return made


def block(order: str, kind: int, body: bytes) -> bytes:
    """Return a block of a pcapng file."""
    sign = "<" if order == "little" else ">"
    body += b"\0" * (-len(body) % 4)
    size = struct.pack(f"{sign}I", len(body) + 12)
    return struct.pack(f"{sign}I", kind) + size + body + size


HANDSHAKE = (tcp(SYN), tcp(SYN | ACK, back=True), tcp(ACK))
REQUEST = (tcp(PUSH | ACK, 100), tcp(PUSH | ACK, 1000, back=True))
CLOSING = (tcp(FIN | ACK), tcp(FIN | ACK, back=True), tcp(ACK))
PAGE = (*HANDSHAKE, *REQUEST, *CLOSING)
"""A page fetched: 100 bytes there, 1000 back."""

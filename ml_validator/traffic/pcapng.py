"""Packets of a pcapng file, each by the interface on which it came in.

dpkt knows the blocks; its own reader takes all packets for those of the first interface, so the
blocks are walked through here. An interface has its own link type, and a clock of its own: so many
ticks a second, from an offset on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from dpkt import pcapng

from ml_validator.traffic.guard import Damaged, Guard

INTERFACES_MAX: Final = 1_024
"""Of one section; a file that describes more is refused."""

_HEAD_SIZE: Final = 8
_SECTION_HEAD_SIZE: Final = 12
_VERSION: Final = 1
_US_PER_S: Final = 1_000_000
_SECTION: Final = pcapng.PCAPNG_BT_SHB.to_bytes(4, "big")
_MARKS: Final[dict[bytes, Literal["little", "big"]]] = {
    bytes.fromhex("4d3c2b1a"): "little",
    bytes.fromhex("1a2b3c4d"): "big",
}
_SECTIONS: Final[Any] = {
    "little": pcapng.SectionHeaderBlockLE,
    "big": pcapng.SectionHeaderBlock,
}
_INTERFACES: Final[Any] = {
    "little": pcapng.InterfaceDescriptionBlockLE,
    "big": pcapng.InterfaceDescriptionBlock,
}
_PACKETS: Final[Any] = {
    ("little", pcapng.PCAPNG_BT_EPB): pcapng.EnhancedPacketBlockLE,
    ("little", pcapng.PCAPNG_BT_PB): pcapng.PacketBlockLE,
    ("big", pcapng.PCAPNG_BT_EPB): pcapng.EnhancedPacketBlock,
    ("big", pcapng.PCAPNG_BT_PB): pcapng.PacketBlock,
}


class Frame(NamedTuple):
    """A packet as it was captured; `time_us` is None where the file does not tell it."""

    time_us: int | None
    link: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Interface:
    link: int
    ticks_per_s: int
    offset_s: int

    def time_us(self, ticks: int) -> int:
        return self.offset_s * _US_PER_S + ticks * _US_PER_S // self.ticks_per_s


def read_pcapng(file: Guard) -> Iterator[Frame]:
    """Yield the packets of a file.

    Raises
    ------
    Damaged, dpkt.Error, LookupError, ValueError, struct.error
        It is no pcapng, damaged or cut off.
    """
    order: Literal["little", "big"] = "little"
    interfaces: list[_Interface] = []
    while head := file.read(_HEAD_SIZE):
        if head[:4] == _SECTION:
            # What follows has an order of bytes of its own, and interfaces counted anew.
            head += file.body(_SECTION_HEAD_SIZE - _HEAD_SIZE)
            order, interfaces = _MARKS[head[_HEAD_SIZE:]], []
        kind, size = (int.from_bytes(head[at : at + 4], order) for at in (0, 4))
        block = head + file.body(size - len(head))
        if head[:4] == _SECTION:
            if _SECTIONS[order](block).v_major != _VERSION:
                raise Damaged("pcapng of another version")
        elif kind == pcapng.PCAPNG_BT_IDB:
            if len(interfaces) == INTERFACES_MAX:
                raise Damaged(f"more than {INTERFACES_MAX} interfaces")
            interfaces.append(_interface(_INTERFACES[order](block), order))
        elif kind == pcapng.PCAPNG_BT_SPB:
            # The first interface's; its size is not looked at, for without a time it is no use.
            yield Frame(None, _at(interfaces, 0).link, b"")
        elif (order, kind) in _PACKETS:
            packet = _PACKETS[order, kind](block)
            interface = _at(interfaces, packet.iface_id)
            if len(packet.pkt_data) < packet.caplen:
                raise Damaged("a packet longer than its block")
            ticks = packet.ts_high << 32 | packet.ts_low
            yield Frame(interface.time_us(ticks), interface.link, packet.pkt_data)


def _interface(block: Any, order: Literal["little", "big"]) -> _Interface:
    ticks_per_s, offset_s = _US_PER_S, 0
    for option in block.opts:
        if option.code == pcapng.PCAPNG_OPT_IF_TSRESOL:
            # The highest bit says of what the others are a power.
            power = option.data[0] & 0x7F
            ticks_per_s = (2 if option.data[0] & 0x80 else 10) ** power
        elif option.code == pcapng.PCAPNG_OPT_IF_TSOFFSET:
            offset_s = int.from_bytes(option.data, order, signed=True)
    return _Interface(link=block.linktype, ticks_per_s=ticks_per_s, offset_s=offset_s)


def _at(interfaces: Sequence[_Interface], number: int) -> _Interface:
    if number >= len(interfaces):
        raise Damaged(f"a packet of interface {number}, which the file does not describe")
    return interfaces[number]

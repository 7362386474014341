"""Captures: connections by their packets, and files that are damaged."""

import struct
from collections import Counter
from dataclasses import replace

import dpkt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_validator.errors import InvalidDataset, MissingDataset
from ml_validator.traffic import tracker
from ml_validator.traffic.connections import Connection
from ml_validator.traffic.tracker import read_capture
from tests.unit.ml_validator.traffic.packets import (
    ACK,
    CLIENT,
    CLOSING,
    FIN,
    HANDSHAKE,
    PAGE,
    REQUEST,
    RST,
    SERVER,
    START_S,
    SYN,
    URG,
    Interface,
    block,
    capture,
    ethernet,
    fragments,
    icmp,
    packed,
    section,
    tcp,
    udp,
)


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a capture of these packets."""

    def call(*packets: bytes, **options) -> list[Connection]:
        path = tmp_path / "some.pcap"
        path.write_bytes(capture(*map(ethernet, packets), **options))
        return list(read_capture(path).connections)

    return call


def test_a_connection_has_its_ends_its_times_and_its_bytes(read):
    (page,) = read(*PAGE)
    assert page == Connection(
        start_us=START_S * 1_000_000,
        duration_us=1_750_000,
        protocol="tcp",
        source=CLIENT,
        source_port=40_000,
        destination=SERVER,
        destination_port=80,
        service="http",
        flag="SF",
        src_bytes=100,
        dst_bytes=1000,
    )


@pytest.mark.parametrize(
    ("packets", "flag"),
    [
        ((tcp(SYN),), "S0"),
        ((tcp(SYN), tcp(SYN)), "S0"),
        (HANDSHAKE, "S1"),
        ((*HANDSHAKE, *CLOSING[:1]), "S2"),
        ((*HANDSHAKE, *CLOSING[1:2]), "S3"),
        (PAGE, "SF"),
        ((*PAGE, tcp(RST)), "SF"),
        ((tcp(SYN), tcp(RST | ACK, back=True)), "REJ"),
        ((*HANDSHAKE, tcp(RST)), "RSTO"),
        ((*HANDSHAKE, tcp(RST, back=True), tcp(RST)), "RSTR"),
        ((tcp(SYN), tcp(RST)), "RSTOS0"),
        ((tcp(SYN), tcp(FIN)), "SH"),
        (REQUEST, "OTH"),
    ],
)
def test_how_a_connection_went_is_its_flag(read, packets, flag):
    (found,) = read(*packets)
    assert found.flag == flag


def test_who_answers_did_not_begin(read):
    (found,) = read(*HANDSHAKE[1:], *REQUEST)
    assert (found.source, found.destination_port, found.flag) == (CLIENT, 80, "OTH")
    assert (found.src_bytes, found.dst_bytes) == (100, 1000)


def test_a_new_syn_after_the_end_begins_another_connection(read):
    assert [found.flag for found in read(*PAGE, tcp(SYN))] == ["SF", "S0"]
    assert [found.flag for found in read(tcp(ACK), tcp(SYN))] == ["OTH", "S0"]


def test_silence_parts_connections(read):
    assert len(read(udp(10), udp(20, back=True), step_s=59)) == 1
    assert len(read(udp(10), udp(20), step_s=61)) == 2
    assert len(read(*HANDSHAKE, tcp(ACK, 5), step_s=299)) == 1
    assert len(read(tcp(SYN), tcp(ACK, 5), step_s=301)) == 2


def test_udp_sums_both_directions_under_the_flag_that_all_of_it_has(read):
    (found,) = read(udp(30), udp(120, back=True), udp(1))
    assert (found.src_bytes, found.dst_bytes) == (31, 120)
    assert (found.service, found.flag) == ("domain_u", "SF")


@pytest.mark.parametrize(
    ("kind", "code", "service"),
    [
        (8, 0, "eco_i"),
        (0, 0, "ecr_i"),
        (3, 3, "urp_i"),
        (3, 1, "urh_i"),
        (11, 0, "tim_i"),
        (13, 0, "other"),
    ],
)
def test_a_message_of_icmp_is_a_connection_of_its_own(read, kind, code, service):
    found = read(icmp(kind, code), icmp(kind, code))
    assert [(c.service, c.src_bytes, c.duration_us) for c in found] == [(service, 56, 0)] * 2


def test_a_packet_to_where_it_comes_from_is_land(read):
    (found,) = read(tcp(SYN, server=CLIENT, client_port=80))
    assert found.is_land
    assert not read(tcp(SYN))[0].is_land


def test_urgent_packets_are_counted(read):
    (found,) = read(*HANDSHAKE, tcp(ACK | URG, 3), tcp(ACK | URG, 3, back=True))
    assert found.urgent == 2


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        (((0, 1480), (1480, 1480), (2960, 100)), 0),
        # As teardrop sends them: the second lies within the first.
        (((0, 40), (24, 4)), 1),
        # As the ping of death: beyond what a datagram may hold.
        (((0, 1480), (65_528, 1480)), 1),
    ],
)
def test_fragments_that_cannot_be_right_are_counted(read, parts, wrong):
    (found,) = read(*fragments(*parts))
    assert found.wrong_fragment == wrong
    assert found.src_bytes == sum(size for _, size in parts) - 8


def test_a_fragment_without_its_beginning_is_passed_over(tmp_path):
    path = tmp_path / "some.pcap"
    (_, late) = fragments((0, 80), (80, 80))
    path.write_bytes(capture(*map(ethernet, (late, udp(1)))))
    traffic = read_capture(path)
    assert len(traffic.connections) == 1
    assert traffic.skipped == {"fragment without its beginning": 1}


def test_pcapng_vlans_and_other_links_give_the_same(tmp_path, read):
    expected = read(*PAGE)
    assert read(*PAGE, ng=True) == expected
    sll = b"\0" * 14 + b"\x08\0"
    sll2 = b"\x08\0" + b"\0" * 18
    for link, frames in {
        1: [ethernet(packet, vlan=True) for packet in PAGE],
        0: [b"\x02\0\0\0" + packet for packet in PAGE],
        101: list(PAGE),
        113: [sll + packet for packet in PAGE],
        276: [sll2 + packet for packet in PAGE],
    }.items():
        path = tmp_path / "other.pcap"
        path.write_bytes(capture(*frames, link=link))
        assert list(read_capture(path).connections) == expected


@pytest.mark.parametrize("order", ["little", "big"])
def test_each_interface_of_a_pcapng_has_its_own_link_type_and_clock(tmp_path, read, order):
    """As one captures on two cards at once: one ticks in nanoseconds, the other in 1/1024 s."""
    expected = read(*PAGE)
    there = Interface(link=1, ticks_per_s=10**9, option=9)
    back = Interface(link=101, ticks_per_s=2**10, option=0x80 | 10, offset_s=START_S)
    frames = [
        (place, ethernet(packet) if place == 0 else packet, START_S + number / 4)
        for number, packet in enumerate(PAGE)
        for place in [number % 2]
    ]
    path = tmp_path / "two.pcapng"
    path.write_bytes(section(order, [there, back], frames))
    assert list(read_capture(path).connections) == expected

    # A second section counts its interfaces anew, in its own order of bytes.
    other = "big" if order == "little" else "little"
    path.write_bytes(
        section(order, [there, back], frames[:3])
        + section(
            other,
            [back, there],
            [(1 - place, frame, time_s) for place, frame, time_s in frames[3:]],
        )
    )
    assert list(read_capture(path).connections) == expected


def test_what_a_pcapng_does_not_say_is_counted_or_refused(tmp_path):
    path = tmp_path / "some.pcapng"
    card = Interface(link=1, ticks_per_s=10**6, option=6)
    frame = ethernet(udp(1))
    simple = block("little", 3, struct.pack("<I", len(frame)) + frame)
    whole = section("little", [card], [(0, frame, START_S)])

    path.write_bytes(whole + simple)
    assert read_capture(path).skipped == {"without a time": 1}

    for data, reason in {
        section("little", [card], [(1, frame, START_S)]): "interface 1, which the file does not",
        section("little", [card] * 1_025, []): "more than 1024 interfaces",
        whole + section("little", [replace(card, link=147)], [(0, frame, START_S)]): "row 2.*147",
        whole[:8] + b"\0" * 4 + whole[12:]: "row 1.*damaged",
    }.items():
        path.write_bytes(data)
        with pytest.raises(InvalidDataset, match=reason):
            read_capture(path)


def test_ip_6_is_read_with_its_extensions(read):
    upper = bytes(dpkt.udp.UDP(sport=5, dport=123, ulen=18, data=b"x" * 10))
    hop_by_hop = bytes([17, 0, 1, 4, 0, 0, 0, 0])
    head = b"\x60\0\0\0" + (len(upper) + 8).to_bytes(2, "big") + bytes([0, 64])
    (found,) = read(head + packed("2001:db8::1") + packed("2001:db8::2") + hop_by_hop + upper)
    assert (found.source, found.service, found.src_bytes) == ("2001:db8::1", "ntp_u", 10)


def test_what_is_no_connection_is_counted(tmp_path):
    path = tmp_path / "some.pcap"
    arp = b"\0" * 12 + b"\x08\x06" + b"\0" * 28
    sctp = bytearray(udp(1))
    sctp[9] = 132
    frames = (arp, ethernet(bytes(sctp)), ethernet(tcp(SYN)[:22]), b"", ethernet(tcp(SYN)))
    path.write_bytes(capture(*frames))
    traffic = read_capture(path)
    assert len(traffic.connections) == 1
    assert traffic.skipped == {"no IP": 2, "neither TCP, UDP nor ICMP": 1, "malformed": 1}


@pytest.mark.parametrize("ng", [False, True])
def test_a_capture_that_is_cut_off_is_refused_at_every_place(tmp_path, ng):
    path = tmp_path / "some.pcap"
    whole = capture(*map(ethernet, PAGE), ng=ng)
    ends = {len(capture(*map(ethernet, PAGE[:n]), ng=ng)) for n in range(1, len(PAGE) + 1)}
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        if size in ends:
            read_capture(path)
        else:
            with pytest.raises(InvalidDataset) as caught:
                read_capture(path)
            assert "\n" not in str(caught.value)


def test_the_packet_at_which_a_capture_is_cut_off_is_named(tmp_path):
    path = tmp_path / "some.pcap"
    path.write_bytes(capture(*map(ethernet, PAGE))[:-1])
    with pytest.raises(InvalidDataset, match=r"some.pcap, row 8, packet: the file is cut off"):
        read_capture(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no pcap or pcapng"),
        (b"a,b,c\n1,2,3\n" * 9, "no pcap or pcapng"),
        (capture(), "no packets"),
        (capture(ethernet(PAGE[0]), link=147), "link type 147 is not known"),
        (capture()[:-1], "cut off"),
        (capture() + b"\xff" * 16, "a block of"),
    ],
)
def test_what_is_no_capture_is_refused(tmp_path, data, reason):
    path = tmp_path / "some.pcap"
    with pytest.raises(MissingDataset):
        read_capture(path)
    path.write_bytes(data)
    with pytest.raises(InvalidDataset, match=reason):
        read_capture(path)


def test_bounds_hold(read, monkeypatch):
    monkeypatch.setattr(tracker, "OPEN_MAX", 2)
    monkeypatch.setattr(tracker, "DATAGRAMS_MAX", 1)
    found = read(*(udp(1, client_port=port) for port in range(1, 6)), udp(9, client_port=5))
    assert Counter(connection.source_port for connection in found) == dict.fromkeys(range(1, 6), 1)
    first = fragments((0, 80), (80, 80), datagram=1)
    second = fragments((0, 80), (80, 80), datagram=2)
    assert len(read(first[0], second[0], first[1])) == 2
    monkeypatch.setattr(tracker, "CONNECTIONS_MAX", 3)
    with pytest.raises(InvalidDataset, match="more than 3 connections"):
        read(*(icmp(8) for _ in range(6)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 63), st.integers(0, 9), st.booleans(), st.integers(1, 3)),
        max_size=30,
    )
)
def test_no_byte_is_lost_or_counted_twice(read, sent):
    packets = [
        tcp(flags, payload, back=back, client_port=port) for flags, payload, back, port in sent
    ]
    found = read(*packets, udp(0))
    total = sum(connection.src_bytes + connection.dst_bytes for connection in found)
    assert total == sum(payload for _, payload, _, _ in sent)
    assert sum(connection.urgent for connection in found) == sum(
        bool(flags & URG) for flags, _, _, _ in sent
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=5))
def test_any_packets_are_read_or_passed_over(tmp_path, frames):
    path = tmp_path / "some.pcap"
    path.write_bytes(capture(ethernet(udp(1)), *frames))
    assert read_capture(path).connections

"""Frames: what goes in comes out, however the stream is cut, and nothing above a limit is kept."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.p2p.errors import FrameError, MalformedFrame, PayloadTooLarge, UnknownKind
from node.p2p.framing import FRAGMENT_SIZE, HEADER, MORE_FLAG, FrameDecoder, FrameEncoder

URGENT = 4
BULK = 20
LIMITS = {URGENT: 1000, BULK: 5 * FRAGMENT_SIZE}


def encode(*messages: tuple[int, bytes]) -> bytes:
    encoder = FrameEncoder(urgent_size_max=2**24, bulk_size_max=2**24)
    for kind, payload in messages:
        assert encoder.put(kind, payload)
    return encoder.take(2**30)


def decode(stream: bytes, *cuts: int) -> list[tuple[int, bytes]]:
    decoder = FrameDecoder(LIMITS)
    borders = [0, *sorted(cuts), len(stream)]
    return [
        message for start, stop in pairwise(borders) for message in decoder.feed(stream[start:stop])
    ]


def held_by(decoder: FrameDecoder) -> int:
    return sum(map(len, decoder._chunks)) + sum(map(len, decoder._fragments))


def test_a_small_message_is_one_frame_of_length_kind_payload():
    assert encode((URGENT, b"vote")) == b"\x00\x00\x00\x04\x04vote"


def test_a_bulk_message_is_cut_into_fragments_of_64_kib():
    payload = bytes(range(256)) * 512 + b"!"

    stream = encode((BULK, payload))

    first = HEADER.pack(FRAGMENT_SIZE | MORE_FLAG, BULK) + payload[:FRAGMENT_SIZE]
    second = HEADER.pack(FRAGMENT_SIZE | MORE_FLAG, BULK) + payload[FRAGMENT_SIZE:-1]
    assert stream == first + second + HEADER.pack(1, BULK) + b"!"


messages = st.one_of(
    st.tuples(st.just(URGENT), st.binary(max_size=1000)),
    st.tuples(
        st.just(BULK),
        st.tuples(st.integers(0, 5 * FRAGMENT_SIZE), st.binary(min_size=1, max_size=3)).map(
            lambda drawn: (drawn[1] * drawn[0])[: drawn[0]]
        ),
    ),
)


@given(st.lists(messages, max_size=6), st.data())
def test_any_split_of_the_stream_gives_the_same_messages_in_order_by_lane(sent, data):
    stream = encode(*sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))

    received = decode(stream, *cuts)

    urgent = [message for message in sent if message[0] == URGENT]
    bulk = [message for message in sent if message[0] == BULK]
    assert received == urgent + bulk


def test_a_stream_cut_into_single_bytes_gives_the_same_messages():
    stream = encode((URGENT, b""), (URGENT, b"abc"), (BULK, bytes(1000)))

    assert decode(stream, *range(len(stream))) == [
        (URGENT, b""),
        (URGENT, b"abc"),
        (BULK, bytes(1000)),
    ]


@pytest.mark.parametrize("size", [0, 1, FRAGMENT_SIZE, FRAGMENT_SIZE + 1, 5 * FRAGMENT_SIZE])
def test_a_bulk_payload_up_to_its_limit_arrives_whole(size):
    assert decode(encode((BULK, b"x" * size))) == [(BULK, b"x" * size)]


def test_an_urgent_message_overtakes_the_rest_of_a_bulk_message():
    encoder = FrameEncoder(urgent_size_max=1000, bulk_size_max=2**20)
    encoder.put(BULK, b"b" * (3 * FRAGMENT_SIZE))
    stream = encoder.take(1)
    encoder.put(URGENT, b"vote")

    stream += encoder.take(2**30)

    assert decode(stream) == [(URGENT, b"vote"), (BULK, b"b" * (3 * FRAGMENT_SIZE))]


def test_take_ends_with_the_frame_that_reaches_the_size():
    encoder = FrameEncoder(urgent_size_max=1000, bulk_size_max=2**20)
    for _ in range(3):
        encoder.put(URGENT, bytes(95))

    assert [len(encoder.take(150)) for _ in range(3)] == [200, 100, 0]


@pytest.mark.parametrize("kind", [URGENT, BULK])
def test_a_full_lane_refuses_while_the_other_takes_on(kind):
    other = BULK if kind == URGENT else URGENT
    encoder = FrameEncoder(urgent_size_max=100, bulk_size_max=100)

    assert encoder.put(kind, bytes(95))
    assert not encoder.put(kind, b"")
    assert encoder.put(other, bytes(95))


@pytest.mark.parametrize("kind", [URGENT, BULK])
def test_what_was_taken_makes_room_again(kind):
    encoder = FrameEncoder(urgent_size_max=100, bulk_size_max=100)
    for _ in range(50):
        assert encoder.put(kind, bytes(95))
        encoder.take(2**20)

    assert encoder.put(kind, bytes(95))


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ((1001, URGENT), PayloadTooLarge),
        ((MORE_FLAG - 1, URGENT), PayloadTooLarge),
        ((0, 99), UnknownKind),
        ((1 | MORE_FLAG, URGENT), MalformedFrame),
        ((FRAGMENT_SIZE + 1, BULK), MalformedFrame),
        ((100 | MORE_FLAG, BULK), MalformedFrame),
        ((0 | MORE_FLAG, BULK), MalformedFrame),
    ],
)
def test_a_header_is_judged_before_anything_behind_it_is_kept(header, error):
    decoder = FrameDecoder(LIMITS)

    with pytest.raises(error):
        list(decoder.feed(HEADER.pack(*header)))


def test_a_bulk_message_is_refused_at_the_fragment_that_passes_its_limit():
    decoder = FrameDecoder({BULK: 2 * FRAGMENT_SIZE})
    fragment = HEADER.pack(FRAGMENT_SIZE | MORE_FLAG, BULK) + bytes(FRAGMENT_SIZE)
    assert list(decoder.feed(fragment)) == []

    with pytest.raises(PayloadTooLarge):
        list(decoder.feed(fragment[: HEADER.size]))


@pytest.mark.parametrize("follower", [HEADER.pack(0, BULK), HEADER.pack(5, BULK + 1)])
def test_fragments_end_with_a_non_empty_fragment_of_the_same_kind(follower):
    decoder = FrameDecoder({BULK: 2**20, BULK + 1: 2**20})
    list(decoder.feed(HEADER.pack(FRAGMENT_SIZE | MORE_FLAG, BULK) + bytes(FRAGMENT_SIZE)))

    with pytest.raises(MalformedFrame):
        list(decoder.feed(follower))


def test_limits_may_change_between_two_messages_of_one_chunk():
    decoder = FrameDecoder({URGENT: 4})
    received = []

    for message in decoder.feed(encode((URGENT, b"1234"), (BULK, b"after"))):
        received.append(message)
        decoder.limits = {BULK: 5}

    assert received == [(URGENT, b"1234"), (BULK, b"after")]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_bytes_are_messages_within_limits_or_a_frame_error(chunks):
    decoder = FrameDecoder(LIMITS)
    try:
        for chunk in chunks:
            for kind, payload in decoder.feed(chunk):
                assert len(payload) <= LIMITS[kind]
            assert held_by(decoder) <= 5 * FRAGMENT_SIZE + 1000
    except FrameError:
        pass


@pytest.mark.attack("D3")
@given(
    st.lists(
        st.tuples(
            st.sampled_from([URGENT, BULK]),
            st.sampled_from([0, 1, 1000, 1001, FRAGMENT_SIZE, FRAGMENT_SIZE | MORE_FLAG]),
        ),
        max_size=12,
    )
)
def test_what_is_held_stays_below_one_message_of_each_lane(headers):
    decoder = FrameDecoder(LIMITS)
    try:
        for kind, word in headers:
            frame = HEADER.pack(word, kind) + bytes(word & ~MORE_FLAG)
            for start in range(0, len(frame), 10_000):
                list(decoder.feed(frame[start : start + 10_000]))
                assert held_by(decoder) <= LIMITS[URGENT] + LIMITS[BULK] + FRAGMENT_SIZE
    except FrameError:
        pass

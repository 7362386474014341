"""What a damaged log proves: a torn end is cut off, everything else is refused."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import CorruptLog
from node.storage.wal_format import (
    FRAME_HEADER_SIZE,
    HEADER_SIZE,
    LOG_BYTES_MAX,
    MARKER,
    SECTOR_SIZE,
    encode_frame,
    encode_header,
    encode_log,
    recover,
)
from tests.simulation.disk import tear

PATH = Path("log")
SALT = bytes(range(16))
APPENDS = [[b"first", b"second"], [b"third" * 20], [b""], [b"x" * 700, b"last"]]


def make_log(appends: list[list[bytes]], *, salt: bytes = SALT) -> tuple[bytes, list[int]]:
    """Return a log and the offsets at which its appends start."""
    image = encode_header(salt)
    offsets = []
    for records in appends:
        offsets.append(len(image))
        image += encode_frame(records, salt=salt, offset=len(image), path=PATH)
    return image, offsets


def flat(appends: list[list[bytes]]) -> tuple[bytes, ...]:
    return tuple(record for records in appends for record in records)


def flipped(image: bytes, index: int, mask: int) -> bytes:
    return image[:index] + bytes([image[index] ^ mask]) + image[index + 1 :]


def blanked(image: bytes, start: int, stop: int) -> bytes:
    return image[:start] + bytes(stop - start) + image[stop:]


@given(st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=4), max_size=5))
def test_what_was_encoded_is_recovered(appends: list[list[bytes]]):
    image, _ = make_log(appends)

    recovery = recover(image, path=PATH)

    assert recovery.records == flat(appends)
    assert (recovery.end, recovery.torn, recovery.salt) == (len(image), None, SALT)


def test_a_whole_log_is_recovered():
    records = [b"a" * size for size in range(50)]

    image = encode_log(records, salt=SALT, path=PATH)

    assert recover(image, path=PATH).records == tuple(records)


def test_a_log_cut_anywhere_keeps_its_whole_appends():
    image, offsets = make_log(APPENDS)
    ends = [*offsets[1:], len(image)]

    for size in range(HEADER_SIZE, len(image) + 1):
        recovery = recover(image[:size], path=PATH)
        whole = sum(end <= size for end in ends)
        assert recovery.records == flat(APPENDS[:whole])
        assert (recovery.torn is None) == (size in (HEADER_SIZE, *ends))
        assert recovery.end == (ends[whole - 1] if whole else HEADER_SIZE)


@pytest.mark.parametrize("size", range(HEADER_SIZE))
def test_a_log_cut_within_its_header_is_refused(size: int):
    # The file gets its name after its header is durable; an empty one was emptied by somebody.
    image, _ = make_log(APPENDS)

    with pytest.raises(CorruptLog) as refusal:
        recover(image[:size], path=PATH)

    assert refusal.value.offset == 0


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF])
def test_a_changed_byte_before_the_last_append_is_refused_where_it_stands(mask: int):
    image, offsets = make_log(APPENDS)
    starts = [0, *offsets]

    for index in range(offsets[-1]):
        with pytest.raises(CorruptLog) as refusal:
            recover(flipped(image, index, mask), path=PATH)
        assert refusal.value.offset == max(start for start in starts if start <= index)


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF])
def test_a_changed_byte_of_the_last_append_is_refused_too(mask: int):
    # A sector is written whole or not at all: a tear leaves no sector with one wrong byte.
    image, offsets = make_log(APPENDS)

    for index in range(offsets[-1], len(image)):
        with pytest.raises(CorruptLog) as refusal:
            recover(flipped(image, index, mask), path=PATH)
        assert refusal.value.offset == offsets[-1]


@given(
    st.lists(st.lists(st.binary(max_size=400), min_size=1, max_size=2), max_size=2),
    st.lists(
        st.integers(0, 3000).map(lambda size: b"\x5a" * size) | st.binary(max_size=40),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**32),
)
def test_an_append_torn_in_any_way_is_found_whole_or_not_at_all(
    before: list[list[bytes]], records: list[bytes], seed: int
):
    image, _ = make_log(before)
    frame = encode_frame(records, salt=SALT, offset=len(image), path=PATH)

    left = image + tear(frame, offset=len(image), random=Random(seed))

    recovery = recover(left, path=PATH)
    assert recovery.records in (flat(before), flat([*before, records]))
    assert (recovery.records == flat(before)) == (recovery.end == len(image))


def test_a_zero_filled_end_is_a_torn_append():
    image, _ = make_log(APPENDS)

    for size in (1, 31, 32, 33, 511, 512, 5000):
        recovery = recover(image + bytes(size), path=PATH)
        assert recovery.records == flat(APPENDS)
        assert recovery.end == len(image)
        assert recovery.torn is not None


def test_a_lost_sector_of_the_last_append_is_a_torn_append():
    image, offsets = make_log(APPENDS)
    start = offsets[-1]
    boundary = start - start % SECTOR_SIZE + SECTOR_SIZE

    for damaged in (blanked(image, start, boundary), blanked(image, boundary, len(image))):
        recovery = recover(damaged, path=PATH)
        assert recovery.records == flat(APPENDS[:-1])
        assert recovery.torn is not None


def test_a_lost_sector_before_another_append_is_refused():
    image, offsets = make_log([[b"x" * 2000], [b"last"]])

    for start in range(SECTOR_SIZE, offsets[1] - SECTOR_SIZE, SECTOR_SIZE):
        with pytest.raises(CorruptLog):
            recover(blanked(image, start, start + SECTOR_SIZE), path=PATH)


def test_a_lost_append_before_another_is_refused():
    image, offsets = make_log(APPENDS)

    with pytest.raises(CorruptLog) as refusal:
        recover(blanked(image, offsets[1], offsets[2]), path=PATH)

    assert refusal.value.offset == offsets[1]


def test_a_torn_append_before_another_is_refused():
    # Nothing is appended behind a tear: what stands there proves that the first had been whole.
    image, offsets = make_log([[b"x" * 1000], [b"y" * 1000]])
    torn = blanked(image, SECTOR_SIZE, 2 * SECTOR_SIZE)

    with pytest.raises(CorruptLog):
        recover(torn, path=PATH)
    with pytest.raises(CorruptLog):
        recover(torn[: offsets[1] + 10], path=PATH)


def test_garbage_behind_the_last_append_is_refused():
    image, _ = make_log(APPENDS)

    with pytest.raises(CorruptLog) as refusal:
        recover(image + b"\x11" * 100, path=PATH)

    assert refusal.value.offset == len(image)


def test_more_zeros_than_an_append_can_have_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("node.storage.wal_format.APPEND_BYTES_MAX", 1000)
    image, _ = make_log(APPENDS)

    assert recover(image + bytes(1000 + FRAME_HEADER_SIZE), path=PATH).torn is not None
    with pytest.raises(CorruptLog):
        recover(image + bytes(1001 + FRAME_HEADER_SIZE), path=PATH)


def test_an_append_moved_within_the_log_is_refused():
    image, offsets = make_log([[b"one"], [b"two"], [b"six"]])
    first, second, third = (
        image[start:stop] for start, stop in zip(offsets, [*offsets[1:], len(image)], strict=True)
    )

    for order in ([second, first, third], [first, third], [first, first, third], [third]):
        with pytest.raises(CorruptLog):
            recover(image[:HEADER_SIZE] + b"".join(order), path=PATH)


def test_an_append_of_another_log_is_refused():
    image, _ = make_log([[b"mine"]])
    other, offsets = make_log([[b"mine"], [b"other"]], salt=bytes(16))

    with pytest.raises(CorruptLog) as refusal:
        recover(image + other[offsets[1] :], path=PATH)

    assert refusal.value.offset == len(image)


def test_a_record_that_looks_like_an_append_is_only_a_record():
    inner, _ = make_log([[b"inner"]], salt=bytes(16))
    image, _ = make_log([[b"before"], [inner, MARKER * 10]])
    torn = image[:-1]

    assert recover(image, path=PATH).records == (b"before", inner, MARKER * 10)
    assert recover(torn, path=PATH).records == (b"before",)


def test_a_file_larger_than_a_log_is_refused():
    with pytest.raises(CorruptLog, match="larger than a log can be"):
        recover(encode_header(SALT) + bytes(LOG_BYTES_MAX), path=PATH)


def test_a_refusal_says_where_and_what_to_do():
    image, offsets = make_log(APPENDS)

    with pytest.raises(CorruptLog) as refusal:
        recover(flipped(image, offsets[1] + 5, 1), path=PATH)

    assert f"log: damaged at byte {offsets[1]}" in str(refusal.value)
    assert "move the log away" in str(refusal.value)

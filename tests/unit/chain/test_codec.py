"""chain.codec: one encoding of a value, and bounds before memory."""

import tracemalloc

import msgpack
import pytest

from chain import codec
from chain.errors import DecodeError

SCANNED = 10_000  # so many items, that shapes are checked before anything is allocated


def refuses(data: bytes, *, items_max: int = codec.ITEMS_MAX, size_max: int = 10_000) -> bool:
    try:
        codec.decode(data, what="value", items_max=items_max, size_max=size_max)
    except DecodeError:
        return True
    return False


@pytest.mark.parametrize("items_max", [256, SCANNED])
@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ([], "90"),
        ([None, False, True], "93c0c2c3"),
        ([0, 127, 128, 255, 256], "95007fcc80ccffcd0100"),
        ([65535, 65536, 2**32 - 1, 2**32], "94cdffffce00010000ceffffffffcf0000000100000000"),
        ([-1, -32, -33, -128, -129], "95ffe0d0dfd080d1ff7f"),
        ([2**64 - 1, -(2**63)], "92cfffffffffffffffffd38000000000000000"),
        ([b"", b"ab"], "92c400c4026162"),
        (["", "a", "é"], "93a0a161a2c3a9"),
        (["x" * 32], "91d920" + "78" * 32),
        ([[[]]], "919190"),
        ([1] * 16, "dc0010" + "01" * 16),
    ],
)
def test_values_have_the_bytes_of_the_specification(value, encoded, items_max):
    assert codec.encode(value).hex() == encoded
    assert codec.decode(bytes.fromhex(encoded), what="value", items_max=items_max) == value


@pytest.mark.parametrize("items_max", [256, SCANNED])
@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        ("", "nothing"),
        ("c0", "no array"),
        ("01", "no array"),
        ("9000", "trailing bytes"),
        ("91", "truncated"),
        ("91c4", "truncated length"),
        ("91c40261", "truncated byte string"),
        ("91dc00", "truncated length of an array"),
        ("91cc01", "an integer not in its shortest form"),
        ("91cd00ff", "an integer not in its shortest form"),
        ("91d001", "a positive integer in a signed form"),
        ("91d0ff", "a negative integer not in its shortest form"),
        ("91cf0000000000000001", "an integer not in its shortest form"),
        ("91c50001ff", "a byte string with a long length"),
        ("91c600000001ff", "a byte string with a long length"),
        ("91d90161", "a string with a long length"),
        ("91da000161", "a string with a long length"),
        ("dc000101", "an array with a long length"),
        ("dd0000000101", "an array with a long length"),
        ("9180", "an empty map"),
        ("918100c0", "a map"),
        ("91de000100c0", "a map"),
        ("91c1", "the code that is never used"),
        ("91d40001", "an extension"),
        ("91c7000a", "an empty extension"),
        ("91d6ff00000000", "a timestamp"),
        ("91d7ff0000000000000000", "a timestamp"),
        ("91ca3f800000", "a short float"),
        ("91a1ff", "a string that is no UTF-8"),
        ("91a3eda080", "a surrogate"),
        ("91a2c080", "an overlong form of UTF-8"),
    ],
)
def test_everything_else_is_refused(encoded, why, items_max):
    assert refuses(bytes.fromhex(encoded), items_max=items_max), why


@pytest.mark.attack("B17")
def test_a_float_is_left_to_the_schemas_which_know_no_floats():
    assert codec.decode(msgpack.packb([1.5]), what="value") == [1.5]


def test_size_is_bounded_before_anything_is_read():
    data = codec.encode([b"x" * 100])

    assert codec.decode(data, what="value", size_max=len(data)) == [b"x" * 100]
    assert refuses(data, size_max=len(data) - 1)


@pytest.mark.attack("D3")
@pytest.mark.parametrize("items_max", [20, SCANNED])
def test_items_of_every_array_are_bounded(items_max):
    def nested(count):
        return codec.encode([[0] * count])

    assert codec.decode(nested(items_max), what="value", items_max=items_max)
    assert refuses(nested(items_max + 1), items_max=items_max, size_max=2**20)


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**63) - 1, pytest.param(object(), id="an object"), {1}, ["\ud800"], 1j],
    ids=repr,
)
def test_what_nobody_could_read_is_not_encoded(value):
    with pytest.raises(DecodeError):
        codec.encode([value])


@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_nesting_without_end_is_refused(depth):
    assert refuses(b"\x91" * depth + b"\x90", size_max=2**20)


@pytest.mark.attack("D3")
def test_nesting_is_bounded_before_anything_is_allocated():
    def nested(depth):
        return b"\x91" * (depth - 1) + b"\x90"

    assert not refuses(nested(codec.DEPTH_MAX), items_max=SCANNED)
    assert refuses(nested(codec.DEPTH_MAX + 1), items_max=SCANNED)


HOSTILE = {
    "nested heads of long arrays": b"\xdc\x27\x10" * 500,
    "nested heads, each within the default": b"\xdc\x01\x00" * 1_000,
    "one head that claims 2^32 items": b"\xdd\xff\xff\xff\xff",
    "a claim of 2^32 bytes": b"\x91\xc6\xff\xff\xff\xff",
    "a claim of a string of 2^32 bytes": b"\x91\xdb\xff\xff\xff\xff",
    "many empty arrays": b"\xdc\x01\x00" + (b"\xdc\x01\x00" + b"\x90" * 256) * 256,
    "arrays within arrays within bounds": b"\xdc\x03\xe8" + (b"\x9f" + b"\x90" * 15) * 1_000,
}


@pytest.mark.attack("D3")
@pytest.mark.parametrize("items_max", [codec.ITEMS_MAX, SCANNED])
@pytest.mark.parametrize("data", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_bytes_allocate_no_more_than_a_multiple_of_their_size(data, items_max):
    # CometBFT 0.40 #5946: a small message on the wire grew to a large one in memory.
    tracemalloc.start()
    try:
        refuses(data, items_max=items_max, size_max=2**23)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * 2**20 + 80 * len(data)
    assert peak < 32 * 2**20


@pytest.mark.attack("D3")
def test_values_of_all_arrays_together_are_bounded():
    per_array = 9_999
    arrays = codec.VALUES_MAX // per_array + 1
    data = codec.encode([[0] * per_array] * arrays)

    assert refuses(data, items_max=SCANNED, size_max=2**23)
    assert not refuses(codec.encode([[0] * per_array] * 20), items_max=SCANNED, size_max=2**23)

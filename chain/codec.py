"""Canonical bytes: one value has exactly one encoding, and only that one is accepted.

The encoding is MessagePack restricted to nil, booleans, integers, byte strings, UTF-8 strings and
arrays, each in its shortest form. docs/spec/encoding.md is normative.
"""

from typing import Final

import msgpack

from chain.errors import DecodeError

SIZE_MAX: Final = 8 * 1024 * 1024
"""No single encoded value is larger; blocks and frames are bounded tighter by their owners."""
ITEMS_MAX: Final = 256
"""Items of one array, where the caller names no other bound."""
DEPTH_MAX: Final = 16
"""Arrays in arrays; no value of ours comes near it."""
VALUES_MAX: Final = 2**18
"""Values in one encoding, all arrays together, where the caller names no other bound."""

_UNPACK_DEPTH: Final = 1_024
"""How deep the library itself follows arrays, each allocated with the length that it claims."""
_POINTER_SIZE: Final = 8
_VALUE_SIZE: Final = 64
"""What an item costs at most beyond its own bytes: an empty list and the pointer to it."""
_UNCHECKED_MEMORY_MAX: Final = 4 * 1024 * 1024
"""Up to here the library's own limits bound the memory well enough; above, shapes are checked."""

_packer: Final = msgpack.Packer(use_bin_type=True)


def encode(value: object) -> bytes:
    """Return the canonical bytes of nested lists or tuples of nil, bool, int, bytes and str.

    Raises
    ------
    DecodeError
        It holds something else, or an integer of more than 64 bits; nobody could read it.
    """
    try:
        packed: bytes = _packer.pack(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise DecodeError("value", f"cannot be encoded ({_reason(error)})") from error
    return packed


def decode(
    data: bytes,
    *,
    what: str,
    size_max: int = SIZE_MAX,
    items_max: int = ITEMS_MAX,
    values_max: int = VALUES_MAX,
) -> list[object]:
    """Read one canonical array.

    Parameters
    ----------
    data : bytes
        The whole encoding; trailing bytes are an error.
    what : str
        Name of the value, for the error.
    size_max : int
        Upper bound of ``len(data)``, checked before anything is read.
    items_max : int
        Upper bound of the items of any array in it, checked before it is allocated.
    values_max : int
        Upper bound of the values in all arrays together, where it may be large at all.

    Returns
    -------
    list
        Nested lists of None, bool, int, bytes and str. Floats are not told apart here: each field
        is read by a schema that accepts its own type only.

    Raises
    ------
    DecodeError
        Too large, malformed, of another type, or not in its shortest form.

    Notes
    -----
    However hostile, `data` makes this allocate no more than `_UNCHECKED_MEMORY_MAX`, or
    `_VALUE_SIZE` times its own size.
    """
    if len(data) > size_max:
        raise DecodeError(what, f"{len(data)} bytes, at most {size_max} are allowed")
    memory = _UNPACK_DEPTH * items_max * _POINTER_SIZE + _VALUE_SIZE * len(data)
    if memory > _UNCHECKED_MEMORY_MAX:
        _check_shape(data, what, items_max, values_max)
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            max_array_len=items_max,
            max_map_len=0,
            object_pairs_hook=_no_map,
            max_ext_len=0,
            ext_hook=_no_extension,
            max_bin_len=size_max,
            max_str_len=size_max,
        )
    except (ValueError, RecursionError, TypeError) as error:
        # msgpack's own errors (truncated, extra data, over a limit, too deep) are ValueErrors.
        raise DecodeError(what, f"not canonical MessagePack ({_reason(error)})") from error
    if type(value) is not list:
        raise DecodeError(what, "not an array")
    try:
        again = _packer.pack(value)
    except (ValueError, TypeError, OverflowError) as error:  # nested too deep
        raise DecodeError(what, "holds a type that is not allowed") from error
    if again != data:
        raise DecodeError(what, "not in its shortest form")
    return value


def _check_shape(data: bytes, what: str, items_max: int, values_max: int) -> None:
    """Follow the heads of all values, allocating none of them.

    The library allocates an array as soon as it reads the length, so that a few nested heads would
    cost more memory and time than anyone may take with a small message.
    """
    position, end, values = 0, len(data), 1
    pending = [1]
    while pending:
        if not pending[-1]:
            pending.pop()
            continue
        pending[-1] -= 1
        if position >= end:
            raise DecodeError(what, "not canonical MessagePack (incomplete)")
        head = data[position]
        position += 1
        step = _STEPS[head]
        if step >= 0:
            position += step
            continue
        if step == _REFUSED:
            raise DecodeError(what, "holds a type that is not allowed")
        if 0x90 <= head <= 0x9F:
            length = head & 0x0F
        else:
            length = int.from_bytes(data[position : position - step], "big")
            position -= step
        if not (0x90 <= head <= 0x9F or head in _LONG_ARRAYS):
            position += length
            continue
        values += length
        if length > min(items_max, end - position) or values > values_max:
            raise DecodeError(what, f"an array of {length} items is longer than allowed")
        if len(pending) > DEPTH_MAX:
            raise DecodeError(what, "arrays are nested too deep")
        pending.append(length)


_REFUSED: Final = -8
_LONG_ARRAYS: Final = (0xDC, 0xDD)


def _steps() -> list[int]:
    """Return for each head how many bytes follow; negated, how many bytes of a length follow."""
    steps = [_REFUSED] * 256
    steps[0x00:0x80] = [0] * 128  # positive integers
    steps[0x90:0xA0] = [-1] * 16  # arrays, the length in the head
    steps[0xA0:0xC0] = list(range(32))  # strings
    steps[0xE0:0x100] = [0] * 32  # negative integers
    for head in (0xC0, 0xC2, 0xC3):  # nil, false, true
        steps[head] = 0
    for first, count in ((0xC4, 3), (0xD9, 3)):  # byte strings, strings
        for power in range(count):
            steps[first + power] = -(1 << power)
    for first in (0xCC, 0xD0):  # integers of 1, 2, 4 and 8 bytes
        for power in range(4):
            steps[first + power] = 1 << power
    steps[0xCA], steps[0xCB] = 4, 8  # floats, which no schema accepts
    steps[0xDC], steps[0xDD] = -2, -4  # arrays
    return steps


_STEPS: Final = _steps()


def _no_map(pairs: object) -> object:
    raise ValueError("a map")


def _no_extension(code: int, data: bytes) -> object:
    raise ValueError(f"extension type {code}")


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[:100]

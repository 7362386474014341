"""Canonical bytes: one value has exactly one encoding, and only that one is accepted.

The encoding is MessagePack restricted to nil, booleans, integers, byte strings, UTF-8 strings and
arrays, each in its shortest form. docs/spec/encoding.md is normative.
"""

from typing import Final

import msgpack

from chain.errors import DecodeError

SIZE_MAX: Final = 8 * 1024 * 1024
"""No single encoded value is larger; blocks and frames are bounded tighter by their owners."""

_packer: Final = msgpack.Packer(use_bin_type=True)


def encode(value: object) -> bytes:
    """Return the canonical bytes of nested lists or tuples of nil, bool, int, bytes and str."""
    packed: bytes = _packer.pack(value)
    return packed


def decode(
    data: bytes, *, what: str, size_max: int = SIZE_MAX, items_max: int = 4096
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

    Returns
    -------
    list
        Nested lists of None, bool, int, bytes and str. Floats are not told apart here: each field
        is read by a schema that accepts its own type only.

    Raises
    ------
    DecodeError
        Too large, malformed, of another type, or not in its shortest form.
    """
    if len(data) > size_max:
        raise DecodeError(what, f"{len(data)} bytes, at most {size_max} are allowed")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            max_array_len=items_max,
            max_map_len=0,
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
    except (ValueError, TypeError, OverflowError) as error:  # nested too deep, surrogates
        raise DecodeError(what, "holds a type that is not allowed") from error
    if again != data:
        raise DecodeError(what, "not in its shortest form")
    return value


def _no_extension(code: int, data: bytes) -> object:
    raise ValueError(f"extension type {code}")


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[:100]

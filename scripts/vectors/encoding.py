"""Vectors of the canonical bytes: what is accepted, and what is refused."""

from typing import Any

from chain import codec


def encoding() -> dict[str, Any]:
    """Return values with their bytes, and bytes that are refused; ``{"hex": …}`` is bytes."""
    values: list[list[Any]] = [
        [],
        [None, False, True],
        [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1],
        [-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**63)],
        [b"", b"\x00", bytes(255), bytes(256)],
        ["", "a", "grün", "x" * 31, "x" * 32, "x" * 255, "x" * 256],
        [[], [[]], [1, [2, [3]]]],
        [0] * 15,
        [0] * 16,
    ]
    refused = {
        "": "nothing at all",
        "c0": "not an array",
        "9000": "bytes behind the value",
        "9101ff": "bytes behind the value",
        "92c0": "an item is missing",
        "91cc7f": "an integer with a longer head than it needs",
        "91cd00ff": "an integer with a longer head than it needs",
        "91d07f": "a positive integer in a signed form",
        "91d0e0": "a negative integer with a longer head than it needs",
        "91c500016a": "a byte string with a longer head than it needs",
        "91d90161": "a string with a longer head than it needs",
        "dc0000": "an array with a longer head than it needs",
        "9180": "a map",
        "91ca00000000": "a float",
        "91d6ff00000000": "an extension",
        "91a1ff": "a string that is not UTF-8",
    }
    return {
        "accepted": [
            {"value": _typed(value), "bytes": codec.encode(value).hex()} for value in values
        ],
        "refused": [{"bytes": data, "reason": reason} for data, reason in refused.items()],
    }


def _typed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return [_typed(item) for item in value] if isinstance(value, list) else value

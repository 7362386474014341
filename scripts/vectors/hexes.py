"""Bytes as lower-case hex."""

from collections.abc import Iterable


def hexes(values: Iterable[bytes]) -> list[str]:
    """Return each of the values in hex."""
    return [value.hex() for value in values]


def hex_or_none(value: bytes | None) -> str | None:
    """Return the value in hex; None stays None."""
    return None if value is None else value.hex()

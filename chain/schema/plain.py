"""Fields of a single value: numbers, byte strings, texts and words."""

from collections.abc import Sequence
from re import Pattern
from typing import Any, Final, Protocol, TypeVar

from chain.errors import DecodeError

T = TypeVar("T")

MATCHED_TEXTS_MAX: Final = 1_024
"""Texts that a field remembers to have accepted; further ones are checked each time."""

_HEX: Final = frozenset("0123456789abcdef")


class Schema(Protocol[T]):
    """What every field type can do."""

    def read(self, value: object, where: str) -> T:
        """Return the value of a decoded item."""
        ...

    def write(self, value: T) -> object:
        """Return the item to encode for `value`."""
        ...

    def parse(self, value: object, where: str) -> T:
        """Return the value of a piece of JSON."""
        ...

    def render(self, value: T) -> Any:
        """Return `value` as JSON."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema of the JSON form."""
        ...


class Integer:
    """An integer within bounds, both included."""

    def __init__(self, minimum: int = 0, maximum: int = 2**63 - 1) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def read(self, value: object, where: str) -> int:
        """Check type and bounds."""
        if type(value) is not int:
            raise DecodeError(where, "not an integer")
        if not self.minimum <= value <= self.maximum:
            raise DecodeError(where, f"{value} is outside {self.minimum} to {self.maximum}")
        return value

    parse = read

    def sure(self, item: str, known: str) -> str:
        """Return an expression that holds for no `item` but those that `read` returns as is."""
        return f"type({item}) is int and {self.minimum} <= {item} <= {self.maximum}"

    def accepts_all(self, values: Sequence[Any]) -> bool:
        """Tell whether `read` accepts each of `values`, in a fraction of the time."""
        return (
            set(map(type, values)) == {int}
            and min(values) >= self.minimum
            and max(values) <= self.maximum
        )

    def write(self, value: int) -> int:
        """Return `value` itself."""
        return value

    render = write

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


class Boolean:
    """True or false."""

    def read(self, value: object, where: str) -> bool:
        """Check the type."""
        if type(value) is not bool:
            raise DecodeError(where, "not true or false")
        return value

    parse = read

    def write(self, value: bool) -> bool:
        """Return `value` itself."""
        return value

    render = write

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "boolean"}


class Blob:
    """A byte string of bounded size; hex in JSON."""

    def __init__(self, minimum: int, maximum: int | None = None) -> None:
        self.minimum = minimum
        self.maximum = minimum if maximum is None else maximum

    def read(self, value: object, where: str) -> bytes:
        """Check type and size."""
        if type(value) is not bytes:
            raise DecodeError(where, "not a byte string")
        if not self.minimum <= len(value) <= self.maximum:
            wanted = (
                str(self.minimum)
                if self.minimum == self.maximum
                else f"{self.minimum} to {self.maximum}"
            )
            raise DecodeError(where, f"{len(value)} bytes, not {wanted}")
        return value

    def sure(self, item: str, known: str) -> str:
        """Return an expression that holds for no `item` but those that `read` returns as is."""
        return f"type({item}) is bytes and {self.minimum} <= len({item}) <= {self.maximum}"

    def write(self, value: bytes) -> bytes:
        """Return `value` itself."""
        return value

    def parse(self, value: object, where: str) -> bytes:
        """Read lower-case hex."""
        if type(value) is not str or len(value) % 2 or not _HEX.issuperset(value):
            raise DecodeError(where, "not lower-case hex")
        return self.read(bytes.fromhex(value), where)

    def render(self, value: bytes) -> str:
        """Write lower-case hex."""
        return value.hex()

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {
            "type": "string",
            "pattern": "^([0-9a-f]{2})*$",
            "minLength": 2 * self.minimum,
            "maxLength": 2 * self.maximum,
        }


class Text:
    """A string of bounded size in bytes of UTF-8, optionally of a given form."""

    def __init__(
        self, maximum: int, *, minimum: int = 0, pattern: Pattern[str] | None = None
    ) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.pattern = pattern
        # Names recur in every reading of a device; matching them costs more than all else here.
        self.known: set[str] = set()

    def read(self, value: object, where: str) -> str:
        """Check type, size and form."""
        if type(value) is not str:
            raise DecodeError(where, "not a string")
        if value in self.known:
            return value
        try:
            size = len(value) if value.isascii() else len(value.encode())
        except UnicodeEncodeError as error:
            raise DecodeError(where, "not encodable as UTF-8") from error
        if not self.minimum <= size <= self.maximum:
            raise DecodeError(where, f"{size} bytes, not {self.minimum} to {self.maximum}")
        if self.pattern is not None and self.pattern.fullmatch(value) is None:
            raise DecodeError(where, f"does not match {self.pattern.pattern}")
        if len(self.known) < MATCHED_TEXTS_MAX:
            self.known.add(value)
        return value

    parse = read

    def sure(self, item: str, known: str) -> str:
        """Return an expression that holds for no `item` but those that `read` returns as is.

        `known` in it stands for the texts of that name here.
        """
        return f"type({item}) is str and {item} in {known}"

    def write(self, value: str) -> str:
        """Return `value` itself."""
        return value

    render = write

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        described: dict[str, Any] = {"type": "string", "maxLength": self.maximum}
        if self.minimum:
            described["minLength"] = self.minimum
        if self.pattern is not None:
            described["pattern"] = f"^(?:{self.pattern.pattern})$"
        return described


class Word:
    """One of a closed set of words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def read(self, value: object, where: str) -> str:
        """Check that it is one of the words."""
        if type(value) is not str or value not in self.words:
            raise DecodeError(where, f"not one of {', '.join(self.words)}")
        return value

    parse = read

    def write(self, value: str) -> str:
        """Return `value` itself."""
        return value

    render = write

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "string", "enum": list(self.words)}


PLAIN: Final = (Integer, Boolean, Blob, Text, Word)
"""Fields whose value is written as it is."""

"""Field types that say once how a value looks in bytes and in JSON, and what bounds it.

A schema reads what came from outside and writes what leaves: `read`/`write` for the arrays of the
canonical encoding, `parse`/`render` for JSON (byte strings as lower-case hex). Anything that does
not fit raises `DecodeError` with the path of the field.
"""

from collections.abc import Callable, Mapping, Sequence
from re import Pattern
from typing import Any, Final, Generic, Protocol, TypeVar

from chain import codec
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


class Optional(Generic[T]):
    """A value or None."""

    def __init__(self, item: Schema[T]) -> None:
        self.item = item

    def read(self, value: object, where: str) -> T | None:
        """Read the value unless it is nil."""
        return None if value is None else self.item.read(value, where)

    def write(self, value: T | None) -> object:
        """Write the value unless it is None."""
        return None if value is None else self.item.write(value)

    def parse(self, value: object, where: str) -> T | None:
        """Parse the value unless it is null."""
        return None if value is None else self.item.parse(value, where)

    def render(self, value: T | None) -> Any:
        """Render the value unless it is None."""
        return None if value is None else self.item.render(value)

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"anyOf": [self.item.describe(), {"type": "null"}]}


class ListOf(Generic[T]):
    """A bounded list of one type."""

    def __init__(self, item: Schema[T], maximum: int, *, minimum: int = 0) -> None:
        self.item = item
        self.minimum = minimum
        self.maximum = maximum
        self._accepts_all: Callable[[Sequence[Any]], bool] | None = getattr(
            item, "accepts_all", None
        )

    def _check(self, value: object, where: str) -> list[Any]:
        if type(value) is not list:
            raise DecodeError(where, "not a list")
        if not self.minimum <= len(value) <= self.maximum:
            raise DecodeError(where, f"{len(value)} items, not {self.minimum} to {self.maximum}")
        return value

    def read(self, value: object, where: str) -> tuple[T, ...]:
        """Read every item."""
        items = self._check(value, where)
        if self._accepts_all is not None and self._accepts_all(items):
            return tuple(items)
        read = self.item.read
        return tuple([read(item, where) for item in items])

    def write(self, value: Sequence[T]) -> list[object]:
        """Write every item."""
        return [self.item.write(item) for item in value]

    def parse(self, value: object, where: str) -> tuple[T, ...]:
        """Parse every item."""
        return tuple(
            self.item.parse(item, f"{where}[{index}]")
            for index, item in enumerate(self._check(value, where))
        )

    def render(self, value: Sequence[T]) -> list[Any]:
        """Render every item."""
        return [self.item.render(item) for item in value]

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {
            "type": "array",
            "items": self.item.describe(),
            "minItems": self.minimum,
            "maxItems": self.maximum,
        }


class Record(Generic[T]):
    """A dataclass as an array of its fields in fixed order; an object in JSON.

    Parameters
    ----------
    make : type
        Keyword-only dataclass with slots, all of whose initial fields are named here.
    **fields : Schema
        One schema for each field, in the order of the encoding.
    """

    def __init__(self, make: type[T], **fields: Schema[Any]) -> None:
        self.make = make
        self.fields: Mapping[str, Schema[Any]] = fields
        self._items = tuple(fields.items())
        self.read: Callable[[object, str], T] = _reader(make, fields)
        self.write: Callable[[T], list[object]] = _writer(fields)

    def parse(self, value: object, where: str) -> T:
        """Parse an object; a missing field is null, an unknown one an error."""
        if not isinstance(value, dict):
            raise DecodeError(where, "not an object")
        for name in value:
            if name not in self.fields:
                raise DecodeError(f"{where}.{str(name)[:40]}", "unknown field")
        return self.make(
            **{
                name: schema.parse(value.get(name), f"{where}.{name}")
                for name, schema in self._items
            }
        )

    def render(self, value: T) -> dict[str, Any]:
        """Render an object."""
        return {name: schema.render(getattr(value, name)) for name, schema in self._items}

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {
            "type": "object",
            "properties": {name: schema.describe() for name, schema in self._items},
            "required": [name for name, schema in self._items if not isinstance(schema, Optional)],
            "additionalProperties": False,
        }

    def encode(self, value: T) -> bytes:
        """Return the canonical bytes of `value`."""
        return codec.encode(self.write(value))

    def decode(
        self, data: bytes, *, what: str, size_max: int, items_max: int = codec.ITEMS_MAX
    ) -> T:
        """Return the value of canonical bytes.

        Raises
        ------
        DecodeError
            They are not the canonical bytes of a value within the bounds.
        """
        return self.read(
            codec.decode(data, what=what, size_max=size_max, items_max=items_max), what
        )


def _reader(make: type[T], fields: Mapping[str, Schema[Any]]) -> Callable[[object, str], T]:
    """Return the function that reads an array of `fields` into a `make`.

    Notes
    -----
    Compiled like the initialisers of dataclasses, and for the same reason: after the signature,
    reading is most of what a transaction costs. Slots are filled directly. Of each field that has a
    `sure` test it is tried first; what it does not hold for goes to the field's own `read`, which
    alone knows the rule and what to say.
    """
    items = [f"item_{name}" for name in fields]
    lines = [
        "def read(value, where):",
        f"    if type(value) is not list or len(value) != {len(items)}:",
        f"        raise DecodeError(where, 'not an array of {len(items)} fields')",
        f"    ({''.join(f'{item}, ' for item in items)}) = value",
        "    try:",
        "        made = new(make)",
    ]
    used: dict[str, Any] = {"DecodeError": DecodeError, "new": object.__new__, "make": make}
    for item, (name, schema) in zip(items, fields.items(), strict=True):
        used |= {f"read_{name}": schema.read, f"put_{name}": getattr(make, name).__set__}
        sure = getattr(schema, "sure", None)
        used[f"known_{name}"] = getattr(schema, "known", None)
        test = f"if not ({sure(item, f'known_{name}')}): " if sure else ""
        lines += [
            f"        {test}{item} = read_{name}({item}, {name!r})",
            f"        put_{name}(made, {item})",
        ]
    lines += [
        "    except DecodeError as error:",
        # The path is put together on the way out; reading is on the hot path, failing is not.
        "        raise DecodeError(f'{where}.{error.where}', error.reason) from error",
    ]
    if hasattr(make, "__post_init__"):
        lines.append("    made.__post_init__()")
    lines.append("    return made")
    read: Callable[[object, str], T] = _compiled(lines, used)
    read.__doc__ = "Read an array of the fields."
    return read


def _writer(fields: Mapping[str, Schema[Any]]) -> Callable[[T], list[object]]:
    """Return the function that writes the fields as an array, compiled like the readers."""
    used: dict[str, Any] = {f"write_{name}": schema.write for name, schema in fields.items()}
    items = [
        f"value.{name}" if isinstance(schema, _PLAIN) else f"write_{name}(value.{name})"
        for name, schema in fields.items()
    ]
    write: Callable[[T], list[object]] = _compiled(
        ["def write(value):", f"    return [{', '.join(items)}]"], used
    )
    write.__doc__ = "Write the fields as an array."
    return write


def _compiled(lines: Sequence[str], names: dict[str, Any]) -> Any:
    """Return the one function that `lines` define, which sees `names`."""
    made: dict[str, Any] = {}
    exec("\n".join(lines), names, made)  # noqa: S102  # made of the names of our own classes alone
    (function,) = made.values()
    return function


_PLAIN: Final = (Integer, Boolean, Blob, Text, Word)
"""What is written as it is."""


class Tagged:
    """One of several records, told apart by a word.

    In bytes ``[word, record]``; in JSON an object with the word in its field ``type``.

    Parameters
    ----------
    records : mapping of str to Record
        The records' classes are distinct.
    """

    def __init__(self, records: Mapping[str, Record[Any]]) -> None:
        self.records = dict(records)
        self._words = {record.make: word for word, record in self.records.items()}

    def word_of(self, value: object) -> str:
        """Return the word of the record that `value` belongs to."""
        return self._words[type(value)]

    def _record(self, word: object, where: str) -> Record[Any]:
        record = self.records.get(word) if isinstance(word, str) else None
        if record is None:
            raise DecodeError(f"{where}.type", f"not one of {', '.join(self.records)}")
        return record

    def read(self, value: object, where: str) -> Any:
        """Read ``[word, record]``."""
        if type(value) is not list or len(value) != 2:
            raise DecodeError(where, "not a pair of type and value")
        return self._record(value[0], where).read(value[1], where)

    def write(self, value: object) -> list[object]:
        """Write ``[word, record]``."""
        word = self.word_of(value)
        return [word, self.records[word].write(value)]

    def parse(self, value: object, where: str) -> Any:
        """Parse an object with the word in its field ``type``."""
        if not isinstance(value, dict):
            raise DecodeError(where, "not an object")
        record = self._record(value.get("type"), where)
        return record.parse({name: item for name, item in value.items() if name != "type"}, where)

    def render(self, value: object) -> dict[str, Any]:
        """Render an object with the word in its field ``type``."""
        word = self.word_of(value)
        return {"type": word, **self.records[word].render(value)}

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        variants = []
        for word, record in self.records.items():
            described = record.describe()
            described["properties"] = {"type": {"const": word}, **described["properties"]}
            described["required"] = ["type", *described["required"]]
            variants.append(described)
        return {"oneOf": variants}

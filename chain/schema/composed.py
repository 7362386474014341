"""Fields that are made of others: what may be absent, lists, records, and one of several."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from chain import codec
from chain.errors import DecodeError
from chain.schema.compiled import make_reader, make_writer
from chain.schema.plain import Schema

T = TypeVar("T")


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
        self.read: Callable[[object, str], T] = make_reader(make, fields)
        self.write: Callable[[T], list[object]] = make_writer(fields)

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

"""chain.schema: how fields look in bytes and in JSON, and what bounds them."""

import json
import re
from dataclasses import dataclass

import pytest

from chain.certificate import CERTIFICATE
from chain.errors import DecodeError
from chain.genesis import GENESIS
from chain.kinds import KINDS
from chain.schema import (
    MATCHED_TEXTS_MAX,
    Blob,
    Boolean,
    Integer,
    ListOf,
    Optional,
    Record,
    Tagged,
    Text,
    Word,
)
from tests.tables import TABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    pass


POINT = Record(Point, x=Integer(0, 10), label=Optional(Text(4)))
SHAPE = Tagged({"point": POINT, "origin": Record(Origin)})
LINE = ListOf(POINT, 3, minimum=1)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (Integer(1, 5), 0),
        (Integer(1, 5), 6),
        (Integer(), True),
        (Integer(), 1.0),
        (Integer(), "1"),
        (Integer(), None),
        (Boolean(), 1),
        (Boolean(), None),
        (Blob(2), b"a"),
        (Blob(2), b"abc"),
        (Blob(1, 3), b""),
        (Blob(2), "ab"),
        (Blob(2), [1, 2]),
        (Text(4), b"ab"),
        (Text(4), "abcde"),
        (Text(4), "ééé"),
        (Text(4, minimum=1), ""),
        (Text(4, pattern=re.compile("a+")), "ab"),
        (Text(4, pattern=re.compile("a+")), "a\n"),
        (Word("on", "off"), "of"),
        (Word("on", "off"), b"on"),
        (ListOf(Integer(), 2), [1, 2, 3]),
        (ListOf(Integer(), 2), (1, 2)),
        (ListOf(Integer(), 2), [1, True]),
        (ListOf(Integer(0, 5), 2), [1, 6]),
        (ListOf(Integer(0, 5), 2), [-1, 0]),
        (ListOf(Integer(), 2, minimum=1), []),
        (POINT, [1]),
        (POINT, [1, "a", 2]),
        (POINT, {"x": 1, "label": "a"}),
        (POINT, [None, "a"]),
        (SHAPE, ["point"]),
        (SHAPE, ["circle", []]),
        (SHAPE, [1, []]),
        (SHAPE, ["origin", [1]]),
        (SHAPE, [["point"], []]),
    ],
)
def test_what_does_not_fit_is_not_read(schema, value):
    with pytest.raises(DecodeError):
        schema.read(value, "field")


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        (Integer(1, 5), 2.0),
        (Integer(1, 5), True),
        (Blob(2), "AB00"),
        (Blob(2), "0x00"),
        (Blob(2), "ab0"),
        (Blob(2), "ab"),
        (Blob(2), "ab0g"),
        (Blob(2), "ab 0"),
        (Blob(2), None),
        (Text(4), "\ud800"),
        (Text(4), 1),
        (POINT, [1, "a"]),
        (POINT, {"label": "a"}),
        (POINT, {"x": None}),
        (POINT, {"x": 1, "y": 2}),
        (SHAPE, {"x": 1}),
        (SHAPE, {"type": "circle"}),
        (SHAPE, {"type": ["point"], "x": 1}),
        (SHAPE, {"type": "origin", "x": 1}),
        (SHAPE, "point"),
        (LINE, []),
        (LINE, {"0": 1}),
    ],
)
def test_what_does_not_fit_is_not_parsed(schema, document):
    with pytest.raises(DecodeError):
        schema.parse(document, "field")


def test_both_forms_hold_the_same_value():
    point = Point(x=3, label=None)

    assert POINT.write(point) == [3, None]
    assert POINT.read([3, None], "point") == point
    assert POINT.render(point) == {"x": 3, "label": None}
    assert POINT.parse({"x": 3}, "point") == point
    assert SHAPE.write(Origin()) == ["origin", []]
    assert SHAPE.render(point) == {"type": "point", "x": 3, "label": None}
    assert SHAPE.parse({"type": "origin"}, "shape") == Origin()


@pytest.mark.parametrize(
    ("read", "value", "where"),
    [
        (LINE.read, [[1, "toolong"]], "line.label"),
        (LINE.parse, [{"x": 1}, {"x": 11}], "line[1].x"),
        (POINT.parse, {"x": 1, "z": 1}, "line.z"),
        (SHAPE.read, ["circle", []], "line.type"),
        (SHAPE.read, ["point", [11, None]], "line.x"),
        (ListOf(SHAPE, 2).read, [["origin", []], ["point", [1]]], "line"),
    ],
)
def test_an_error_names_the_field(read, value, where):
    with pytest.raises(DecodeError) as caught:
        read(value, "line")

    assert caught.value.where == where


def test_text_is_bounded_in_bytes():
    assert Text(4).read("éé", "text") == "éé"


RECORDS = {
    "genesis": GENESIS,
    "certificate": CERTIFICATE,
    **{name: kind.body for name, kind in KINDS.items()},
    **{table.record.make.__name__: table.record for table in TABLES},
}


def check_shape(schema):
    """Check that a JSON Schema is made of the words it may be made of, all the way down."""
    match schema:
        case {"anyOf": list(options)} | {"oneOf": list(options)}:
            assert len(options) > 1
            for option in options:
                check_shape(option)
        case {"type": "object", "properties": dict(properties), "required": list(required)}:
            assert schema["additionalProperties"] is False
            assert set(required) <= set(properties)
            for inner in properties.values():
                check_shape(inner)
        case {"type": "array", "items": dict(inner)}:
            assert 0 <= schema["minItems"] <= schema["maxItems"]
            check_shape(inner)
        case {"type": "string"}:
            assert schema.keys() <= {"type", "pattern", "minLength", "maxLength", "enum"}
            if "pattern" in schema:
                assert schema["pattern"].startswith("^")
                assert schema["pattern"].endswith("$")
                re.compile(schema["pattern"])
        case {"type": "integer"}:
            assert schema["minimum"] <= schema["maximum"]
        case {"type": "boolean"} | {"type": "null"} | {"const": str()}:
            pass
        case _:
            raise AssertionError(schema)


@pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))
def test_every_record_describes_itself_as_a_json_schema(record):
    described = record.describe()

    check_shape(described)
    assert json.loads(json.dumps(described)) == described


def test_the_word_of_a_tagged_record_is_no_field_of_it():
    tagged = [
        schema
        for kind in KINDS.values()
        for schema in kind.body.fields.values()
        if isinstance(schema, Tagged)
    ]

    assert tagged
    for schema in tagged:
        for record in schema.records.values():
            assert "type" not in record.fields


def test_remembered_texts_are_bounded_and_never_wrong():
    field = Text(8, pattern=re.compile("[a-z0-9]+"))
    for number in range(MATCHED_TEXTS_MAX + 10):
        assert field.read(f"n{number}", "text") == f"n{number}"
    assert len(field.known) == MATCHED_TEXTS_MAX

    for bad in ("N1", "n1 ", "n" * 9):
        for _ in range(2):
            with pytest.raises(DecodeError):
                field.read(bad, "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    # Names that the compiled reader uses itself.
    value: int
    where: bytes
    made: int


SAMPLE = Record(Sample, value=Integer(-5, 5), where=Blob(2, 4), made=Integer())


@pytest.mark.parametrize("item", [-6, -5, 0, 5, 6, True, 1.0, None, "1", b"\x01", [1]])
def test_a_record_reads_an_integer_as_the_field_does(item):
    _assert_read_alike("value", item)


@pytest.mark.parametrize("item", [b"", b"1", b"12", b"1234", b"12345", bytearray(3), "12", 3, None])
def test_a_record_reads_a_byte_string_as_the_field_does(item):
    _assert_read_alike("where", item)


def _assert_read_alike(name, item):
    def outcome(read):
        try:
            return read()
        except DecodeError as error:
            return error.where, error.reason

    fields = {"value": 1, "where": b"12", "made": 2} | {name: item}

    by_record = outcome(lambda: getattr(SAMPLE.read(list(fields.values()), "sample"), name))

    assert by_record == outcome(lambda: SAMPLE.fields[name].read(item, f"sample.{name}"))

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.payloads import Flow
from chain.types import Digest
from ml_validator.errors import InvalidFlow, InvalidSchema, UnknownSchema
from ml_validator.features import (
    NSL_KDD_SCHEMA,
    SCHEMAS,
    CategoricalColumn,
    FeatureSchema,
    IntegerColumn,
    decode_schema,
)
from ml_validator.nsl_kdd import COLUMNS
from tests.unit.ml_validator.helpers import WIDTH, flows, make_flow


def column(name: str) -> int:
    return NSL_KDD_SCHEMA.column_names.index(name)


def test_the_schema_has_the_digest_that_the_specification_states():
    assert NSL_KDD_SCHEMA.digest.hex() == (
        "5d529202699e1691bbbf965c68e9c73cf691f8e47420d1f3f580d91bf8ee3c93"
    )
    assert SCHEMAS[NSL_KDD_SCHEMA.digest] is NSL_KDD_SCHEMA


def test_the_schema_has_38_integers_and_84_category_columns():
    assert WIDTH == 38
    assert [len(c.values) for c in NSL_KDD_SCHEMA.categories] == [3, 70, 11]
    assert NSL_KDD_SCHEMA.column_count == 122
    assert len(set(NSL_KDD_SCHEMA.column_names)) == 122


def test_integers_stand_in_file_order_and_15_of_them_are_hundredths():
    names = [c.name for c in NSL_KDD_SCHEMA.integers]
    assert names == [n for n in COLUMNS[:41] if n not in ("protocol_type", "service", "flag")]
    scaled = [c.name for c in NSL_KDD_SCHEMA.integers if c.scale == 100]
    assert len(scaled) == 15
    assert all(name.endswith("_rate") for name in scaled)


def test_difficulty_is_no_feature():
    assert not [name for name in NSL_KDD_SCHEMA.column_names if "difficulty" in name]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"},
        {"integers": NSL_KDD_SCHEMA.integers[::-1]},
        {"integers": (IntegerColumn(name="duration", unit="seconds", scale=100),)},
        {"categories": NSL_KDD_SCHEMA.categories[::-1]},
        {"categories": (CategoricalColumn(name="flag", values=("SF", "S0")),)},
    ],
)
def test_every_part_of_a_schema_enters_its_digest(other):
    parts = {
        "name": NSL_KDD_SCHEMA.name,
        "integers": NSL_KDD_SCHEMA.integers,
        "categories": NSL_KDD_SCHEMA.categories,
    }
    assert FeatureSchema(**(parts | other)).digest != NSL_KDD_SCHEMA.digest


def test_a_flow_becomes_its_integers_and_one_column_for_each_category():
    rows = NSL_KDD_SCHEMA.rows([make_flow(src_bytes=491, same_srv_rate=17)])
    assert rows.dtype == np.int64
    assert rows.shape == (1, 122)
    expected = dict.fromkeys(range(122), 0) | {
        column("src_bytes"): 491,
        column("same_srv_rate"): 17,
        column("protocol_type=tcp"): 1,
        column("service=http"): 1,
        column("flag=SF"): 1,
    }
    assert rows[0].tolist() == list(expected.values())


def test_an_unknown_category_is_zero_in_all_its_columns():
    rows = NSL_KDD_SCHEMA.rows([make_flow(categories=("tcp", "mqtt", "SF"))])
    start, stop = column("service=IRC"), column("service=whois")
    assert not rows[0, start : stop + 1].any()
    assert rows[0, 38:].sum() == 2


def test_no_flows_make_no_rows():
    assert NSL_KDD_SCHEMA.rows([]).shape == (0, 122)


def test_flows_without_any_known_category_are_encoded():
    assert NSL_KDD_SCHEMA.rows([make_flow(categories=("a", "b", "c"))])[0, 38:].sum() == 0


def test_a_flow_of_another_schema_is_refused():
    with pytest.raises(UnknownSchema) as caught:
        NSL_KDD_SCHEMA.rows([make_flow(), make_flow(schema=Digest(bytes(32)))])
    assert caught.value.digest == bytes(32)
    assert "flow 1" in str(caught.value)


@pytest.mark.parametrize(
    ("integers", "categories", "group"),
    [
        ((0,) * 37, ("tcp", "http", "SF"), "integers"),
        ((0,) * 39, ("tcp", "http", "SF"), "integers"),
        ((0,) * 38, ("tcp", "http"), "categories"),
        ((0,) * 38, ("tcp", "http", "SF", "SF"), "categories"),
    ],
)
def test_a_flow_of_the_wrong_length_is_refused(integers, categories, group):
    flow = Flow(schema=NSL_KDD_SCHEMA.digest, integers=integers, categories=categories)
    with pytest.raises(InvalidFlow) as caught:
        NSL_KDD_SCHEMA.rows([make_flow(), make_flow(), flow])
    assert (caught.value.index, caught.value.column) == (2, group)


@pytest.mark.parametrize("value", [-1, -(2**63), -(2**70), 2**63, 2**64])
def test_an_integer_out_of_range_is_refused_by_column(value):
    with pytest.raises(InvalidFlow) as caught:
        NSL_KDD_SCHEMA.rows([make_flow(), make_flow(dst_bytes=value)])
    assert (caught.value.index, caught.value.column) == (1, "dst_bytes")


def test_the_largest_integer_is_kept():
    rows = NSL_KDD_SCHEMA.rows([make_flow(duration=2**63 - 1)])
    assert rows[0, 0] == 2**63 - 1


@given(st.lists(flows, max_size=5))
def test_rows_hold_the_integers_of_their_flows(batch):
    rows = NSL_KDD_SCHEMA.rows(batch)
    assert [tuple(row[:WIDTH]) for row in rows.tolist()] == [flow.integers for flow in batch]
    assert set(rows[:, WIDTH:].reshape(-1).tolist()) <= {0, 1}


def make_schema(**parts) -> FeatureSchema:
    made = {
        "name": "office",
        "integers": (
            IntegerColumn(name="dur", unit="seconds", scale=1_000_000),
            IntegerColumn(name="bytes", unit="bytes", scale=1),
        ),
        "categories": (CategoricalColumn(name="proto", values=("tcp", "udp")),),
    }
    return FeatureSchema(**(made | parts))


MILES: Any = "miles"


def columns(count: int) -> tuple[IntegerColumn, ...]:
    return tuple(IntegerColumn(name=f"c{i}", unit="count", scale=1) for i in range(count))


def test_a_schema_is_read_back_equal():
    for schema in (NSL_KDD_SCHEMA, make_schema(), make_schema(categories=())):
        again = decode_schema(schema.encode())
        assert again == schema
        assert again.digest == schema.digest


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({"name": ""}, "name"),
        ({"integers": columns(129)}, "integers"),
        ({"integers": (), "categories": ()}, "columns"),
        ({"integers": (*columns(1), *columns(1))}, "columns"),
        ({"integers": (IntegerColumn(name="c", unit="count", scale=3),)}, "c"),
        ({"integers": (IntegerColumn(name="c", unit="count", scale=10**10),)}, "integers.scale"),
        ({"integers": (IntegerColumn(name="c", unit=MILES, scale=1),)}, "integers.unit"),
        ({"categories": (CategoricalColumn(name="dur", values=()),)}, "columns"),
        ({"categories": (CategoricalColumn(name="c", values=("a", "a")),)}, "c"),
        ({"categories": (CategoricalColumn(name="c", values=("",)),)}, "categories.values"),
        (
            {
                "categories": tuple(
                    CategoricalColumn(name=f"c{i}", values=tuple(map(str, range(500))))
                    for i in range(3)
                )
            },
            "columns",
        ),
    ],
)
def test_a_schema_that_breaks_a_rule_is_refused(parts, where):
    with pytest.raises(InvalidSchema) as caught:
        decode_schema(make_schema(**parts).encode())
    assert caught.value.where == where


@given(st.binary(max_size=200))
def test_bytes_are_a_schema_or_refused(data):
    try:
        schema = decode_schema(data)
    except InvalidSchema:
        return
    assert schema.encode() == data

"""From tables to what detectors learn from: a schema, training rows and test rows.

The schema is learned from training rows alone. No row of a test has the features of a training row:
a detector would be asked what it has been told.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from chain import codec
from chain.payloads import Flow
from ml_validator.errors import InvalidSchema, UntrainableData
from ml_validator.features import (
    CategoricalColumn,
    FeatureSchema,
    IntegerColumn,
    check_schema,
)
from ml_validator.labelled import Dataset, Labelled, LabelledFlow
from ml_validator.tables import Column, Layout, Row, Table

TEST_SHARE_PPM: Final = 300_000
"""Of the different flows, how many a split sets aside for the test."""
SHOWN_MAX: Final = 10
"""Examples of unknown values in an answer."""

_PPM: Final = 1_000_000


def make_dataset(
    layout: Layout, training: Table, test: Table | None = None, *, split_seed: int | None = None
) -> tuple[Dataset, dict[str, Any]]:
    """Return a data set of tables, and what had to be done for it.

    Parameters
    ----------
    test : Table, optional
        What is measured on, without rows whose features `training` has.
    split_seed : int, optional
        To set a part of `training` aside for the test instead.

    Raises
    ------
    InvalidSchema
        The columns and learned categories are too many.
    UntrainableData
        No row of the test is new.
    """
    known: Sequence[Row] = training.rows
    asked: Sequence[Row] = () if test is None else test.rows
    name = "test" if test is None else name_of(test, beside=training)
    if split_seed is not None:
        known, asked = split(training.rows, seed=split_seed)
    seen = {row.features for row in known}
    fresh = [row for row in asked if row.features not in seen]
    has_test = test is not None or split_seed is not None
    if has_test and not fresh:
        raise UntrainableData("there is no row for the test whose features no training row has")
    schema = learn_schema(layout, known)
    dataset = Dataset(
        name=layout.name,
        schema=schema,
        training=label_rows(known, schema),
        tests={name: label_rows(fresh, schema)} if has_test else {},
        digests=digests_of(training, test),
        training_name=training.name,
    )
    findings: dict[str, Any] = {
        "schema": schema.digest.hex(),
        "training": {"rows": len(known), **describe(schema, dataset.training)},
    }
    if has_test:
        findings["test"] = {
            "rows": len(fresh),
            "left_out": len(asked) - len(fresh),
            **describe(schema, dataset.tests[name]),
        }
    return dataset, findings


def name_of(test: Table, *, beside: Table) -> str:
    """Return the name of a test's file, told from that of the training file."""
    return test.name if test.name != beside.name else f"{test.name} (test)"


def digests_of(training: Table, test: Table | None) -> dict[str, str]:
    """Return SHA-256 of the files by their names."""
    tests = {} if test is None else {name_of(test, beside=training): test.digest}
    return {training.name: training.digest} | tests


def split(rows: Sequence[Row], *, seed: int) -> tuple[list[Row], list[Row]]:
    """Return training and test rows; rows with equal features are on one side.

    A row's side follows from `seed` and its features alone, on every machine.
    """
    training: list[Row] = []
    test: list[Row] = []
    for row in rows:
        text = codec.encode([seed, list(row.integers), list(row.categories)])
        draw = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % _PPM
        (test if draw < TEST_SHARE_PPM else training).append(row)
    return training, test


def learn_schema(layout: Layout, rows: Iterable[Row]) -> FeatureSchema:
    """Return the feature schema of a layout, with the categories that `rows` have.

    Raises
    ------
    InvalidSchema
        It breaks a bound.
    """
    columns = layout.of_kind("category")
    counts: list[Counter[str]] = [Counter() for _ in columns]
    for row in rows:
        for count, value in zip(counts, row.categories, strict=True):
            count[value] += 1
    schema = FeatureSchema(
        name=layout.name,
        integers=_numbers(layout),
        categories=tuple(
            CategoricalColumn(name=column.name, values=_values(column, count))
            for column, count in zip(columns, counts, strict=True)
        ),
    )
    check_schema(schema)
    return schema


def has_columns(layout: Layout, schema: FeatureSchema) -> bool:
    """Tell whether the rows of a layout can be labelled under a schema learned from others."""
    return _numbers(layout) == schema.integers and [
        column.name for column in layout.of_kind("category")
    ] == [column.name for column in schema.categories]


def flows_for(schema: FeatureSchema, layout: Layout, rows: Iterable[Row]) -> list[Flow]:
    """Return rows as flows of the schema of a model that was made by the same layout.

    Raises
    ------
    InvalidSchema
        The model reads other columns.
    """
    if not has_columns(layout, schema):
        raise InvalidSchema("columns", "those of the model are not those of the schema file")
    return [record.flow for record in label_rows(rows, schema)]


def label_rows(rows: Iterable[Row], schema: FeatureSchema) -> list[LabelledFlow]:
    """Return the flows of rows under a schema."""
    return [
        LabelledFlow(
            flow=Flow(schema=schema.digest, integers=row.integers, categories=row.categories),
            label=row.label,
            family=row.family,
        )
        for row in rows
    ]


def describe(schema: FeatureSchema, records: Iterable[Labelled]) -> dict[str, Any]:
    """Count classes, families, and the categories that `schema` does not tell apart."""
    classes: Counter[str] = Counter()
    families: Counter[str] = Counter()
    unknown: dict[str, Counter[str]] = {column.name: Counter() for column in schema.categories}
    listed = [(column.name, frozenset(column.values)) for column in schema.categories]
    for record in records:
        classes[record.label] += 1
        families[record.family] += 1
        for (name, values), value in zip(listed, record.flow.categories, strict=True):
            if value not in values:
                unknown[name][value] += 1
    return {
        "classes": dict(classes.most_common()),
        "families": dict(families.most_common()),
        "unknown": {
            name: {
                "rows": counts.total(),
                "values": len(counts),
                "most": [value for value, _ in counts.most_common(SHOWN_MAX)],
            }
            for name, counts in unknown.items()
            if counts
        },
    }


def _numbers(layout: Layout) -> tuple[IntegerColumn, ...]:
    return tuple(
        IntegerColumn(name=column.name, unit=column.unit, scale=column.scale)
        for column in layout.of_kind("integer", "decimal")
    )


def _values(column: Column, counts: Counter[str]) -> tuple[str, ...]:
    if column.values is not None:
        return column.values
    # An empty cell needs no column of its own: it is 0 in all of them.
    found = sorted((value for value in counts if value), key=lambda value: (-counts[value], value))
    return tuple(sorted(found[: column.values_max]))

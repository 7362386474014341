"""Reading flows from CSV files of any layout.

A `Layout` says what the columns of a file are; with it every cell becomes an integer, a category or
a label, or is refused by file, row and column. No float comes in between: a decimal number is
multiplied by the scale of its column as digits, and what is finer than that is cut off.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from chain.payloads import CATEGORY_SIZE_MAX
from ml_validator.errors import InvalidDataset
from ml_validator.features import Unit
from ml_validator.labelled import NORMAL, Repetitions
from ml_validator.nsl_kdd import file_digest
from ml_validator.text_lines import read_lines

ROWS_MAX: Final = 1_000_000
"""Rows read of one file, which are all kept in memory; a longer one is refused at the row above."""
ROW_LENGTH_MAX: Final = 64 * 1024
"""Characters of a row, which has several lines where a cell in quotes has."""
CELLS_MAX: Final = 1_024
LABELS_MAX: Final = 1_000
LEARNED_MAX: Final = 64
"""Categories of a column that are learned, where its layout names no other bound."""
VALUE_MAX: Final = 2**53
"""The largest integer that a flow on the chain can carry."""
SHOWN_LENGTH_MAX: Final = 32
"""Of a cell in a message."""

Kind = Literal["integer", "decimal", "category", "label", "ignored"]

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NUMBER: Final = re.compile(
    r"[+-]?(?=\.?[0-9])([0-9]{0,400})(?:\.([0-9]{0,400}))?(?:[eE]([+-]?[0-9]{1,3}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What a column of a file is.

    Parameters
    ----------
    unit, scale
        As in `ml_validator.features.IntegerColumn`; for numbers.
    values : tuple of str, optional
        The categories that models tell apart; None to learn them from training rows.
    values_max : int
        How many are learned at most, the most frequent first.
    missing : frozenset of str
        Cells that stand for a value that is not there, in lower case.
    when_missing : str, optional
        What is read in place of one; None to refuse the row.
    """

    name: str
    kind: Kind
    unit: Unit = "count"
    scale: int = 1
    values: tuple[str, ...] | None = None
    values_max: int = LEARNED_MAX
    missing: frozenset[str] = frozenset()
    when_missing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a file of flows looks like; one column is the label, or none is.

    Parameters
    ----------
    name : str
        Of the feature schema that comes of it.
    header : bool
        Whether the first row names the columns, in any order. Else they stand as here.
    ignores_unlisted : bool
        Whether a header may name columns that are not listed here.
    normal : frozenset of str
        Labels that mean no attack.
    families : mapping of str to str, optional
        Family of each other label. None: each is a family of its own, and any label is taken.
    drops_duplicates : bool
        Whether of rows with equal features and labels only the first is kept.
    """

    name: str
    columns: tuple[Column, ...]
    normal: frozenset[str]
    families: Mapping[str, str] | None = None
    separator: str = ","
    header: bool = True
    encoding: str = "utf-8-sig"
    ignores_unlisted: bool = False
    drops_duplicates: bool = True

    def unlabelled(self) -> "Layout":
        """Return the layout of files of the same kind that do not say what their flows were.

        Each of their rows counts, be it equal to another.
        """
        columns = [
            replace(column, kind="ignored") if column.kind == "label" else column
            for column in self.columns
        ]
        return replace(self, columns=tuple(columns), drops_duplicates=False)

    def of_kind(self, *kinds: Kind) -> list[Column]:
        """Return the columns of these kinds, in order."""
        return [column for column in self.columns if column.kind in kinds]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A flow of a file, before it is known which categories count.

    Parameters
    ----------
    integers, categories : tuple
        In the order of the layout's columns.
    label, family : str
        `NORMAL` for both, or the attack's; empty where the file does not say.
    """

    integers: tuple[int, ...]
    categories: tuple[str, ...]
    label: str
    family: str

    @property
    def features(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """What a detector may see of it."""
        return self.integers, self.categories


@dataclass(slots=True, kw_only=True)
class Table:
    """The rows of a file, and what was found on the way.

    Parameters
    ----------
    rows : list of Row
        Without those that were dropped.
    digest : str
        SHA-256 of the file in hex.
    read : int
        Rows with anything in them, the header not counted.
    blank : int
        Rows with nothing in any cell; they are passed over.
    repetitions : Repetitions
        Of what was read.
    missing : Counter of str
        Values that were not there, by column.
    """

    name: str
    digest: str
    rows: list[Row] = field(default_factory=list)
    read: int = 0
    blank: int = 0
    repetitions: Repetitions = field(default_factory=Repetitions)
    missing: Counter[str] = field(default_factory=Counter)

    def facts(self) -> dict[str, Any]:
        """Return what there is to say of the file, for answers of commands."""
        return {
            "file": self.name,
            "sha256": self.digest,
            "rows": self.read,
            "kept": len(self.rows),
            "blank": self.blank,
            "duplicates": self.repetitions.duplicates,
            "contradictions": self.repetitions.contradictions,
            "missing": dict(self.missing),
        }


def read_table(path: Path, layout: Layout) -> Table:
    """Read a file of flows.

    Raises
    ------
    MissingDataset
        The file cannot be opened.
    InvalidDataset
        A row cannot be read, or there is none; says which row, with the header counted, and column.
    """
    table = Table(name=path.name, digest=file_digest(path))
    cells = _cells(path, layout)
    places = _places(str(path), layout, next(cells, (1, []))[1] if layout.header else None)
    labels: set[str] = set()
    for number, row in cells:
        if not any(row):
            table.blank += 1
            continue
        table.read += 1
        if table.read > ROWS_MAX:
            raise InvalidDataset(str(path), number, "row", f"more than {ROWS_MAX} rows")
        if len(row) != places.width:
            raise InvalidDataset(
                str(path), number, "row", f"{len(row)} columns, not {places.width}"
            )
        parsed = _parse(str(path), number, row, places, table.missing)
        labels.add(parsed.label)
        if len(labels) > LABELS_MAX:
            raise InvalidDataset(str(path), number, "row", f"more than {LABELS_MAX} labels")
        is_duplicate = table.repetitions.add(parsed.features, parsed.label)
        if not (is_duplicate and layout.drops_duplicates):
            table.rows.append(parsed)
    if not table.rows:
        raise InvalidDataset(str(path), 1, "row", "the file has no flows")
    return table


def scaled(text: str, scale: int) -> tuple[int, bool] | None:
    """Read a decimal number times `scale`, and say whether that was exact; None if it is none.

    A number below 0 gives one below 0. The part finer than the scale is cut off.
    """
    if text.isascii() and text.isdigit() and len(text) <= 16:
        return int(text) * scale, True
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    whole, fraction, power = match.groups(default="")
    digits = int(whole + fraction) * scale
    shift = int(power or 0) - len(fraction)
    value, rest = (digits * 10**shift, 0) if shift >= 0 else divmod(digits, 10**-shift)
    if text.startswith("-"):
        # What is finer than the scale is below 0 nevertheless.
        return -max(value, bool(rest)), not rest
    return value, not rest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Where the columns of a layout stand in the rows of a file."""

    layout: Layout
    width: int
    numbers: tuple[tuple[int, Column], ...]
    categories: tuple[tuple[int, Column], ...]
    label: tuple[int, Column] | None


def _places(file: str, layout: Layout, header: list[str] | None) -> _Places:
    names = [column.name for column in layout.columns]
    if header is None:
        place_of = {name: place for place, name in enumerate(names)}
        width = len(names)
    else:
        place_of = {name: place for place, name in enumerate(header)}
        width = len(header)
        if not any(header):
            raise InvalidDataset(file, 1, "row", "there is no header")
        for name in [column.name for column in layout.columns if column.kind != "ignored"]:
            if name not in place_of:
                raise InvalidDataset(file, 1, name, "the header has no such column")
            if header.count(name) > 1:
                raise InvalidDataset(file, 1, name, "the header has it twice")
        if not layout.ignores_unlisted:
            for place, name in enumerate(header):
                if name not in names:
                    raise InvalidDataset(
                        file, 1, f"column {place + 1}", f"{_shown(name)} is not in the schema file"
                    )
    labels = [(place_of[column.name], column) for column in layout.of_kind("label")]
    return _Places(
        layout=layout,
        width=width,
        numbers=tuple((place_of[c.name], c) for c in layout.of_kind("integer", "decimal")),
        categories=tuple((place_of[c.name], c) for c in layout.of_kind("category")),
        label=labels[0] if labels else None,
    )


def _cells(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each row, without the blanks around them."""
    number = length = 0

    def texts() -> Iterator[str]:
        nonlocal length
        for _, text in read_lines(path, encoding=layout.encoding, length_max=ROW_LENGTH_MAX):
            length += len(text)
            if length > ROW_LENGTH_MAX:
                # A quote that is never closed would go on to the end of the file.
                raise InvalidDataset(
                    str(path), number, "row", f"longer than {ROW_LENGTH_MAX} characters"
                )
            yield text + "\n"

    rows = csv.reader(texts(), delimiter=layout.separator, strict=True)
    while True:
        number += 1
        length = 0
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidDataset(str(path), number, "row", str(error)) from error
        if len(row) > CELLS_MAX:
            raise InvalidDataset(str(path), number, "row", f"more than {CELLS_MAX} columns")
        yield number, [cell.strip() for cell in row]


def _parse(file: str, number: int, row: list[str], places: _Places, missing: Counter[str]) -> Row:
    integers, categories = [], []
    label = family = ""
    column = places.layout.columns[0]
    try:
        if places.label is not None:
            at, column = places.label
            label, family = _label(row[at], places.layout)
        for at, column in places.numbers:
            integers.append(_number(_present(row[at], column, missing), column))
        for at, column in places.categories:
            categories.append(_name(_present(row[at], column, missing)))
    except _BadCell as bad:
        raise InvalidDataset(file, number, column.name, bad.reason) from bad
    return Row(integers=tuple(integers), categories=tuple(categories), label=label, family=family)


class _BadCell(Exception):
    def __init__(self, reason: str) -> None:
        self.reason = reason


def _present(cell: str, column: Column, missing: Counter[str]) -> str:
    if cell.lower() not in column.missing:
        return cell
    if column.when_missing is None:
        raise _BadCell(f"the value is missing ({_shown(cell)})")
    missing[column.name] += 1
    return column.when_missing


def _number(cell: str, column: Column) -> int:
    read = scaled(cell, column.scale)
    if read is None:
        raise _BadCell(f"{_shown(cell)} is no number")
    value, is_exact = read
    if value < 0:
        raise _BadCell(f"{_shown(cell)} is below 0")
    if value > VALUE_MAX:
        by = "" if column.scale == 1 else f" times {column.scale}"
        raise _BadCell(f"{_shown(cell)}{by} is above 2**53")
    if column.kind == "integer" and not is_exact:
        raise _BadCell(f"{_shown(cell)} is no whole number")
    return value


def _name(cell: str) -> str:
    if len(cell.encode()) > CATEGORY_SIZE_MAX:
        raise _BadCell(f"{_shown(cell)} is longer than {CATEGORY_SIZE_MAX} bytes")
    if _CONTROL.search(cell):
        # The zeros of a damaged file, or what would turn a terminal.
        raise _BadCell(f"{_shown(cell)} has control characters")
    return cell


def _label(cell: str, layout: Layout) -> tuple[str, str]:
    if cell in layout.normal:
        return NORMAL, NORMAL
    if not cell:
        raise _BadCell("the label is missing")
    if cell.lower() == NORMAL:
        raise _BadCell(f"{_shown(cell)} is not among the normal labels")
    if layout.families is None:
        return _name(cell), cell
    if cell not in layout.families:
        raise _BadCell(f"{_shown(cell)} is in no family")
    return _name(cell), layout.families[cell]


def _shown(cell: str) -> str:
    return repr(cell[:SHOWN_LENGTH_MAX])

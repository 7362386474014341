"""What commands print: tables for people, JSON for scripts, errors in two lines."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import typer

from node.exit_codes import error_text, printable

CELL_LENGTH_MAX: Final = 256
"""Longer values are cut in tables; JSON has them whole."""
UNFOLDED: Final = 10_000
"""A width that no table has."""


def show_json(document: Any) -> None:
    """Print a document, in ASCII: whatever the terminal's encoding, it stays JSON."""
    typer.echo(json.dumps(document, indent=2))


def show_json_line(document: Any) -> None:
    """Print a document in one line, for streams."""
    typer.echo(json.dumps(document, separators=(",", ":")))


def show_line(text: str) -> None:
    """Print a line."""
    typer.echo(printable(text))


def show_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one pair a line; values of None are left out."""
    shown = {name: _cell(value) for name, value in fields.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        typer.echo(f"{name:<{width}}  {value}".rstrip())


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table, or the line `empty` where there are no rows.

    On a terminal that is too narrow for it the rows stand below each other, a value a line: a
    folded id can be neither read nor copied.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        typer.echo(empty)
        return
    from rich.box import SIMPLE_HEAD  # slow to import, and JSON never needs it
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console()
    room = console.width
    # A pipe has no width: nothing is folded, so that grep finds whole ids.
    console.width = UNFOLDED
    if console.is_terminal and Measurement.get(console, console.options, table).maximum > room:
        for row in cells:
            show_fields({name: cell or None for name, cell in zip(columns, row, strict=True)})
            typer.echo()
        return
    console.print(table)


def show_warning(text: str) -> None:
    """Print one line to stderr of what whoever goes on should know."""
    typer.echo(f"warning: {printable(text)}", err=True)


def show_error(what: str, advice: str) -> None:
    """Print one line of what is wrong and one of what to do, to stderr."""
    typer.echo(error_text(what, advice), err=True, nl=False)


def _cell(value: Any) -> str:
    if value is None:
        text = ""
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list | tuple):
        text = ", ".join(_cell(item) for item in value)
    elif isinstance(value, Mapping):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value)
    text = printable(text)
    return text if len(text) <= CELL_LENGTH_MAX else text[: CELL_LENGTH_MAX - 1] + "…"

"""What all commands that list something of a node have in common."""

from collections.abc import Callable, Mapping
from typing import Any

from cli.client import Document, ask
from cli.render import show_json, show_table

Columns = Mapping[str, Callable[[Document], Any]]
"""The head of each column of a table, and what stands in it of an item."""


def show_list(
    rpc: str,
    path: str,
    columns: Columns,
    *,
    limit: int,
    as_json: bool,
    empty: str,
    only: Mapping[str, str | None] | None = None,
) -> None:
    """Ask the node at `rpc` for the items of `path` and print them, as JSON or as a table.

    Parameters
    ----------
    limit : int
        How many items at the most.
    empty : str
        Said where there are none.
    only : mapping of str to str or None, optional
        What the items are chosen by; None is any.
    """
    chosen = {name: value for name, value in (only or {}).items() if value is not None}
    items = ask(rpc, lambda client: client.pages(path, limit=limit, **chosen))
    if as_json:
        show_json(items)
        return
    rows = [[cell(item) for cell in columns.values()] for item in items]
    show_table(list(columns), rows, empty=empty)

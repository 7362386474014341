"""``securenet model data``: the files that models are made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.errors import Missed
from cli.options import AsJson, SchemaFile
from cli.progress import Progress
from cli.render import show_fields, show_json, show_table

app = typer.Typer(help="The data that models are made from.", no_args_is_help=True)

_LISTED: Final = ("classes", "families", "unknown")
"""What is shown as tables."""


@app.command()
def check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A file or folder of NSL-KDD, or with --schema a CSV file."
        ),
    ],
    schema: SchemaFile = None,
    as_json: AsJson = False,
) -> None:
    """Read every row of a file of flows; count classes, duplicates, and what is missing.

    A row that cannot be read ends it, named by file, row and column. So does, at the end, a file
    that has the name of one of NSL-KDD and is not the genuine one.

    Example: securenet model data check flows.csv --schema flows.toml
    """
    from cli.data_schema import load_schema_file
    from ml_validator.data_check import check_nsl_kdd, check_table

    layout = None if schema is None else load_schema_file(schema)
    Progress().phase(f"reading {path}")
    files = check_nsl_kdd(path) if layout is None else [check_table(path, layout)]
    if as_json:
        show_json({"files": files})
    else:
        for facts in files:
            _show(facts)
    altered = [facts["file"] for facts in files if facts.get("genuine") is False]
    if altered:
        raise Missed(
            f"{', '.join(altered)}: not the genuine file of that name",
            "fetch it anew; docs/data.md has the digests",
        )


def _show(facts: Mapping[str, Any]) -> None:
    fields = {name: value for name, value in facts.items() if name not in _LISTED}
    show_fields(fields | {"missing": facts.get("missing") or None})
    families = facts.get("families")
    if families is None:
        return
    show_table(["class", "rows"], facts["classes"].items(), empty="no classes")
    show_table(["family", "rows"], families.items(), empty="no families")
    show_table(
        ["column", "rows with unknown values", "different ones", "most frequent"],
        [
            [name, found["rows"], found["values"], found["most"]]
            for name, found in facts["unknown"].items()
        ],
        empty="no unknown categories",
    )

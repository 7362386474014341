"""``securenet fl``: learning together without sharing data."""

import typer

from cli.commands import fl_bench, fl_compare

app = typer.Typer(help="Learning together without sharing data.", no_args_is_help=True)
app.add_typer(fl_compare.app)
app.add_typer(fl_bench.app)

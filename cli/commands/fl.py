"""``securenet fl``: learning together without sharing data."""

import typer

from cli.commands import fl_bench, fl_compare, fl_join, fl_publish, fl_start, fl_status

app = typer.Typer(help="Learning together without sharing data.", no_args_is_help=True)
app.add_typer(fl_start.app)
app.add_typer(fl_join.app)
app.add_typer(fl_status.app)
app.add_typer(fl_publish.app)
app.add_typer(fl_compare.app)
app.add_typer(fl_bench.app)

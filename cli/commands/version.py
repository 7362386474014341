"""``securenet version``."""

import typer

from cli.options import AsJson
from cli.render import show_json, show_line

app = typer.Typer()


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version of this installation.

    Example: securenet version --json
    """
    from importlib.metadata import version as installed_version

    number = installed_version("securenet")
    if as_json:
        show_json({"version": number})
    else:
        show_line(f"securenet {number}")

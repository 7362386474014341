"""``securenet completion``."""

from enum import StrEnum
from typing import Annotated

import typer

from cli.options import AsJson
from cli.render import show_json

app = typer.Typer()


class Shell(StrEnum):
    """The shells for which there is a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to complete in.")] = Shell.BASH,
    as_json: AsJson = False,
) -> None:
    """Print a script that completes the commands and options of securenet.

    Example: source <(securenet completion bash)
    """
    # Typer exports no name for it; its own --show-completion prints for the current shell only.
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(
        prog_name="securenet", complete_var="_SECURENET_COMPLETE", shell=shell.value
    )
    if as_json:
        show_json({"shell": shell.value, "script": script})
    else:
        typer.echo(script)

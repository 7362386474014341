"""The command ``securenet``: the tree of commands, and what becomes of errors.

Each name below is a module of `cli.commands` with a Typer application ``app``, imported when it is
asked for, so that ``securenet version`` does not wait for the libraries of all the others.
"""

import importlib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperGroup

from chain.errors import (
    DecodeError,
    InvalidGenesis,
    InvalidKey,
    Rejection,
    SecureNetError,
    WrongChain,
)
from cli.errors import ALREADY_THERE_ADVICE, CliError, advice_on
from cli.exit_codes import ExitCode
from cli.render import show_error
from node import exit_codes as node_exit_codes
from node.errors import ArchiveGap, BadArchive, FileTaken, Pruned

COMMANDS: Final = (
    "init", "version", "completion", "keys", "testnet", "node", "device", "tx", "query", "miner",
    "param", "policy", "organisation", "model", "blob", "consensus", "signer", "light", "db",
    "fl", "bench", "demo",
)  # fmt: skip

MARKUP: Final = None
"""Help is plain text: Typer's panels cut options short on a narrow terminal."""

_COMPLETION_OPTIONS: Final = ("install_completion", "show_completion")
"""Typer gives them to every application; here they stay those of the root alone."""


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        module = importlib.import_module(f"cli.commands.{name}")
        module.app.rich_markup_mode = MARKUP
        command = typer.main.get_command(module.app)
        command.name = name
        command.params = [p for p in command.params if p.name not in _COMPLETION_OPTIONS]
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _LazyGroup(TyperGroup):
    """A group that names its commands without importing them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]  # nothing adds to it

    def list_commands(self, ctx: object) -> list[str]:
        """Return the names of the commands, in the order of `COMMANDS`."""
        del ctx
        return list(COMMANDS)


app = typer.Typer(
    cls=_LazyGroup,
    name="securenet",
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def _securenet() -> None:
    """SecureNet: a permissioned blockchain that protects fleets of IoT devices.

    Every command explains itself with --help, prints JSON with --json, and ends with a documented
    exit code.

    Example: securenet testnet init --dir testnet && securenet testnet up --dir testnet
    """


def main() -> None:
    """Run the command line of this process and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character shows its number; that is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are told on stderr."""
    try:
        result = typer.main.get_command(app).main(
            list(arguments), prog_name="securenet", standalone_mode=False
        )
    except typer.TyperException as error:
        if (message := str(error.format_message())).startswith("Usage:"):
            # A group without a command: its help.
            typer.echo(message, err=True)
        elif message:
            # Unknown flags and values of the wrong form; the parser knows the command.
            context = getattr(error, "ctx", None)
            command = "securenet" if context is None else context.command_path
            show_error(" ".join(message.split()), f"{command} --help")
        return ExitCode.USAGE
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except SecureNetError as error:
        code, what, advice = explain(error)
        show_error(what, advice)
        return code
    except SystemExit:
        # Typer has completed a word, or nobody reads on, as when `head` has seen enough.
        return ExitCode.OK
    except OSError as error:
        os_code, what, advice = node_exit_codes.explain(error)
        show_error(what, advice)
        return os_code
    return result if isinstance(result, int) else ExitCode.OK


def explain(error: SecureNetError) -> tuple[ExitCode, str, str]:
    """Return the exit code of an error, what is wrong and what to do, in one line each."""
    if isinstance(error, CliError):
        return error.exit_code, error.what, error.advice
    if isinstance(error, FileTaken):
        return ExitCode.ALREADY_THERE, str(error), ALREADY_THERE_ADVICE
    if isinstance(error, Rejection):
        return ExitCode.REFUSED, str(error), advice_on(error.code, 422)
    if isinstance(error, ArchiveGap):
        return ExitCode.USAGE, str(error), "import the blocks before it first"
    if isinstance(error, BadArchive):
        return ExitCode.USAGE, str(error), "nothing was taken from it; export it anew elsewhere"
    if isinstance(error, WrongChain):
        advice = "take what belongs to the chain of this genesis.json"
        return ExitCode.CONFIGURATION, str(error), advice
    if isinstance(error, Pruned):
        advice = "begin where it is kept, or ask a node that keeps more"
        return ExitCode.NOT_FOUND, str(error), advice
    if isinstance(error, InvalidGenesis):
        return (
            ExitCode.CONFIGURATION,
            f"genesis: {error}",
            "take the genesis.json that the chain's other nodes have",
        )
    if isinstance(error, InvalidKey):
        return ExitCode.KEY, str(error), "make one with securenet keys new"
    if isinstance(error, DecodeError):
        return ExitCode.USAGE, str(error), "correct the field that is named"
    if (model_advice := _advice_on_model_error(error)) is not None:
        return ExitCode.USAGE, str(error), model_advice
    code, what, advice = node_exit_codes.explain(error)
    return ExitCode(code), what, advice


def _advice_on_model_error(error: SecureNetError) -> str | None:
    # Imported late: most commands never meet an error of that package.
    from ml_validator.errors import ForeignDataset, ModelError, NoDataset

    match error:
        case ForeignDataset():
            return (
                "say what the columns of another CSV file are by --schema (docs/data.md); for tx "
                "submit, model features --csv makes flows of it"
            )
        case NoDataset() if Path(error.file).is_file():
            return "give the folder of NSL-KDD, or with --schema a CSV file (docs/data.md)"
        case NoDataset():
            return "name the folder with the files of NSL-KDD"
        case ModelError():
            return "check the file that is named"
        case _:
            return None

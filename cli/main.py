"""The command ``securenet``: the tree of commands, and what becomes of errors.

Each name below is a module of `cli.commands` with a Typer application ``app``, imported when it is
asked for, so that ``securenet version`` does not wait for the libraries of all the others.
"""

import errno
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from chain.errors import DecodeError, InvalidGenesis, InvalidKey, Rejection, SecureNetError
from cli.errors import CliError, advice_on
from cli.exit_codes import ExitCode
from cli.render import show_error

COMMANDS: Final = (
    "init", "version", "completion", "keys", "testnet", "node", "device", "tx", "query", "miner",
    "param", "policy", "organisation", "model", "consensus", "light", "db", "bench", "demo",
)  # fmt: skip

_PORT_ADVICE: Final = "stop the program that uses the port, or choose another in config.toml"


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        module = importlib.import_module(f"cli.commands.{name}")
        command = typer.main.get_command(module.app)
        command.name = name
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
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def _securenet() -> None:
    """SecureNet: a permissioned blockchain that protects fleets of IoT devices.

    Every command explains itself with --help, prints one JSON document with --json, and ends with
    a documented exit code.

    Example: securenet testnet init --dir testnet && securenet testnet up --dir testnet
    """


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are told on stderr."""
    try:
        result = typer.main.get_command(app).main(
            list(arguments), prog_name="securenet", standalone_mode=False
        )
    except typer.TyperException as error:
        if str(error.format_message()):
            # Unknown flags and values of the wrong form; the parser knows the command.
            context = getattr(error, "ctx", None)
            command = "securenet" if context is None else context.command_path
            show_error(error.format_message(), f"{command} --help")
        return ExitCode.USAGE
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except SecureNetError as error:
        code, what, advice = explain(error)
        show_error(what, advice)
        return code
    except OSError as error:
        if error.errno == errno.EPIPE:
            # Whoever read our output has seen enough, as `head` does.
            sys.stdout = None  # nothing may be flushed into the pipe
            return ExitCode.OK
        show_error(_os_error(error), _os_advice(error))
        return ExitCode.PORT_TAKEN if _is_taken_port(error) else ExitCode.STORAGE
    return result if isinstance(result, int) else ExitCode.OK


def explain(error: SecureNetError) -> tuple[ExitCode, str, str]:
    """Return the exit code of an error, what is wrong and what to do, in one line each."""
    if isinstance(error, CliError):
        return error.exit_code, error.what, error.advice
    if isinstance(error, Rejection):
        return ExitCode.REFUSED, str(error), advice_on(error.code, 422)
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
    return _explain_below(error)


def _explain_below(error: SecureNetError) -> tuple[ExitCode, str, str]:
    # Imported late: most commands never meet an error of these packages.
    from ml_validator.errors import ModelError
    from node import errors as node_errors

    if isinstance(error, node_errors.KeyFileError):
        return ExitCode.KEY, str(error), "check the file, or make a key with securenet keys new"
    if isinstance(error, node_errors.ConfigError) and _is_taken_port(error.__cause__):
        return ExitCode.PORT_TAKEN, str(error), _PORT_ADVICE
    if isinstance(error, node_errors.StoreLocked):
        return ExitCode.STORAGE, str(error), "securenet testnet down, or stop that process yourself"
    if isinstance(error, node_errors.ConfigError):
        return ExitCode.CONFIGURATION, str(error), "correct the setting or the file that is named"
    if isinstance(error, node_errors.StorageError):
        advice = "docs/operating.md, section Recovery, says what to do"
        return ExitCode.STORAGE, str(error), advice
    if isinstance(error, ModelError):
        return ExitCode.USAGE, str(error), "check the file that is named"
    return ExitCode.FAILED, str(error), "see the message; docs/operating.md says more"


def _is_taken_port(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def _os_advice(error: OSError) -> str:
    if _is_taken_port(error):
        return _PORT_ADVICE
    return "check the path, its permissions and the room on the disk"


def _os_error(error: OSError) -> str:
    said = error.strerror or str(error)
    return said if error.filename is None else f"{error.filename}: {said}"

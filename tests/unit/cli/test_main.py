"""The tree of commands: help everywhere, light to start, and one line for each error."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.errors import Refused
from cli.exit_codes import ExitCode
from cli.main import COMMANDS, app

ROOT = Path(__file__).resolve().parents[3]


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with its words."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name in children:
        yield from commands(children[name], (*path, name))


ALL = list(commands(typer.main.get_command(app)))
NAMES = [" ".join(path) for path, _ in ALL]


def test_the_commands_of_the_interface_are_there():
    promised = """
        init|version|completion|keys new|keys show|keys encrypt|testnet init|testnet up|
        testnet status|testnet logs|testnet down|testnet load|node run|node status|node inspect|
        device register|device list|device show|device rotate|device suspend|device resume|
        device revoke|device release|device appeal|device refuse|query measures|
        tx submit|tx show|tx decode|miner list|miner propose|
        miner vote|param show|param propose|policy show|policy set|query status|query block|
        query device|query behaviour|query verdicts|query models|query events|consensus why|
        db verify|db stats|db compact|db prune|db export|
        db import|node rollback|bench|demo|
        light verify|signer init|signer run|signer floor
    """
    assert {" ".join(name.split()) for name in promised.split("|")} <= set(NAMES)


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=NAMES)
def test_every_command_has_help_with_an_example(securenet, path):
    ended = securenet(*path, "--help")

    assert ended.code == ExitCode.OK
    assert f"Example: securenet {' '.join(path)}" in " ".join(ended.out.split()) or (
        "Example: source <(securenet completion" in ended.out
    )


@pytest.mark.parametrize(("path", "command"), ALL, ids=NAMES)
def test_help_names_every_option_in_full_on_a_narrow_terminal(
    securenet, monkeypatch, path, command
):
    monkeypatch.setenv("COLUMNS", "40")

    ended = securenet(*path, "--help")

    options = {option for param in command.params for option in param.opts if option[0] == "-"}
    assert options <= set(ended.out.replace(",", " ").split())
    assert "completion" not in " ".join(options)


@pytest.mark.parametrize(("path", "command"), ALL, ids=NAMES)
def test_every_command_prints_json_when_asked(path, command):
    options = {option for param in command.params for option in param.opts}

    assert "--json" in options


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=NAMES)
def test_an_unknown_flag_is_one_line_of_what_is_wrong_and_one_of_what_to_do(securenet, path):
    ended = securenet(*path, "--no-such-flag")

    assert ended.code == ExitCode.USAGE
    assert ended.out == ""
    what, advice = ended.err.splitlines()
    assert what.startswith("error: ")
    assert advice == f"  try: securenet {' '.join(path)} --help"


@pytest.mark.parametrize("group", [(), ("db",)], ids=str)
def test_a_group_without_a_command_shows_its_help_line_by_line(securenet, group):
    ended = securenet(*group)

    assert ended.code == ExitCode.USAGE
    assert ended.err.startswith("Usage: securenet")
    assert len(ended.err.splitlines()) > 5


def test_a_missing_option_with_choices_is_told_in_one_line(securenet):
    ended = securenet("model", "export", "abc", "--out", "x")

    assert ended.code == ExitCode.USAGE
    error, advice = ended.err.splitlines()
    assert error == "error: Missing option '--target'. Choose from: c, onnx"
    assert advice == "  try: securenet model export --help"


def test_an_unknown_command_is_told_and_a_near_one_offered(securenet):
    ended = securenet("devcie", "list")

    assert ended.code == ExitCode.USAGE
    assert "No such command 'devcie'" in ended.err
    assert "device" in ended.err


def test_version_starts_without_the_libraries_of_other_commands():
    program = """
import sys
from cli.main import run
run(["version"])
heavy = {"aiohttp", "cryptography", "nacl", "numpy", "rich", "sklearn", "structlog"}
print(*sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    version, loaded = result.stdout.splitlines()
    assert version.startswith("securenet ")
    assert loaded == ""


def test_no_command_loads_scikit_learn_at_its_start():
    program = f"""
import importlib, sys
for name in {COMMANDS!r}:
    importlib.import_module(f"cli.commands.{{name}}")
print("sklearn" in sys.modules, "numpy" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert result.stdout.split() == ["False", "False"]


def test_version_is_that_of_the_project(securenet):
    assert securenet("version", "--json").document == {"version": "0.1.0"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(securenet, shell):
    ended = securenet("completion", shell)

    assert ended.code == ExitCode.OK
    assert "_SECURENET_COMPLETE" in ended.out


def test_completion_knows_the_commands():
    result = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()"],
        cwd=ROOT,
        env={
            "_SECURENET_COMPLETE": "complete_bash",
            "COMP_WORDS": "securenet ver",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
    )

    assert "version" in result.stdout.split()


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "malformed", ExitCode.REFUSED),
        (404, "not_found", ExitCode.NOT_FOUND),
        (422, "not_found", ExitCode.NOT_FOUND),
        (422, "unknown_device", ExitCode.REFUSED),
        (422, "some_new_code", ExitCode.REFUSED),
        (429, "rate_limited", ExitCode.BUSY),
        (503, "mempool_full", ExitCode.BUSY),
        (500, "internal", ExitCode.REFUSED),
    ],
)
def test_every_problem_of_a_node_has_an_exit_code_and_advice(status, code, exit_code):
    error = Refused(status=status, code=code, detail="said the node")

    assert error.exit_code is exit_code
    assert error.what == f"{code}: said the node"
    assert error.advice


@pytest.mark.parametrize("command", ["init", "db verify", "node inspect"])
@pytest.mark.parametrize("below", [".", "home"])
def test_a_file_in_the_place_of_a_home_is_told(securenet, tmp_path, command, below):
    file = tmp_path / "notes.txt"
    file.touch()

    ended = securenet(*command.split(), "--home", file / below)

    assert ended.code == ExitCode.USAGE
    assert ended.err.startswith(f"error: {file} is no directory\n")


@pytest.mark.parametrize("command", ["completion bash", "init --help"])
def test_a_reader_that_goes_away_is_no_error(command):
    program = shlex.join([sys.executable, "-c", "from cli.main import main; main()"])
    # The pipe is closed before anything is printed.
    script = f"{{ sleep 0.1; {program} {command}; }} | true"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], cwd=ROOT, capture_output=True, text=True
    )

    assert (result.returncode, result.stderr) == (0, "")


def test_a_terminal_without_a_character_is_no_error():
    result = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "tx", "show", "--help"],
        cwd=ROOT,
        env={"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr
    assert "securenet tx show 9f3c\\u2026" in result.stdout

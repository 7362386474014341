"""What the pages say of the command line is true."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from cli.exit_codes import ExitCode
from cli.main import app
from node.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
OPERATING = (ROOT / "docs/operating.md").read_text()
FENCE = re.compile(r"^```\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(securenet [^`]+)`")


def commands_in(page: str) -> list[list[str]]:
    """Return every command line of a page: those in blocks, and those in backticks."""
    text = (ROOT / page).read_text()
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    lines += [match.replace("\n", " ") for match in INLINE.findall(FENCE.sub("", text))]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and "=" in words[0]:
            words.pop(0)
        if words and words[0] == "securenet":
            found.append(words[1:])
    return found


def resolve(words: list[str]) -> tuple[object, list[str]]:
    """Return the command that the words name, and the words behind it."""
    command = typer.main.get_command(app)
    rest = list(words)
    while rest and (children := getattr(command, "commands", None)) is not None:
        assert rest[0] in children, f"securenet {' '.join(words)}"
        command = children[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("page", ["README.md", "docs/operating.md"])
def test_every_command_of_a_page_is_there_with_its_options(page):
    lines = commands_in(page)
    assert len(lines) > 5

    for words in lines:
        command, rest = resolve(words)
        known = {option for param in command.params for option in param.opts}  # type: ignore[attr-defined]
        options = {word for word in rest if word.startswith("-") and word != "-"}
        assert options <= known, f"securenet {' '.join(words)}"


def test_the_table_of_exit_codes_is_complete():
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", OPERATING, flags=re.MULTILINE)

    assert [(int(code), name) for code, name in rows] == [(c.value, c.name) for c in ExitCode]


def test_the_table_of_metrics_is_complete():
    metrics = Metrics()
    metrics.peer_refused("x")
    metrics.admission_rejected("x")
    shown = set(re.findall(r"^# TYPE (\w+)", metrics.render().decode(), flags=re.MULTILINE))
    named = set(re.findall(r"`(securenet_\w+)", OPERATING))

    assert {name for name in shown if not name.endswith("_created")} <= named


def test_every_setting_of_the_configuration_is_explained():
    from node.config import NodeConfig, render_config

    settings = re.findall(r"^(\w+) = ", render_config(NodeConfig()), flags=re.MULTILINE)

    assert [name for name in settings if f"`{name}`" not in OPERATING] == []

"""Write docs/attacks.md: which tests show which lines of the list of known attacks.

``python -m scripts.make_attacks`` after a change of ``tests/attacks.toml`` or of a marker
``@pytest.mark.attack("D3")``; with ``--open`` it shows what is still open instead.
"""

import argparse
import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
LIST: Final = ROOT / "tests" / "attacks.toml"
PAGE: Final = ROOT / "docs" / "attacks.md"

SECTIONS: Final = {
    "A": "Liveness and round changes",
    "B": "Safety and Byzantine members",
    "C": "Time",
    "D": "Exhaustion of resources",
    "E": "Membership, keys and privileges",
    "F": "Models and learning",
}
HEAD: Final = """# Known attacks

What has broken systems of this kind, and the tests that show that it does not break this one.
The page is made from `tests/attacks.toml` and from the markers of the tests by
`python -m scripts.make_attacks`; a test fails when it is stale, when a line has neither test nor
note, and when a marker names a line that is not there.
"""
TABLE: Final = ("| | attack | seen in | shown by |", "|---|---|---|---|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A line of the list; see the head of ``tests/attacks.toml``."""

    title: str
    seen: str = ""
    note: str = ""
    open: bool = False


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Marked:
    """A test with a marker; `file` is relative to the project."""

    file: str
    name: str

    @property
    def sentence(self) -> str:
        """What it says."""
        return self.name.removeprefix("test_").replace("_", " ")


def read_attacks(path: Path = LIST) -> dict[str, Attack]:
    """Return the list by ids, in its order."""
    return {id: Attack(**fields) for id, fields in tomllib.loads(path.read_text()).items()}


def read_markers(root: Path = ROOT) -> dict[str, list[Marked]]:
    """Return the tests that are marked, by the ids that they are marked with."""
    found: dict[str, list[Marked]] = defaultdict(list)
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                test = Marked(file=path.relative_to(root).as_posix(), name=node.name)
                for id in _ids(node):
                    found[id].append(test)
    return dict(found)


def render(attacks: Mapping[str, Attack], markers: Mapping[str, list[Marked]]) -> str:
    """Return the page."""
    lines = [HEAD]
    for letter, section in SECTIONS.items():
        lines += [f"## {letter}. {section}", "", *TABLE]
        for id, attack in attacks.items():
            if id.startswith(letter):
                shown = "<br>".join(_shown(attack, sorted(markers.get(id, []))))
                lines.append(f"| {id} | {attack.title} | {attack.seen} | {shown} |")
        lines.append("")
    return "\n".join(lines)


def still_open(attacks: Mapping[str, Attack], markers: Mapping[str, list[Marked]]) -> list[str]:
    """Return the ids of lines that neither a test shows nor a note explains."""
    return [id for id, attack in attacks.items() if not attack.note and id not in markers]


def _shown(attack: Attack, tests: list[Marked]) -> list[str]:
    links = [f"[{test.sentence}](../{test.file})" for test in tests]
    return [attack.note, *links] if attack.note else links or ["*still open*"]


def _ids(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.attack":
            for argument in decorator.args:
                yield ast.literal_eval(argument)


def main() -> None:
    """Write the page, or show what is open."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_attacks", description=__doc__)
    parser.add_argument("--open", action="store_true", help="show what is still open")
    attacks, markers = read_attacks(), read_markers()
    if parser.parse_args().open:
        print(*still_open(attacks, markers))  # noqa: T201
    else:
        PAGE.write_text(render(attacks, markers))


if __name__ == "__main__":
    main()

"""``securenet model adversary``: what detectors find of attacks that hide."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.errors import BadInput, CliError
from cli.options import DEFAULT_RPC, AsJson, Rpc
from cli.progress import Progress
from cli.render import show_json, show_line, show_table

app = typer.Typer()

ATTACKS_MAX: Final = 12_833
"""Attacks in KDDTest+."""
SEED_MAX: Final = 2**32 - 1


@app.command()
def adversary(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with the files of NSL-KDD.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="MODEL", help="Name, digest or file; may be given several times."
        ),
    ] = None,
    attacks: Annotated[
        int, typer.Option("--attacks", min=1, max=ATTACKS_MAX, help="How many are drawn.")
    ] = 200,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=SEED_MAX, help="What chance starts from.")
    ] = 42,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Change attacks of KDDTest+ until a detector calls them normal, and show what it still finds.

    Two attackers, one who pads flows and one who also mixes in honest traffic, each within three
    budgets, by chance and by HopSkipJump. Without --model: forest, logistic regression, the forest
    with a background, and all of them together.

    Example: securenet model adversary --data nsl-kdd --json
    """
    require_toolbox()
    from cli.models import find_model
    from ml_validator.adversaries import bundled, run_all

    models = dict(find_model(text, rpc=rpc) for text in model) if model else bundled()
    if model and len(models) < len(model):
        raise BadInput("two of the models have one name", "rename a file")
    with Progress().bar("detectors done", len(models) + (len(models) > 1)) as bar:

        def on_detector(name: str) -> None:
            del name
            bar.advance()

        made = run_all(data, models, attacks=attacks, seed=seed, on_detector=on_detector)
    if as_json:
        show_json(made.document())
        return
    budgets = made.document()["budgets"]
    show_table(
        ["detector", "attacker", "false alarms", "recall", *(f"budget {b}" for b in budgets)],
        [
            [detector, attacker, _percent(found.false_alarms), _percent(found.recall)]
            + [_percent(found.by_search[budget]) for budget in budgets]
            for detector, by_attacker in made.found.items()
            for attacker, found in by_attacker.items()
        ],
        empty="no detectors",
    )
    show_line(f"in % of {attacks} attacks; docs/spec/ml.md, section 9, says what a budget allows")


def require_toolbox() -> None:
    """Refuse where the attacks are not installed."""
    if find_spec("art") is None:
        raise CliError(
            "adversarial-robustness-toolbox is missing",
            "pip install '.[adversary]' where the project is",
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"

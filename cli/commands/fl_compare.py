"""``securenet fl compare``: federated against central learning, and each by itself."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.errors import BadInput, CliError
from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_json, show_line, show_table
from node.clock import SystemClock

app = typer.Typer()

CLIENTS_MAX: Final = 100
ROUNDS_MAX: Final = 1_000
SEEDS_MAX: Final = 20
FIRST_SEED: Final = 42

_ABOUT: Final = {
    "linear": "logistic regression, 5 classes",
    "network": "32 neurons, 5 classes",
    "forest": "10 trees each, attack or not",
}


@app.command()
def compare(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with KDDTrain+ of NSL-KDD.")
    ],
    clients: Annotated[
        int, typer.Option("--clients", min=2, max=CLIENTS_MAX, help="Organisations.")
    ] = 10,
    alpha: Annotated[
        float,
        typer.Option(
            "--alpha", min=0.01, max=1_000.0, help="How alike their rows are (Dirichlet)."
        ),
    ] = 0.5,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=ROUNDS_MAX, help="Federated rounds.")
    ] = 40,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=SEEDS_MAX, help="How often all is done.")
    ] = 1,
    group_size: Annotated[
        int, typer.Option("--group-size", min=2, max=CLIENTS_MAX, help="Of masked groups.")
    ] = 10,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where compare.json and compare.svg go."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learn from the same rows at a central server, federated over organisations, and alone.

    Takes a minute or so for a seed. A fifth of KDDTrain+ is held out for measuring, 2 % is public.

    Example: securenet fl compare --data nsl-kdd --clients 10 --alpha 0.5 --out comparison
    """
    if out is not None:
        if find_spec("matplotlib") is None:
            raise CliError(
                "matplotlib is missing",
                "pip install '.[report]' where the project is",
            )
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"{out} cannot be made: {error.strerror}", "choose another --out"
            ) from error
    from ml_validator.federated.comparison import Settings, results_of, summary
    from ml_validator.federated.comparison import compare as run
    from ml_validator.nsl_kdd import TRAIN_FILE, check_genuine, file_digest, read_records

    check_genuine(data / TRAIN_FILE)
    settings = Settings(
        clients=clients,
        alpha=alpha,
        rounds=rounds,
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + seeds)),
        group_size=min(group_size, clients),
    )
    records = list(read_records(data / TRAIN_FILE))
    with Progress().bar("ways tried", results_of(settings)) as bar:
        results = run(records, settings, clock=SystemClock().monotonic_ns, on_done=bar.advance)
    document = summary(results, settings)
    document["data"] = {TRAIN_FILE: file_digest(data / TRAIN_FILE)}
    if out is not None:
        from ml_validator.federated.plot import draw

        (out / "compare.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        (out / "compare.svg").write_text(draw(document), encoding="utf-8")
    if as_json:
        show_json(document)
        return
    show_table(
        ["model", "", "way", "accuracy %", "macro F1 %", "moved MB", "seconds"],
        [
            [
                row["model"],
                _ABOUT[row["model"]],
                row["way"],
                _percent(row["accuracy"], row["accuracy_spread"]),
                _percent(row["macro_f1"], row["macro_f1_spread"]),
                f"{row['bytes_moved'] / 1e6:.1f}",
                f"{row['seconds']:.1f}",
            ]
            for row in document["results"]
        ],
        empty="no ways",
    )
    show_line("who could see what")
    for row in document["results"]:
        if row["model"] != "network":
            seen = "; ".join(f"{who}: {what}" for who, what in row["sees"].items())
            show_line(f"  {row['model']}, {row['way']}: {seen}")
    if out is not None:
        show_line(f"the picture is {out / 'compare.svg'}, its figures are in compare.json")


def _percent(value: float, spread: float) -> str:
    return f"{100 * value:.2f} ± {100 * spread:.2f}"

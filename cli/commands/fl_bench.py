"""``securenet fl bench``: federated learning against its targets."""

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.errors import Missed
from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_json, show_line, show_table
from node.clock import SystemClock

app = typer.Typer()

SEEDS_MAX: Final = 20
FIRST_SEED: Final = 42


@app.command()
def bench(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with the files of NSL-KDD.")
    ],
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=SEEDS_MAX, help="How often all is done.")
    ] = 3,
    as_json: AsJson = False,
) -> None:
    """Measure accuracy, attackers, uneven speed and a miner's work; fail where a target is missed.

    Takes some minutes. Figures are means over the seeds; of the speed-up the median.

    Example: securenet fl bench --data nsl-kdd --seeds 3
    """
    from ml_validator.federated.benchmark import PARTS, measure
    from ml_validator.nsl_kdd import TEST_FILE, TRAIN_FILE, check_genuine, read_records

    for name in (TRAIN_FILE, TEST_FILE):
        check_genuine(data / name)
    with Progress().bar("parts done", len(PARTS) * seeds) as bar:
        figures = measure(
            list(read_records(data / TRAIN_FILE)),
            list(read_records(data / TEST_FILE)),
            seeds=range(FIRST_SEED, FIRST_SEED + seeds),
            clock=SystemClock().monotonic_ns,
            on_done=bar.advance,
        )
    missed = [figure.name for figure in figures if figure.missed]
    if as_json:
        show_json(
            [
                {
                    "name": figure.name,
                    "value": round(figure.value, 4),
                    "target": figure.target or None,
                    "missed": figure.missed,
                }
                for figure in figures
            ]
        )
    else:
        show_table(
            ["figure", "value", "target", ""],
            [[f.name, f"{f.value:.2f}", f.target, "missed" if f.missed else ""] for f in figures],
            empty="no figures",
        )
        aims = sum(bool(figure.target) for figure in figures)
        show_line(f"{aims - len(missed)} of {aims} targets reached, {seeds} seeds")
    if missed:
        raise Missed(f"missed: {'; '.join(missed)}", "see the table for by how much")

"""``securenet model sizes``: how small a detector may be."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_json, show_line, show_table

app = typer.Typer()

SEED_MAX: Final = 2**32 - 1
FIRST_SEED: Final = 42


@app.command()
def sizes(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with the files of NSL-KDD.")
    ],
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=SEED_MAX, help="What chance starts from.")
    ] = FIRST_SEED,
    left_out: Annotated[
        bool,
        typer.Option("--left-out", help="Also with types left out of training; takes five times."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train forests of many sizes on KDDTrain+ alone, and show what each takes and finds.

    Takes minutes. Bytes are those of the artefact and of the tables of model export --target c;
    rates are measured on KDDTest+ and, with --left-out, on what was left out of KDDTrain+.

    Example: securenet model sizes --data nsl-kdd --json
    """
    from ml_validator.sizes import BYTES_MAX, LEAVES, TREES, Size, measure_sizes, summary

    with Progress().bar("sizes done", len(TREES) * len(LEAVES)) as bar:

        def on_size(size: Size) -> None:
            del size
            bar.advance()

        found = measure_sizes(data, seed=seed, leave_out=left_out, on_size=on_size)
    document = summary(found, data=data, seed=seed)
    if as_json:
        show_json(document)
        return
    rates = ("accuracy", "f1", "fpr", "unseen_recall")
    gaps = ("by_row", "by_type", "false_alarms", "merit") if left_out else ()
    show_table(
        ["trees", "leaves", "bytes", "in C", *(rate.replace("_", " ") for rate in rates)]
        + [f"left out: {gap.replace('_', ' ')}" for gap in gaps],
        [
            [size["trees"], size["leaves_max"], size["bytes"], size["c_bytes"]]
            + [_percent(size, rate) for rate in rates]
            + [_percent(size["left_out"], gap) for gap in gaps]
            for size in document["sizes"]
        ],
        empty="no sizes",
    )
    chosen = document["chosen"]
    show_line(
        f"in %; {BYTES_MAX} bytes are what a small device has; the bundled nsl-kdd-forest-small has"
        f" {chosen['trees']} trees of {chosen['leaves_max']} leaves"
    )


def _percent(figures: dict[str, Any], name: str) -> str:
    return f"{100 * figures[name]:.1f}"

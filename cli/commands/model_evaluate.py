"""``securenet model evaluate``: how well detectors do on traffic of another kind than they saw."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_json, show_line, show_table

app = typer.Typer()

SEEDS_MAX: Final = 20
FIRST_SEED: Final = 42


@app.command()
def evaluate(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with the files of NSL-KDD.")
    ],
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=SEEDS_MAX, help="How often all is trained.")
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Train on KDDTrain+ alone, threshold included, and measure on KDDTest+ and KDDTest-21.

    Takes minutes. Figures are fractions of 1: means over the seeds, with their spread.

    Example: securenet model evaluate --data nsl-kdd --json
    """
    from ml_validator.honest import TESTS, run_all, summary
    from ml_validator.nsl_kdd import GENUINE_DIGESTS, HARD_TEST_FILE, TEST_FILE, TRAIN_FILE

    with Progress().bar("seeds done", seeds) as bar:

        def on_seed(seed: int) -> None:
            del seed
            bar.advance()

        runs = run_all(data, seeds=range(FIRST_SEED, FIRST_SEED + seeds), on_seed=on_seed)
    digests = {name: GENUINE_DIGESTS[name] for name in (TRAIN_FILE, *TESTS)}
    document = summary(runs, digests=digests)
    if as_json:
        show_json(document)
        return
    for name, part in (
        (TEST_FILE, document),
        (HARD_TEST_FILE, document[HARD_TEST_FILE.removesuffix(".txt")]),
    ):
        show_line(f"{name}, {seeds} seeds, mean ± standard deviation in %")
        modes = part["modes"]
        names = [figure for figure in next(iter(modes.values())) if figure not in _NO_FIGURES]
        show_table(
            ["mode", *(figure.replace("_", " ") for figure in names)],
            [
                [mode, *(_percent(found, figure) for figure in names)]
                for mode, found in modes.items()
            ],
            empty="no modes",
        )
        families = part["families"]
        show_line(
            f"families: accuracy {_percent(families, 'accuracy')},"
            f" macro F1 {_percent(families, 'macro_f1')}"
        )


_NO_FIGURES: Final = ("spread", "seeds")


def _percent(found: dict[str, Any], figure: str) -> str:
    if found[figure] is None:
        return "–"
    return f"{100 * found[figure]:.1f} ± {100 * found['spread'][figure]:.1f}"

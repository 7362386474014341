"""``securenet model evaluate``: how well detectors do on traffic of another kind than they saw."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.data_options import check_for_nsl_kdd, check_for_tables
from cli.options import AsJson, SchemaFile, TestData, TrafficOnly
from cli.progress import Progress
from cli.render import show_json, show_line, show_table

app = typer.Typer()

SEEDS_MAX: Final = 20
FIRST_SEED: Final = 42


@app.command()
def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="PATH", help="The folder of NSL-KDD, or with --schema a CSV file."
        ),
    ],
    schema: SchemaFile = None,
    test: TestData = None,
    traffic_only: TrafficOnly = False,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=SEEDS_MAX, help="How often all is trained.")
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Train on KDDTrain+ alone, threshold included, and measure on KDDTest+ and KDDTest-21.

    With --schema, train on a CSV file and measure on --test, or on a part of the file that each
    seed sets aside. Takes minutes. Figures are fractions of 1: means over the seeds, with their
    spread.

    Example: securenet model evaluate --data nsl-kdd --json
    """
    chosen = range(FIRST_SEED, FIRST_SEED + seeds)
    if schema is None:
        check_for_nsl_kdd(test)
        document, tests = _on_nsl_kdd(data, chosen, traffic_only=traffic_only)
    else:
        check_for_tables(traffic_only=traffic_only)
        document, tests = _on_tables(schema, data, test, chosen)
    if as_json:
        show_json(document)
        return
    for name, part in tests.items():
        _show(name, part, seeds)


def _on_nsl_kdd(
    data: Path, seeds: range, *, traffic_only: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the document, and the figures in it by the name of the test."""
    from ml_validator.honest import TESTS, run_all, summary
    from ml_validator.nsl_kdd import GENUINE_DIGESTS, HARD_TEST_FILE, TEST_FILE, TRAIN_FILE

    with Progress().bar("seeds done", len(seeds)) as bar:
        runs = run_all(
            data, seeds=seeds, traffic_only=traffic_only, on_seed=lambda _: bar.advance()
        )
    digests = {name: GENUINE_DIGESTS[name] for name in (TRAIN_FILE, *TESTS)}
    document = summary(runs, digests=digests)
    return document, {
        TEST_FILE: document,
        HARD_TEST_FILE: document[HARD_TEST_FILE.removesuffix(".txt")],
    }


def _on_tables(
    schema: Path, data: Path, test: Path | None, seeds: range
) -> tuple[dict[str, Any], dict[str, Any]]:
    from cli.data_schema import load_schema_file
    from ml_validator.honest import run_tables, summary
    from ml_validator.table_data import digests_of
    from ml_validator.tables import read_table

    layout = load_schema_file(schema)
    progress = Progress()
    progress.phase(f"reading {data}")
    table = read_table(data, layout)
    asked = None if test is None else read_table(test, layout)
    with progress.bar("seeds done", len(seeds)) as bar:
        runs, found = run_tables(layout, table, asked, seeds=seeds, on_seed=lambda _: bar.advance())
    document = summary(runs, digests=digests_of(table, asked)) | {
        "files": [read.facts() for read in (table, asked) if read is not None],
        "first_seed": found,
    }
    return document, {"a part set aside" if asked is None else asked.name: document}


def _show(name: str, part: dict[str, Any], seeds: int) -> None:
    over = "one seed" if seeds == 1 else f"{seeds} seeds, mean ± standard deviation"
    show_line(f"{name}, {over}, in %")
    modes = part["modes"]
    names = [figure for figure in next(iter(modes.values())) if figure not in _NO_FIGURES]
    show_table(
        ["mode", *(figure.replace("_", " ") for figure in names)],
        [[mode, *(_percent(found, figure) for figure in names)] for mode, found in modes.items()],
        empty="no modes",
    )
    families = part["families"]
    show_line(
        f"families: accuracy {_percent(families, 'accuracy')},"
        f" macro F1 {_percent(families, 'macro_f1')}"
    )
    for figure, reason in part.get("unmeasured", {}).items():
        show_line(f"{figure.replace('_', ' ')} is not measured: {reason}")
    for facts in part.get("files", ()):
        show_line(
            f"{facts['file']}: {facts['rows']} rows, {facts['duplicates']} duplicates,"
            f" {facts['contradictions']} contradictions, {sum(facts['missing'].values())} missing"
        )
    if "first_seed" in part:
        left_out = part["first_seed"]["test"]["left_out"]
        unknown = part["first_seed"]["test"]["unknown"]
        show_line(
            f"left out of the test as known from training: {left_out};"
            f" with unknown categories: {sum(found['rows'] for found in unknown.values())}"
        )


_NO_FIGURES: Final = ("spread", "seeds")


def _percent(found: dict[str, Any], figure: str) -> str:
    if found[figure] is None:
        return "–"
    spread = found["spread"][figure]
    return f"{100 * found[figure]:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")

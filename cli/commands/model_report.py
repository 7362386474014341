"""``securenet model report``: the paper's results, made anew."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.commands.model_adversary import require_toolbox
from cli.errors import BadInput, CliError
from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_json, show_line, show_table

app = typer.Typer()

SEEDS_MAX: Final = 20
FIRST_SEED: Final = 42
_LIBRARIES: Final = ("jinja2", "matplotlib")


@app.command()
def report(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with the files of NSL-KDD.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where report.html and report.json go.")
    ] = Path("build/report"),
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=SEEDS_MAX, help="How often each model is fitted.")
    ] = 5,
    adversary: Annotated[
        bool,
        typer.Option("--adversary", help="Also measure evasion, as model adversary; on KDDTest+."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Do the paper's experiment and set its tables and figures beside those that come out.

    Takes minutes: two models are fitted with and without the leaking column, once for each seed.

    Example: securenet model report --data nsl-kdd --out report
    """
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise CliError(
            f"{' and '.join(missing)} are missing",
            "pip install '.[report]' where the project is",
        )
    if adversary:
        require_toolbox()
    from ml_validator.report.document import SCORE_NAMES, table_2, to_html, to_json
    from ml_validator.report.protocol import MODELS, Run
    from ml_validator.report.run import make_report

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out} cannot be made: {error.strerror}", "choose another --out") from error
    evasion = None
    if adversary:
        from ml_validator.adversaries import bundled, run_all

        Progress().phase("hiding attacks from the detectors of the package")
        evasion = run_all(data, bundled(), seed=FIRST_SEED).document()
    chosen = range(FIRST_SEED, FIRST_SEED + seeds)
    with Progress().bar("models fitted", 2 * len(MODELS) * seeds) as bar:

        def on_run(run: Run) -> None:
            del run
            bar.advance()

        made = make_report(data, seeds=chosen, on_run=on_run)
    made = replace(made, adversaries=evasion)
    page, document = out / "report.html", out / "report.json"
    page.write_text(to_html(made), encoding="utf-8")
    document.write_text(to_json(made), encoding="utf-8")
    rows = table_2(made.runs)
    if as_json:
        show_json({"table_2": rows, "html": str(page), "json": str(document)})
        return
    show_table(
        ["model", "difficulty", *(name.replace("_", " ") for name in SCORE_NAMES)],
        [
            [row["model"], "a feature" if row["difficulty"] else "left out"]
            + [
                f"{row['measured'][name]['mean']:.2f} (paper {row['published'][name]:g})"
                for name in SCORE_NAMES
            ]
            for row in rows
        ],
        empty="no models",
    )
    show_line(f"the report is {page}; its figures are in {document}")

"""``securenet model train``: the models of the package, made anew, or models of other data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.arguments import check_absent
from cli.data_options import check_for_nsl_kdd, check_for_tables
from cli.errors import BadInput
from cli.options import AsJson, SchemaFile, TestData, TrafficOnly
from cli.progress import Progress
from cli.render import show_json, show_line

if TYPE_CHECKING:
    from ml_validator.tables import Layout
    from ml_validator.training import Made

app = typer.Typer()

SEED_MAX: Final = 2**32 - 1
FIRST_SEED: Final = 42
TABLE_COMMAND: Final = "securenet model train --schema SCHEMA --data DATA --out FOLDER"


@app.command()
def train(
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="PATH", help="The folder of NSL-KDD, or with --schema a CSV file."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the models go.")],
    schema: SchemaFile = None,
    test: TestData = None,
    traffic_only: TrafficOnly = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=SEED_MAX, help="What chance starts from.")
    ] = FIRST_SEED,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="KIND",
            help="forest, forest-low-false-alarm, forest-small or linear; may be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train the detectors on KDDTrain+ or on a CSV file, and write them with their manifests.

    A forest in three modes and a logistic regression, each ready for model publish, take minutes.
    Equal seeds and versions give equal files; none is ever overwritten. KDDTest+, or --test, is
    only measured on.

    Example: securenet model train --data nsl-kdd --out models
    """
    from cli.data_schema import load_schema_file
    from ml_validator import training
    from ml_validator.nsl_kdd import dataset_name

    kinds = only or training.KINDS
    for kind in kinds:
        if kind not in training.KINDS:
            raise BadInput(f"--only: no kind is {kind}", f"one of {', '.join(training.KINDS)}")
    if schema is None:
        check_for_nsl_kdd(test)
        files = training.files_of(dataset_name(traffic_only=traffic_only), out, kinds)
        check_absent(files)
        made = training.train(
            data, seed=seed, traffic_only=traffic_only, kinds=kinds, on_begin=_tell
        )
    else:
        check_for_tables(traffic_only=traffic_only)
        layout = load_schema_file(schema)
        files = training.files_of(layout.name, out, kinds)
        check_absent(files)
        made = _train_on_tables(layout, data, test, seed, kinds)
    # Minutes have passed, in which another training may have ended.
    check_absent(files)
    try:
        training.write(made, out)
    except OSError as error:
        raise BadInput(
            f"{out} cannot be written: {error.strerror}", "choose another --out"
        ) from error
    if as_json:
        show_json(
            [
                {
                    "name": manifest.name,
                    "model": manifest.model,
                    "schema": manifest.schema,
                    "file": str(out / f"{manifest.name}.safetensors"),
                    "measured": manifest.measured,
                }
                for _, manifest in made
            ]
        )
        return
    for _, manifest in made:
        for line in training.render(manifest).splitlines():
            show_line(line)


def _train_on_tables(
    layout: "Layout", data: Path, test: Path | None, seed: int, kinds: Sequence[str]
) -> "list[Made]":
    from ml_validator import training
    from ml_validator.table_data import make_dataset
    from ml_validator.tables import read_table

    Progress().phase(f"reading {data}")
    table = read_table(data, layout)
    asked = None if test is None else read_table(test, layout)
    dataset, _ = make_dataset(layout, table, asked)
    return training.train_on(
        dataset,
        seed=seed,
        command=TABLE_COMMAND + (" --test TEST" if test else ""),
        kinds=kinds,
        on_begin=_tell,
    )


def _tell(model: str) -> None:
    Progress().phase(f"training {model}")

"""``securenet model train``: the models of the package, made anew."""

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.errors import BadInput
from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_json, show_line

app = typer.Typer()

SEED_MAX: Final = 2**32 - 1
FIRST_SEED: Final = 42


@app.command()
def train(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A folder with the files of NSL-KDD.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the models go.")],
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=SEED_MAX, help="What chance starts from.")
    ] = FIRST_SEED,
    as_json: AsJson = False,
) -> None:
    """Train the detectors on KDDTrain+, and write them with their manifests.

    A forest in two modes and a logistic regression, each ready for model publish. Takes minutes.
    Equal seeds and versions give equal files. KDDTest+ is only measured on.

    Example: securenet model train --data nsl-kdd --out models
    """
    from ml_validator.training import render, train, write

    Progress().phase("training the forest and the logistic regression")
    made = train(data, seed=seed)
    try:
        write(made, out)
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
                    "file": str(out / f"{manifest.name}.safetensors"),
                    "measured": manifest.measured,
                }
                for _, manifest in made
            ]
        )
        return
    for _, manifest in made:
        for line in render(manifest).splitlines():
            show_line(line)

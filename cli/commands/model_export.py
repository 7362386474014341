"""``securenet model export``: a model for devices and runtimes that are no node."""

from dataclasses import asdict
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.arguments import check_out
from cli.errors import CliError
from cli.options import DEFAULT_RPC, AsJson, Rpc
from cli.render import show_fields, show_json, show_line
from node.files import create_file

if TYPE_CHECKING:
    # It brings numpy, for which no other command should wait.
    from ml_validator import Artifact

app = typer.Typer()


class Target(StrEnum):
    """What a model is written as."""

    C = "c"
    ONNX = "onnx"


@app.command()
def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A bundled model's name, a digest, or a file of safetensors."
        ),
    ],
    target: Annotated[Target, typer.Option("--target", help="C99 source, or an ONNX graph.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new file.")],
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Write a model as C99 or ONNX, and say what it takes of a device.

    C is integers alone, without heap or library. Where a compiler is, it is compiled, compared with
    the model on 20,000 flows, measured and timed on this machine; else its sizes are estimates.

    Example: securenet model export nsl-kdd-linear --target c --out detector.c
    """
    from cli.models import find_model

    if target is Target.ONNX and find_spec("onnx") is None:
        raise CliError("onnx is missing", "pip install '.[export]' where the project is")
    name, artifact = find_model(model, rpc=rpc)
    check_out(out)
    data, made = (_to_c if target is Target.C else _to_onnx)(artifact, name)
    create_file(out, data)
    document = {
        "name": name,
        "model": artifact.digest.hex(),
        "target": target.value,
        "file": str(out),
        "file_bytes": out.stat().st_size,
        "artifact_bytes": len(artifact.data),
        "threshold_ppm": artifact.threshold_ppm,
        **made,
    }
    if as_json:
        show_json(document)
        return
    show_fields(document)
    if document.get("measured") is False:
        show_line("no compiler is here: flash and RAM are estimates, and nothing was compared")


def _to_c(artifact: "Artifact", name: str) -> tuple[bytes, dict[str, Any]]:
    from cli.c_measure import measure
    from ml_validator.export import to_c

    source = to_c(artifact, name=name)
    cost = measure(source, artifact)
    return source.text.encode("ascii"), {"table_bytes": source.table_bytes, **asdict(cost)}


def _to_onnx(artifact: "Artifact", name: str) -> tuple[bytes, dict[str, Any]]:
    from ml_validator.export.onnx_graph import OPSET, OPSET_ML, to_onnx

    return to_onnx(artifact, name=name), {
        "opset": OPSET,
        "opset_ml": OPSET_ML,
        "exact": "equal to the model in ONNX Runtime on a CPU; of other runtimes it is not known",
    }

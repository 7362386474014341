"""``securenet model bench``: how long detectors take."""

import asyncio
from typing import Annotated, Any

import typer

from cli.errors import Missed
from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_json, show_line, show_table

app = typer.Typer()


@app.command()
def bench(
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=1_000, help="How often a block is judged.")
    ] = 20,
    target_block_ms: Annotated[
        float, typer.Option("--target-block-ms", help="A slower block of 2,000 is a failure.")
    ] = 40.0,
    target_flow_ms: Annotated[
        float, typer.Option("--target-flow-ms", help="A slower single flow is a failure.")
    ] = 0.2,
    target_stall_ms: Annotated[
        float, typer.Option("--target-stall-ms", help="A longer stall of the node is a failure.")
    ] = 20.0,
    target_worker_mib: Annotated[
        float, typer.Option("--target-worker-mib", help="A larger worker is a failure.")
    ] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Measure the bundled detectors in the process in which a miner judges, on synthetic flows.

    Times are medians, and include the way to the process and back.

    Example: securenet model bench --json
    """
    from cli.bench.judging import BLOCK_FLOWS, Targets, measure_model
    from ml_validator.bundled import BUNDLED_NAMES
    from node.config import LogConfig
    from node.logs import configure_logs

    configure_logs(LogConfig(level="warning"))
    progress = Progress()
    models: list[dict[str, Any]] = []
    for name in BUNDLED_NAMES:
        progress.phase(f"judging with {name}")
        models.append(asyncio.run(measure_model(name, repeats=repeats)))
    figures = {"flows": BLOCK_FLOWS, "repeats": repeats, "models": models}
    if as_json:
        show_json(figures)
    else:
        show_table(
            ["model", "block ms", "flow ms", "stall ms", "worker MiB", "block / signatures"],
            [list(model.values()) for model in models],
            empty="no models",
        )
    targets = Targets(
        block_ms=target_block_ms,
        flow_ms=target_flow_ms,
        stall_ms=target_stall_ms,
        worker_mib=target_worker_mib,
    )
    missed = targets.missed(figures)
    if missed:
        raise Missed("; ".join(missed), "leave the machine to it alone, or raise the target")
    if not as_json:
        slowest = max(model["block_ms"] for model in models)
        show_line(f"a block of {BLOCK_FLOWS} flows takes at most {slowest:g} ms")

"""``securenet demo``."""

import asyncio
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson
from cli.progress import Progress
from cli.render import show_json, show_line

app = typer.Typer()


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A folder with the files of NSL-KDD; KDDTest+ is replayed.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the figures are written.")
    ] = Path("build/demo.json"),
    directory: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="Where the test network lives while it runs."),
    ] = Path("build/demo"),
    as_json: AsJson = False,
) -> None:
    """Run four miners and fifty devices, honest and otherwise, and sum up what became of them.

    Without --data the devices send synthetic flows: made up, in NSL-KDD's format. The network is
    stopped and removed at the end; after a failure its logs stay.

    Example: securenet demo --data nsl-kdd
    """
    from cli.demo.run import run_demo
    from cli.demo.traffic import ATTACKERS, NORMAL_DEVICES, nsl_kdd_rows, synthetic_rows
    from cli.key_files import open_key
    from cli.testnet.control import running_network, watch_running
    from cli.testnet.create import create_network
    from cli.testnet.network import fresh_directory, write_json

    out.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress()
    rows = synthetic_rows() if data is None else nsl_kdd_rows(data)
    network = create_network(fresh_directory(directory), miners=4, observers=0, base_port=0)
    with running_network(network, progress) as processes:
        rpcs = [node.rpc for node in network.nodes]
        registrar = open_key(network.registrar_key, None)
        guard = partial(watch_running, network, processes)
        report = asyncio.run(run_demo(rpcs, registrar, rows, progress, guard=guard))
    shutil.rmtree(network.directory)
    if as_json:
        show_json(report.document())
    else:
        report.show(attackers=ATTACKERS, others=NORMAL_DEVICES)
    # Last, since a file that cannot be written must not cost the figures.
    write_json(out, report.document())
    if not as_json:
        show_line(f"the figures are in {out}")

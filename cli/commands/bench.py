"""``securenet bench``."""

import asyncio
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import BadInput, Missed, NotRunning
from cli.options import AsJson, Organisation, PassphraseFile
from cli.progress import Progress
from cli.render import show_fields, show_json, show_line

if TYPE_CHECKING:
    from cli.bench.run import Settings

app = typer.Typer()


@app.command()
def bench(
    testnet: Annotated[
        bool,
        typer.Option("--testnet", help="Make a test network of four for it; so it is by default."),
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Measure this test network, which runs."),
    ] = None,
    rpc: Annotated[
        list[str] | None,
        typer.Option("--rpc", metavar="URL", help="Measure these nodes; repeat. Needs --key."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Key file of a registrar.")
    ] = None,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    transactions: Annotated[
        int, typer.Option("--transactions", min=1, max=10_000_000, help="Readings to send.")
    ] = 60_000,
    flows: Annotated[
        int, typer.Option("--flows", min=0, max=10_000_000, help="Flows to send after them.")
    ] = 20_000,
    devices: Annotated[
        int, typer.Option("--devices", min=1, max=10_000, help="Devices that send.")
    ] = 100,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=1_000, help="Transactions in one request.")
    ] = 100,
    wire_bytes: Annotated[
        int, typer.Option("--wire-bytes", min=200, max=1_000, help="Size of a reading.")
    ] = 300,
    under_way: Annotated[
        int,
        typer.Option("--under-way", min=1, help="Transactions sent and not committed, at most."),
    ] = 4_000,
    target_tx_per_s: Annotated[
        float, typer.Option("--target-tx-per-s", help="Fewer committed readings are a failure.")
    ] = 3_000.0,
    target_idle_ms: Annotated[
        float, typer.Option("--target-idle-ms", help="A slower single commit is a failure.")
    ] = 100.0,
    as_json: AsJson = False,
) -> None:
    """Measure throughput, latency, memory and idleness, all through HTTP.

    The devices stay registered, and their organisation's policy is set to observe.

    Example: securenet bench --transactions 200000 --json
    """
    if sum((testnet, directory is not None, bool(rpc))) > 1:
        raise BadInput("there is more than one network to measure", "give one: --dir or --rpc")
    from cli.bench.run import Settings

    settings = Settings(
        transactions=transactions,
        flows=flows,
        devices=devices,
        batch=batch,
        wire_bytes=wire_bytes,
        under_way_max=under_way,
    )
    if rpc:
        if key is None:
            raise BadInput("devices have to be registered first", "give the registrar's --key")
        figures = _measure_nodes(rpc, key, passphrase_file, organisation, settings)
    else:
        figures = _measure_testnet(directory, settings)
    if as_json:
        show_json(figures)
    else:
        show_fields(figures)
    _check(figures, target_tx_per_s, target_idle_ms)
    if not as_json:
        show_line(f"{figures['tx_per_s']:.0f} tx/s, idle {figures['idle_commit_p50_ms']:.0f} ms")


def _measure_nodes(
    rpcs: list[str],
    key: Path,
    passphrase_file: Path | None,
    organisation: str | None,
    settings: "Settings",
) -> dict[str, Any]:
    from cli.bench.run import Bench
    from cli.key_files import open_key

    registrar = open_key(key, passphrase_file)
    measuring = Bench(rpcs, registrar, settings, Progress(), organisation=organisation)
    return asyncio.run(measuring.run())


def _measure_testnet(directory: Path | None, settings: "Settings") -> dict[str, Any]:
    from cli.bench.run import Bench
    from cli.key_files import open_key
    from cli.testnet.control import running_network, running_processes, watch_running
    from cli.testnet.create import create_network
    from cli.testnet.network import fresh_directory, load_network

    progress = Progress()
    if directory is not None:
        network = load_network(directory)
        processes = running_processes(network)
        nodes = [node for node in network.miners if node.name in processes]
        if not nodes:
            raise NotRunning(
                f"no miner of {directory} runs", f"securenet testnet up --dir {directory}"
            )
        measuring = Bench(
            [node.rpc for node in nodes],
            open_key(network.registrar_key, None),
            settings,
            progress,
            processes=[processes[node.name] for node in nodes],
        )
        return asyncio.run(measuring.run())
    place = fresh_directory(Path("build/bench"))
    network = create_network(place, miners=4, observers=0, base_port=0)
    with running_network(network, progress) as processes:
        measuring = Bench(
            [node.rpc for node in network.nodes],
            open_key(network.registrar_key, None),
            settings,
            progress,
            processes=list(processes.values()),
            guard=partial(watch_running, network, processes),
        )
        figures = asyncio.run(measuring.run())
    shutil.rmtree(network.directory)
    return figures


def _check(figures: dict[str, Any], target_tx_per_s: float, target_idle_ms: float) -> None:
    if figures["tx_per_s"] < target_tx_per_s:
        raise Missed(
            f"{figures['tx_per_s']} tx/s are fewer than {target_tx_per_s:g}",
            "leave the machine to the network alone, or lower --target-tx-per-s",
        )
    if figures["idle_commit_p50_ms"] > target_idle_ms:
        raise Missed(
            f"a single commit takes {figures['idle_commit_p50_ms']} ms, over {target_idle_ms:g}",
            "leave the machine to the network alone, or raise --target-idle-ms",
        )

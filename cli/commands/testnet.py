"""``securenet testnet``: networks of nodes on this machine."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.client import connect
from cli.errors import BadInput, Missed, NotRunning, Refused, Unreachable, WaitsForOthers
from cli.options import DEFAULT_TESTNET, AsJson, TestnetDir
from cli.processes import is_running, usage
from cli.progress import Progress
from cli.render import show_fields, show_json, show_line, show_table
from cli.testnet.control import (
    require_running,
    running_network,
    running_processes,
    start_nodes,
    stop_nodes,
    wait_ready,
)
from cli.testnet.last_words import read_end
from cli.testnet.network import Network, Node, load_network

app = typer.Typer(help="Networks of nodes on this machine.", no_args_is_help=True)

DEFAULT_BASE_PORT: Final = 26_756
WATCH_EVERY_S: Final = 0.5
FOLLOW_EVERY_S: Final = 0.3
LOG_CHUNK_BYTES: Final = 64 * 1024
MIB: Final = 1024 * 1024
COLUMNS: Final = (
    "node", "role", "rpc", "pid", "state", "height", "block", "state root", "peers", "MiB",
    "last error",
)  # fmt: skip

NodeNames = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="NAME", help="Only this node, as node0; repeat."),
]


@app.command()
def init(
    directory: TestnetDir = Path(DEFAULT_TESTNET),
    miners: Annotated[int, typer.Option("--miners", min=1, max=100, help="How many miners.")] = 4,
    observers: Annotated[
        int, typer.Option("--observers", min=0, max=100, help="How many nodes that only follow.")
    ] = 0,
    base_port: Annotated[
        int,
        typer.Option(
            "--base-port",
            min=0,
            max=65_535,
            help="P2P port of node 0, its RPC one above; node i adds 10·i. 0: any free ports.",
        ),
    ] = DEFAULT_BASE_PORT,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="Where node i is reached, for nodes on machines of their own; once for each.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the keys, genesis and homes of a test network.

    One organisation, demo, has its registrar's key in DIR/registrar.json; the detector that comes
    with the package judges from the first block on.

    Example: securenet testnet init --miners 4 --dir testnet
    """
    from cli.testnet.create import create_network

    network = create_network(
        directory, miners=miners, observers=observers, base_port=base_port, hosts=host or ()
    )
    if as_json:
        show_json(_describe(network))
        return
    _show_nodes(network)
    if host:
        show_line("copy each home to its machine, and start it: securenet node run --home node0")
    else:
        show_line(f"start it: securenet testnet up --dir {directory}")


@app.command()
def up(
    directory: TestnetDir = Path(DEFAULT_TESTNET),
    node: NodeNames = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once all are ready, and leave them running.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the nodes and wait until they are ready; Ctrl-C stops them all.

    With --detach, nodes that only wait for miners which do not run go on running; the command then
    says so and ends with 7.

    Example: securenet testnet up --dir testnet --detach
    """
    network = load_network(directory)
    nodes = _chosen(network, node)
    if detach:
        before = running_processes(network)
        try:
            processes = start_nodes(network, nodes)
            asyncio.run(wait_ready(network, nodes, processes))
        except WaitsForOthers:
            # Nothing is wrong with them, and whoever starts a network node by node needs them.
            raise
        except BaseException:
            stop_nodes(network, [n for n in nodes if n.name not in before])
            raise
        _report_up(network, as_json)
        return
    if names := ", ".join(running_processes(network)):
        raise BadInput(
            f"{names} of {directory} run already",
            f"securenet testnet down --dir {directory}, or start the others with --detach",
        )
    with running_network(network, Progress(), nodes) as processes:
        _report_up(network, as_json)
        show_line("Ctrl-C stops them")
        while True:
            time.sleep(WATCH_EVERY_S)
            require_running(network, processes)


@app.command()
def status(directory: TestnetDir = Path(DEFAULT_TESTNET), as_json: AsJson = False) -> None:
    """Show which nodes run, how far each is, and what it uses; how the others ended, and why.

    Example: securenet testnet status --dir testnet
    """
    network = load_network(directory)
    document = _describe(network)
    states = asyncio.run(_ask_all(network, network.genesis_hash()))
    for entry, state in zip(document["nodes"], states, strict=True):
        entry["status"] = state
        entry |= _standing(network.log(network.node(entry["name"])), entry["running"])
    if as_json:
        show_json(document)
    else:
        _show_nodes(network, document)


@app.command()
def logs(
    directory: TestnetDir = Path(DEFAULT_TESTNET),
    node: NodeNames = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay and print what comes, until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, help="Lines of each, from the end.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Print the last lines of the nodes' logs.

    Example: securenet testnet logs --dir testnet --node node0 --follow
    """
    network = load_network(directory)
    nodes = _chosen(network, node)
    if as_json:
        show_json({n.name: _tail(network.log(n), lines)[0] for n in nodes})
        return
    places = {}
    for each in nodes:
        tail, places[each.name] = _tail(network.log(each), lines)
        for line in tail:
            show_line(f"{each.name} {line}")
    while follow:
        time.sleep(FOLLOW_EVERY_S)
        for each in nodes:
            fresh, places[each.name] = _read_from(network.log(each), places[each.name])
            for line in fresh:
                show_line(f"{each.name} {line}")


@app.command()
def down(
    directory: TestnetDir = Path(DEFAULT_TESTNET), node: NodeNames = None, as_json: AsJson = False
) -> None:
    """Stop the nodes that testnet up has started, and no other process.

    Example: securenet testnet down --dir testnet
    """
    network = load_network(directory)
    stopped, killed = stop_nodes(network, _chosen(network, node))
    if as_json:
        show_json({"stopped": stopped, "killed": killed})
    else:
        show_line(f"stopped {', '.join(stopped)}" if stopped else "none was running")
    if killed:
        raise NotRunning(
            f"{killed} did not stop when asked, and were killed", "see the end of their logs"
        )


@app.command()
def load(
    directory: TestnetDir = Path(DEFAULT_TESTNET),
    rate: Annotated[
        int, typer.Option("--rate", min=1, max=100_000, help="Readings per second.")
    ] = 100,
    seconds: Annotated[
        int, typer.Option("--seconds", min=1, max=1_000_000, help="For how long.")
    ] = 60,
    devices: Annotated[
        int, typer.Option("--devices", min=1, max=10_000, help="Devices that send.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Send readings at a steady rate to a network that runs, and tell how they committed.

    Example: securenet testnet load --dir testnet --rate 500 --seconds 30
    """
    from cli.key_files import open_key
    from cli.load.steady import steady_load

    network = load_network(directory)
    running = running_processes(network)
    rpcs = [miner.rpc for miner in network.miners if miner.name in running]
    if not rpcs:
        raise NotRunning(f"no miner of {directory} runs", f"securenet testnet up --dir {directory}")
    figures = asyncio.run(
        steady_load(
            rpcs,
            open_key(network.registrar_key, None),
            rate=rate,
            seconds=seconds,
            devices=devices,
            progress=Progress(),
        )
    )
    if as_json:
        show_json(figures)
    else:
        show_fields(figures)


@app.command("perturb")
def perturb_nodes(
    directory: TestnetDir = Path(DEFAULT_TESTNET),
    node: NodeNames = None,
    action: Annotated[
        list[str] | None,
        typer.Option("--action", metavar="WORD", help="kill, pause, restart or wipe; repeat."),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=10_000, help="How many blows.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws what strikes whom.")] = 1,
    away_s: Annotated[
        float, typer.Option("--away-s", min=0, max=3_600, help="How long each node is away.")
    ] = 3.0,
    as_json: AsJson = False,
) -> None:
    """Kill, pause, restart or wipe nodes of a network that runs, and see whether its chain goes on.

    One node at a time. A reading has to be committed while it is away (with four miners and more),
    and again once it is back, until it has caught up and signs; else the command ends with 14.

    Example: securenet testnet perturb --dir testnet --count 6 --seed 7
    """
    from cli.key_files import open_key
    from cli.testnet.perturb import figures, perturb, plan

    network = load_network(directory)
    course = plan(network.nodes, names=node or (), actions=action or (), count=count, seed=seed)
    registrar = open_key(network.registrar_key, None)
    blows = asyncio.run(perturb(network, registrar, course, away_s=away_s, progress=Progress()))
    document = figures(blows)
    if as_json:
        show_json(document)
    else:
        columns = ["number", "action", "node", "commit s", "back s", "went on"]
        rows = [[getattr(blow, name) for name in blow.__slots__] for blow in blows]
        show_table(columns, rows, empty="nothing was done")
        show_line(f"the chain went on in {document['went_on']} of {document['of']}")
    if document["went_on"] < document["of"]:
        raise Missed(
            f"the chain did not go on after {document['of'] - document['went_on']} of "
            f"{document['of']} blows",
            f"securenet consensus why --all --dir {directory}",
        )


def _chosen(network: Network, names: list[str] | None) -> list[Node]:
    return [network.node(name) for name in names] if names else list(network.nodes)


def _describe(network: Network) -> dict[str, Any]:
    recorded = network.processes()
    nodes = []
    for node in network.nodes:
        process = recorded.get(node.name)
        running = process is not None and is_running(process)
        used = usage(process) if process is not None and running else None
        nodes.append(
            {
                "name": node.name,
                "role": node.role,
                "home": str(network.home(node)),
                "rpc": node.rpc,
                "p2p_port": node.p2p_port,
                "running": running,
                "pid": process.pid if process is not None and running else None,
                "rss_mb": None if used is None else round(used.rss_bytes / MIB, 1),
                "cpu_s": None if used is None else round(used.cpu_s, 1),
            }
        )
    return {"directory": str(network.directory), "nodes": nodes}


def _standing(log: Path, running: bool) -> dict[str, Any]:
    """Say whether a node runs or how it ended, the latter as its log has it."""
    end = None if running else read_end(log)
    if end is None:
        state = "running" if running else "never started"
    else:
        state = f"stopped ({'killed' if end.exit_code is None else f'exit code {end.exit_code}'})"
    return {
        "state": state,
        "exit_code": end and end.exit_code,
        "error": end and end.error,
    }


def _report_up(network: Network, as_json: bool) -> None:
    if as_json:
        show_json(_describe(network))
    else:
        _show_nodes(network)


def _show_nodes(network: Network, document: dict[str, Any] | None = None) -> None:
    rows = []
    for entry in (document or _describe(network))["nodes"]:
        state = entry.get("status") or {}
        rows.append(
            [
                entry["name"],
                entry["role"],
                entry["rpc"],
                entry["pid"],
                entry.get("state"),
                state.get("height"),
                state.get("block_hash", "")[:16],
                state.get("state_root", "")[:16],
                state.get("peers"),
                entry["rss_mb"],
                entry.get("error"),
            ]
        )
    # What nobody knows yet, as of a network that never ran, has no column.
    known = [n for n in range(len(COLUMNS)) if any(row[n] not in (None, "") for row in rows)]
    columns = [COLUMNS[n] for n in known]
    show_table(columns, [[row[n] for n in known] for row in rows], empty="no nodes")


async def _ask_all(network: Network, genesis_hash: str) -> list[dict[str, Any] | None]:
    async def ask_one(node: Node) -> dict[str, Any] | None:
        try:
            async with connect(node.rpc, timeout_s=3) as client:
                state = await client.status()
        except (Unreachable, Refused):
            return None
        # A node that is down may have left its port to one of another network.
        return state if state["genesis_hash"] == genesis_hash else None

    return list(await asyncio.gather(*map(ask_one, network.nodes)))


def _tail(path: Path, count: int) -> tuple[list[str], int]:
    """Return the last lines of a file, and where it ends."""
    if not path.exists():
        return [], 0
    end = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, end - LOG_CHUNK_BYTES))
        lines = file.read(LOG_CHUNK_BYTES).decode(errors="replace").splitlines()
    return lines[len(lines) - count :] if count < len(lines) else lines, end


def _read_from(path: Path, place: int) -> tuple[list[str], int]:
    """Return the whole lines behind `place`, and where they end."""
    if not path.exists():
        return [], 0
    with path.open("rb") as file:
        file.seek(place)
        data = file.read(LOG_CHUNK_BYTES)
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode(errors="replace").splitlines(), place + len(whole)

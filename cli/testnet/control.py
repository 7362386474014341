"""Starting and stopping the nodes of a test network, and waiting until they are ready."""

import asyncio
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from cli.client import Client, connect
from cli.errors import NotRunning, PortTaken, TimedOut, Unreachable, WaitsForOthers
from cli.processes import Process, is_running, python_command, start, stop
from cli.progress import Progress
from cli.stall import ask_trouble
from cli.testnet.last_words import last_said
from cli.testnet.network import LOCALHOST, Network, Node
from node.clock import SystemClock

READY_TIMEOUT_S: Final = 60.0
TELL_AFTER_S: Final = 5.0
"""A wait that is longer says what the node waits for."""
_POLL_S: Final = 0.1
_WATCH_S: Final = 0.5


def start_nodes(network: Network, nodes: Sequence[Node]) -> dict[str, Process]:
    """Start those of `nodes` that do not run, and return the processes of all that do.

    Raises
    ------
    PortTaken
        Another program listens where a node is to; then none is started.
    """
    running = running_processes(network)
    absent = [node for node in nodes if node.name not in running]
    for node in absent:
        for port in (node.p2p_port, node.rpc_port):
            _require_free(port, node)
    for node in absent:
        command = python_command("node", "run", "--home", str(network.home(node)))
        running[node.name] = start(command, log=network.log(node), directory=network.directory)
        # Written after each, so that none is ever running without being recorded.
        network.record(running)
    return running


def stop_nodes(network: Network, nodes: Sequence[Node]) -> tuple[list[str], int]:
    """Stop those of `nodes` that run; return their names and how many had to be killed."""
    running = running_processes(network)
    stopping = {node.name: running[node.name] for node in nodes if node.name in running}
    killed = stop(list(stopping.values()))
    network.record({name: running[name] for name in running if name not in stopping})
    return list(stopping), killed


@contextmanager
def running_network(
    network: Network, progress: Progress, nodes: Sequence[Node] = ()
) -> Iterator[dict[str, Process]]:
    """Start `nodes`, by default all, wait until they are ready, and stop them whatever happens.

    SIGTERM ends the block as Ctrl-C does, so that nobody leaves nodes behind.
    """
    nodes = nodes or network.nodes
    # A background job of a script inherits an ignored Ctrl-C, on which SIGTERM builds here.
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _interrupt}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    processes: dict[str, Process] = {}
    try:
        progress.phase(f"starting {len(nodes)} nodes")
        processes = start_nodes(network, nodes)
        asyncio.run(wait_ready(network, nodes, processes))
        yield processes
    except Unreachable:
        # That a node has ended says more than that it does not answer.
        require_running(network, processes)
        raise
    finally:
        progress.phase("stopping the nodes")
        stop_nodes(network, nodes)
        for number, handler in before.items():
            signal.signal(number, handler)


def running_processes(network: Network) -> dict[str, Process]:
    """Return the recorded processes that still run, by the names of their nodes."""
    return {name: process for name, process in network.processes().items() if is_running(process)}


async def wait_ready(
    network: Network,
    nodes: Sequence[Node],
    processes: dict[str, Process],
    *,
    timeout_s: float = READY_TIMEOUT_S,
) -> None:
    """Return once every one of `nodes` answers that it is ready, and the miners know each other.

    Raises
    ------
    NotRunning
        One has ended meanwhile.
    WaitsForOthers
        One hears too few miners, and too few of this network run: waiting longer is in vain.
    TimedOut
        One is not ready in time.
    """
    clock = SystemClock()
    begun_ns = clock.monotonic_ns()
    deadline = begun_ns + int(timeout_s * 1e9)
    tell_from = begun_ns + int(TELL_AFTER_S * 1e9)
    told = ""
    peers = len(network.miners) - 1 if set(network.miners) <= set(nodes) else 0
    for node in nodes:
        async with connect(node.rpc, timeout_s=5) as client:
            while not await client.is_ready(min_peers=peers):
                require_running(network, processes)
                now = clock.monotonic_ns()
                if now >= tell_from:
                    found = await _explain(network, node, client)
                    if now > deadline:
                        why = f": {found}" if found else ""
                        raise TimedOut(
                            f"{node.name} is not ready after {timeout_s:g} s{why}",
                            f"see {network.log(node)}",
                        )
                    if found not in ("", told):
                        Progress().phase(f"{node.name} is not ready yet: {found}")
                        told = found
                await asyncio.sleep(_POLL_S)


async def watch_running(network: Network, processes: dict[str, Process]) -> None:
    """Raise `NotRunning` as soon as one of the processes has ended; never returns."""
    while True:
        require_running(network, processes)
        await asyncio.sleep(_WATCH_S)


def require_running(network: Network, processes: dict[str, Process]) -> None:
    """Raise `NotRunning`, with the last line of its log, if one of the processes has ended."""
    for name, process in processes.items():
        if not is_running(process):
            log = network.log(network.node(name))
            raise NotRunning(f"{name} has ended: {last_said(log)}", f"see {log}")


async def _explain(network: Network, node: Node, client: Client) -> str:
    """Return why a node says that it is not ready, or nothing.

    Raises
    ------
    WaitsForOthers
        It needs more miners than run.
    """
    trouble = await ask_trouble(client)
    if trouble is None:
        return ""
    running = running_processes(network)
    absent = [miner.name for miner in network.miners if miner.name not in running]
    count = len(network.miners) - len(absent)
    if trouble["diagnosis"] == "quorum_lost" and absent and count < trouble["quorum"]:
        others = ", ".join(absent)
        raise WaitsForOthers(
            f"{node.name} runs, and waits for others: {trouble['explanation']}",
            f"start {others} too: securenet testnet up --dir {network.directory} --detach",
        )
    return str(trouble["explanation"])


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    # asyncio ends its tasks in order on this one.
    signal.raise_signal(signal.SIGINT)


def _require_free(port: int, node: Node) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
            probe.listen()
        except OSError as error:
            raise PortTaken(port, node.name) from error

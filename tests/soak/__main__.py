"""`python -m tests.soak`: a network of four real nodes at full load, and what becomes of it."""

import argparse
import asyncio
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from chain.crypto import SEED_SIZE
from chain.genesis import Genesis
from chain.limits import parse_limits
from cli.bench.sign import DeviceKey
from cli.client import Client, connect
from cli.key_files import open_key
from cli.load.fleet import make_device, register, wait_height
from cli.load.watch import CommitWatch
from cli.processes import Process
from cli.progress import Progress
from cli.signing import Sender, registrar_sender
from cli.testnet.control import running_network, watch_running
from cli.testnet.create import create_network
from cli.testnet.network import Network, Node, fresh_directory, write_json
from node.random_source import SystemRandom
from tests.soak.figures import (
    MIB,
    SLOPE_MIB_MAX,
    Sample,
    faults,
    memory_slope_mib,
)
from tests.soak.load import Load

MINERS: Final = 4
DEVICES: Final = 1_000
DEVICE_LIMITS: Final = "50:1,1500:60"
"""Above what each sends, so that the limits are reckoned with and never reached."""
SAMPLES: Final = 120
SETTLE_S: Final = 60.0
MINUTE_S: Final = 60.0


@dataclass(slots=True)
class Run:
    """What a soak has seen.

    Parameters
    ----------
    samples : dict of str to list of Sample
        By the names of the nodes.
    """

    samples: dict[str, list[Sample]]
    committed: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Run it, print a line each minute and one of figures; 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of full load (60)")
    parser.add_argument("--devices", type=int, default=DEVICES, help=f"that send ({DEVICES})")
    arguments = parser.parse_args()
    if arguments.minutes <= 0 or arguments.devices < 1:
        parser.error("there is nothing to do")
    progress = Progress()
    network = create_network(
        fresh_directory(Path("build/soak")), miners=MINERS, observers=0, base_port=0
    )
    with running_network(network, progress) as processes:
        run = asyncio.run(_soak(network, processes, arguments.minutes, arguments.devices, progress))
        disk = {node.name: _disk_bytes(network.home(node)) for node in network.nodes}
    for name, samples in run.samples.items():
        run.wrong += faults(name, samples)
    print(_line(run, disk, arguments.minutes))
    for fault in run.wrong:
        print(f"  {fault}", file=sys.stderr)
    if run.wrong:
        series = {name: list(map(asdict, samples)) for name, samples in run.samples.items()}
        write_json(network.directory / "samples.json", series)
        print(f"  nodes, logs and samples are in {network.directory}", file=sys.stderr)
        return 1
    shutil.rmtree(network.directory)
    return 0


async def _soak(
    network: Network,
    processes: Mapping[str, Process],
    minutes: float,
    device_count: int,
    progress: Progress,
) -> Run:
    run = Run({node.name: [] for node in network.nodes})
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect(node.rpc, attempts=5)) for node in network.nodes
        ]
        genesis = await clients[0].genesis()
        registrar = registrar_sender(genesis, open_key(network.registrar_key, None), None)
        watch = CommitWatch(clients[0])
        workers = stack.enter_context(
            ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))
        )
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(watch.run((await clients[0].status())["height"] + 1)),
                group.create_task(watch_running(network, dict(processes))),
            ]
            progress.phase(f"registering {device_count} devices")
            devices, fleet = _make_fleet(genesis, registrar, device_count)
            limits = parse_limits(DEVICE_LIMITS)
            await register(clients[0], watch, registrar, fleet, limits=limits)
            await wait_height(clients, watch.height)
            watch.commits.clear()
            load = Load(clients, watch, genesis, devices, workers)
            loading = group.create_task(load.run())
            await _watch(run, network, processes, watch, minutes)
            load.stop()
            await loading
            if not await watch.settled(watch.outstanding(), timeout_s=SETTLE_S):
                run.wrong.append(f"{len(watch.outstanding())} transactions do not commit")
            run.committed += len(watch.commits)
            if load.post.refused:
                run.wrong.append(f"refused: {dict(load.post.refused)}")
            run.wrong += await _differences(clients, watch.height)
            for task in beside:
                task.cancel()
    return run


async def _watch(
    run: Run,
    network: Network,
    processes: Mapping[str, Process],
    watch: CommitWatch,
    minutes: float,
) -> None:
    """Sample all nodes at equal intervals until the time is over."""
    begun_s = time.monotonic()
    every_s = minutes * MINUTE_S / SAMPLES
    next_line_s = MINUTE_S
    said = 0
    for number in range(1, SAMPLES + 1):
        await asyncio.sleep(max(0.0, begun_s + number * every_s - time.monotonic()))
        run.committed += len(watch.commits)
        watch.commits.clear()
        run.seconds = time.monotonic() - begun_s
        for node in network.nodes:
            sample = await asyncio.to_thread(_sample, node, processes[node.name], run.seconds)
            run.samples[node.name].append(sample)
        if run.seconds >= next_line_s or number == SAMPLES:
            print(_moment(run, run.committed - said), flush=True)
            said = run.committed
            next_line_s += MINUTE_S


def _sample(node: Node, process: Process, at_s: float) -> Sample:
    with urllib.request.urlopen(f"{node.rpc}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    values: dict[str, float] = {}
    held: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for metric in family.samples:
            if metric.name == "securenet_held":
                held[metric.labels["what"]] = int(metric.value)
            else:
                values[metric.name] = metric.value
    status = Path(f"/proc/{process.pid}/status").read_text()
    memory = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in status.splitlines()
        if line.startswith("Rss")
    }
    return Sample(
        at_s=at_s,
        transactions=int(values["securenet_transactions_committed_total"]),
        height=int(values["securenet_consensus_height"]),
        anonymous_bytes=memory["RssAnon"],
        mapped_bytes=memory["RssFile"],
        descriptors=len(list(Path(f"/proc/{process.pid}/fd").iterdir())),
        tasks=int(values["securenet_process_tasks"]),
        threads=int(values["securenet_process_threads"]),
        held=held,
    )


async def _differences(clients: Sequence[Client], height: int) -> list[str]:
    """Return what is wrong where not all nodes have the same block at `height`."""
    await wait_height(clients, height, timeout_s=SETTLE_S)
    headers = [(await client.block(height))["header"] for client in clients]
    parts = {(header["hash"], header["state_root"]) for header in headers}
    return [] if len(parts) == 1 else [f"the nodes have different blocks at height {height}"]


def _make_fleet(
    genesis: Genesis, registrar: Sender, count: int
) -> tuple[list[DeviceKey], dict[str, Sender]]:
    """Return devices as they are handed to who signs, and as they are registered."""
    keys, senders = [], {}
    for number in range(count):
        seed = SystemRandom().bytes(SEED_SIZE)
        device = make_device(genesis, registrar, seed)
        keys.append(DeviceKey(address=device.address, seed=seed))
        senders[f"soak-{number}"] = device
    return keys, senders


def _moment(run: Run, committed: int) -> str:
    last = {name: samples[-1] for name, samples in run.samples.items()}
    anonymous = [f"{sample.anonymous_bytes / MIB:.0f}" for sample in last.values()]
    mapped = max(sample.mapped_bytes for sample in last.values()) / MIB
    tasks = max(sample.tasks for sample in last.values())
    descriptors = max(sample.descriptors for sample in last.values())
    return (
        f"minute {run.seconds / MINUTE_S:.1f}: {run.committed} transactions (+{committed}), height "
        f"{max(sample.height for sample in last.values())}, memory {'/'.join(anonymous)} MiB and "
        f"up to {mapped:.0f} mapped, {tasks} tasks, {descriptors} descriptors"
    )


def _line(run: Run, disk: Mapping[str, int], minutes: float) -> str:
    def span(name: str) -> str:
        values = [getattr(sample, name) for part in run.samples.values() for sample in part]
        return f"{min(values)} to {max(values)}"

    def growth(*, mapped: bool) -> str:
        slopes = [memory_slope_mib(samples, mapped=mapped) for samples in run.samples.values()]
        known = [found for found in slopes if found is not None]
        return f"{max(known):+.2f} MiB" if known else "not judged"

    per_million = max(disk.values()) / MIB / max(1, run.committed) * 1_000_000
    rate = run.committed / max(run.seconds, 1e-9)
    word = "FAILED" if run.wrong else "passed"
    return (
        f"soak {minutes:g} min {word}: {run.committed} transactions, {rate:.0f}/s; memory "
        f"{growth(mapped=False)} for 100,000 transactions after the warm-up (at most "
        f"{SLOPE_MIB_MAX:g}; {growth(mapped=True)} with mapped tables); descriptors "
        f"{span('descriptors')}, tasks {span('tasks')}, threads {span('threads')}; disk "
        f"{per_million:.0f} MiB a million transactions and node"
    )


def _disk_bytes(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "data").rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())

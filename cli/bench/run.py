"""The measurements, each through the HTTP RPC of a network that runs."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

from chain.crypto import SEED_SIZE, SigningKey, signing_key
from chain.genesis import Genesis
from chain.kinds.policy import PolicySet
from chain.records.policies import PolicyRecord
from cli.bench.baseline import verifications_per_s
from cli.bench.sign import Batch, DeviceKey, body_of, reading_of_size, sign_batches
from cli.client import Client, connect
from cli.errors import CliError, TimedOut
from cli.load.fleet import make_device, register, wait_height
from cli.load.post import Post
from cli.load.watch import CommitWatch, percentile
from cli.processes import Process, Usage, usage
from cli.progress import Bar, Progress
from cli.signing import Sender, registrar_sender, submit
from cli.tasks import Guard, no_guard
from node.clock import SystemClock
from node.random_source import SystemRandom
from node.tasks import first_error

CHUNK: Final = 30_000
"""Transactions signed ahead at a time: they have to be sent within the 60 s that they live."""
POSTS_PER_NODE: Final = 2
SETTLE_TIMEOUT_S: Final = 60.0
IDLE_PAUSE_S: Final = 0.05
IDLE_CPU_S: Final = 10.0
WORKING_PERCENT: Final = 3.0
"""A node that takes more of a core still works on what the load has left it."""
WORKING_S: Final = 2.0
"""How long it is looked at for that."""
WORKING_S_MAX: Final = 60.0
"""After this long nodes count as idle, whatever they do."""
MIB: Final = 1024 * 1024

_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure.

    Parameters
    ----------
    transactions, flows : int
        How many readings and flows to send; 0 leaves that measurement out.
    wire_bytes : int
        Size of a reading's transaction.
    under_way_max : int
        Transactions that are sent and not committed.
    idle_commits : int
        Single transactions sent to an idle network, one after the other.
    """

    transactions: int = 60_000
    flows: int = 20_000
    devices: int = 100
    batch: int = 100
    wire_bytes: int = 300
    under_way_max: int = 4_000
    idle_commits: int = 40


class Bench:
    """One run of the measurements.

    Parameters
    ----------
    rpcs : sequence of str
        Addresses of the nodes; load goes to them in turn.
    processes : sequence of Process
        Those of the nodes, where they run on this machine.
    guard : callable
        Runs beside it, and raises when it makes no sense to go on.
    """

    def __init__(
        self,
        rpcs: Sequence[str],
        registrar: SigningKey,
        settings: Settings,
        progress: Progress,
        *,
        organisation: str | None = None,
        processes: Sequence[Process] = (),
        guard: Guard = no_guard,
    ) -> None:
        self._rpcs = rpcs
        self._registrar_key = registrar
        self._settings = settings
        self._progress = progress
        self._organisation = organisation
        self._processes = processes
        self._guard = guard

    async def run(self) -> dict[str, Any]:
        """Return the figures.

        Raises
        ------
        CliError
            A transaction was refused or lost, or a node failed.
        """
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(connect(rpc, attempts=5)) for rpc in self._rpcs
            ]
            genesis = await clients[0].genesis()
            watch = CommitWatch(clients[0])
            first = (await clients[0].status())["height"] + 1
            workers = stack.enter_context(
                ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))
            )
            stack.enter_context(first_error())
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(watch.run(first)), group.create_task(self._guard())]
                figures = await self._measure(clients, watch, genesis, workers)
                for task in beside:
                    task.cancel()
        return figures

    async def _measure(
        self,
        clients: Sequence[Client],
        watch: CommitWatch,
        genesis: Genesis,
        workers: ProcessPoolExecutor,
    ) -> dict[str, Any]:
        settings = self._settings
        registrar = registrar_sender(genesis, self._registrar_key, self._organisation)
        self._progress.phase(f"registering {settings.devices} devices")
        devices = _make_devices(genesis, registrar, settings.devices)
        await register(clients[0], watch, registrar, _senders(genesis, devices))
        # Flows that a detector dislikes must not end the measurement with quarantined devices.
        observe = PolicySet(policy=PolicyRecord(action="observe"))
        await submit(clients[0], registrar.sign("policy.set", observe), wait=True)
        await wait_height(clients, watch.height)

        figures: dict[str, Any] = {
            "nodes": len(clients),
            "batch": settings.batch,
            "wire_bytes": settings.wire_bytes,
            "idle_commit_p50_ms": await self._idle_commits(clients, genesis, devices),
        }
        readings = [reading_of_size(settings.wire_bytes)]
        before = await self._ceiling(clients, workers)
        figures |= await self._load(
            "readings", settings.transactions, readings, clients, watch, genesis, devices, workers
        )
        # Machines that others use too change from minute to minute.
        ceiling = (before + await self._ceiling(clients, workers)) / 2
        figures["ceiling_tx_per_s"] = round(ceiling, 1)
        figures["share_of_ceiling"] = round(figures["tx_per_s"] / ceiling, 2)
        if settings.flows:
            flows = await self._load(
                "flows", settings.flows, _flow_bodies(), clients, watch, genesis, devices, workers
            )
            figures["tx_per_s_flows_with_detectors"] = flows["tx_per_s"]
        return figures | await self._resources()

    async def _ceiling(self, clients: Sequence[Client], workers: ProcessPoolExecutor) -> float:
        """Return what nodes on this machine that did nothing but verify signatures would commit."""
        self._progress.phase("measuring the machine")
        rate = await verifications_per_s(workers, size_bytes=self._settings.wire_bytes)
        return rate / len(clients)

    async def _idle_commits(
        self, clients: Sequence[Client], genesis: Genesis, devices: Sequence[DeviceKey]
    ) -> float:
        """Return the median time from sending one reading to holding its receipt."""
        body = reading_of_size(self._settings.wire_bytes)
        device = next(iter(_senders(genesis, devices).values()))
        took_ms = []
        with self._progress.bar("single transactions", self._settings.idle_commits) as bar:
            for number in range(self._settings.idle_commits):
                await asyncio.sleep(IDLE_PAUSE_S)
                client = clients[number % len(clients)]
                transaction = device.sign_body("device.data", body)
                started = _CLOCK.monotonic_ns()
                await submit(client, transaction, wait=True)
                took_ms.append((_CLOCK.monotonic_ns() - started) / 1e6)
                bar.advance()
        return round(percentile(took_ms, 50), 1)

    async def _load(
        self,
        what: str,
        total: int,
        bodies: Sequence[bytes],
        clients: Sequence[Client],
        watch: CommitWatch,
        genesis: Genesis,
        devices: Sequence[DeviceKey],
        workers: ProcessPoolExecutor,
    ) -> dict[str, Any]:
        """Send `total` transactions as fast as they commit, and return rate and latency."""
        post = Post(watch)
        seconds = 0.0
        latencies: list[float] = []
        with self._progress.bar(f"committing {what}", total) as bar:
            for start in range(0, total, CHUNK):
                count = min(CHUNK, total - start)
                batches = await self._sign(genesis, devices, bodies, count, workers)
                watch.commits.clear()
                started = _CLOCK.monotonic_ns()
                await self._send(batches, clients, watch, post, bar)
                ids = [id for batch in batches for id in batch.ids]
                if not await watch.settled(ids, timeout_s=SETTLE_TIMEOUT_S):
                    raise TimedOut(
                        f"{len(watch.outstanding())} of {count} {what} do not commit",
                        "see the nodes' logs",
                    )
                if post.refused:
                    raise CliError(
                        f"{what} were refused: {dict(post.refused)}", "see the nodes' logs"
                    )
                commits = watch.commits.values()
                seconds += (max(commit.at_ns for commit in commits) - started) / 1e9
                latencies.extend(commit.latency_ms for commit in commits)
        return {
            "committed": total,
            "tx_per_s": round(total / seconds, 1),
            "latency_ms": {
                "p50": round(percentile(latencies, 50), 1),
                "p99": round(percentile(latencies, 99), 1),
            },
        }

    async def _sign(
        self,
        genesis: Genesis,
        devices: Sequence[DeviceKey],
        bodies: Sequence[bytes],
        count: int,
        workers: ProcessPoolExecutor,
    ) -> list[Batch]:
        loop = asyncio.get_running_loop()
        size = self._settings.batch
        shares = os.cpu_count() or 1
        share = -(-count // shares)
        parts = await asyncio.gather(
            *(
                loop.run_in_executor(
                    workers,
                    sign_batches,
                    genesis.hash,
                    devices,
                    bodies,
                    min(share, count - start),
                    size,
                )
                for start in range(0, count, share)
            )
        )
        return [batch for part in parts for batch in part]

    async def _send(
        self,
        batches: Sequence[Batch],
        clients: Sequence[Client],
        watch: CommitWatch,
        post: Post,
        bar: Bar,
    ) -> None:
        todo = iter(batches)
        async with asyncio.TaskGroup() as group:
            for client in [*clients] * POSTS_PER_NODE:
                group.create_task(self._send_share(client, todo, watch, post, bar))

    async def _send_share(
        self, client: Client, todo: Iterator[Batch], watch: CommitWatch, post: Post, bar: Bar
    ) -> None:
        for batch in todo:
            await watch.room(self._settings.under_way_max)
            await post.send(client, batch.wires, batch.ids)
            bar.advance(len(batch.ids))

    async def _resources(self) -> dict[str, Any]:
        """Return memory after the load, how long it kept the nodes busy, and what idle ones use."""
        if not self._processes:
            return {}
        self._progress.phase("waiting until the nodes rest")
        resident = max([each.rss_bytes for each in self._usages()]) / MIB
        started = _CLOCK.monotonic_ns()
        worked_s = 0.0
        # LevelDB merges the tables of a load behind it, and the last flows are still judged.
        while await self._busiest(WORKING_S) > WORKING_PERCENT and worked_s < WORKING_S_MAX:
            worked_s = (_CLOCK.monotonic_ns() - started) / 1e9
        self._progress.phase(f"watching idle nodes for {IDLE_CPU_S:g} s")
        return {
            "rss_mb": round(resident, 1),
            "afterwork_s": round(worked_s, 1),
            "idle_cpu_percent": round(await self._busiest(IDLE_CPU_S), 1),
        }

    async def _busiest(self, seconds: float) -> float:
        """Watch the nodes for so long, and return the most percent of a core that one has used."""
        before = self._usages()
        await asyncio.sleep(seconds)
        pairs = zip(before, self._usages(), strict=True)
        return 100 * max([late.cpu_s - early.cpu_s for early, late in pairs]) / seconds

    def _usages(self) -> list[Usage]:
        found = [usage(process) for process in self._processes]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            raise CliError("a node has ended", "see the nodes' logs")
        return known


def _make_devices(genesis: Genesis, registrar: Sender, count: int) -> list[DeviceKey]:
    seeds = [SystemRandom().bytes(SEED_SIZE) for _ in range(count)]
    return [
        DeviceKey(address=make_device(genesis, registrar, seed).address, seed=seed)
        for seed in seeds
    ]


def _senders(genesis: Genesis, devices: Sequence[DeviceKey]) -> Mapping[str, Sender]:
    return {
        f"bench-{device.address.hex()[:12]}": Sender(
            genesis_hash=genesis.hash,
            address=device.address,
            key=signing_key("ed25519", device.seed),
        )
        for device in devices
    }


def _flow_bodies() -> list[bytes]:
    from ml_validator.synthetic import NORMAL_PROFILES, generate

    return [
        body_of(record.flow)
        for profile in NORMAL_PROFILES
        for record in generate(profile, 200, seed=0)
    ]

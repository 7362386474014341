"""A steady load of readings, for watching a network at work."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from chain.crypto import SigningKey
from chain.kinds.device_data import DeviceData
from chain.payloads import Measurement, Reading
from cli.client import Client, connect
from cli.load.fleet import make_device, register, wait_height
from cli.load.post import Post
from cli.load.watch import CommitWatch, percentile
from cli.progress import Bar, Progress
from cli.signing import Sender, registrar_sender
from node.clock import SystemClock
from node.tasks import first_error

STEPS_PER_S: Final = 10
"""Each second's transactions go out in so many batches."""
SETTLE_TIMEOUT_S: Final = 70.0

_CLOCK: Final = SystemClock()


async def steady_load(
    rpcs: Sequence[str],
    registrar: SigningKey,
    *,
    rate: int,
    seconds: int,
    devices: int,
    progress: Progress,
) -> dict[str, Any]:
    """Send `rate` readings a second for `seconds`, to the nodes in turn, and return the figures."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(rpc, attempts=5)) for rpc in rpcs]
        genesis = await clients[0].genesis()
        sender = registrar_sender(genesis, registrar, None)
        watch = CommitWatch(clients[0])
        first = (await clients[0].status())["height"] + 1
        stack.enter_context(first_error())
        async with asyncio.TaskGroup() as group:
            following = group.create_task(watch.run(first))
            fleet = [make_device(genesis, sender) for _ in range(devices)]
            names = {f"load-{device.address.hex()[:12]}": device for device in fleet}
            progress.phase(f"registering {devices} devices")
            await register(clients[0], watch, sender, names)
            await wait_height(clients, watch.height)
            watch.commits.clear()
            post = Post(watch)
            with progress.bar("sending readings", rate * seconds) as bar:
                await _send(clients, post, fleet, rate, seconds, bar)
            await watch.settled(watch.outstanding(), timeout_s=SETTLE_TIMEOUT_S)
            following.cancel()
        latencies = [commit.latency_ms for commit in watch.commits.values()]
        return {
            "submitted": post.sent,
            "committed": len(watch.commits),
            "refused": dict(post.refused),
            "lost": len(watch.outstanding()),
            "latency_p50_ms": round(percentile(latencies, 50), 1),
            "latency_p99_ms": round(percentile(latencies, 99), 1),
        }


async def _send(
    clients: Sequence[Client],
    post: Post,
    fleet: Sequence[Sender],
    rate: int,
    seconds: int,
    bar: Bar,
) -> None:
    started = _CLOCK.monotonic_ns()
    sent = 0
    async with asyncio.TaskGroup() as group:
        for step in range(1, seconds * STEPS_PER_S + 1):
            due = rate * step // STEPS_PER_S
            batch = [
                fleet[number % len(fleet)].sign("device.data", _reading(number))
                for number in range(sent, due)
            ]
            if batch:
                client = clients[step % len(clients)]
                wires = [transaction.wire for transaction in batch]
                ids = [transaction.id.hex() for transaction in batch]
                group.create_task(post.send(client, wires, ids))
                bar.advance(due - sent)
            sent = due
            ahead_ns = started + step * 1_000_000_000 // STEPS_PER_S - _CLOCK.monotonic_ns()
            await asyncio.sleep(max(0, ahead_ns) / 1e9)


def _reading(number: int) -> DeviceData:
    measurement = Measurement(name="temperature", value=200 + number % 50, exponent=-1, unit="C")
    return DeviceData(payload=Reading(values=(measurement,)))

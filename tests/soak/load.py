"""A load without end: readings of many devices, signed just ahead of being sent."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from chain.genesis import Genesis
from cli.bench.sign import Batch, DeviceKey, reading_of_size, sign_batches
from cli.client import Client
from cli.load.post import Post
from cli.load.watch import CommitWatch

BATCH: Final = 100
ROUND_BATCHES: Final = 20
"""Batches signed at a time by one process."""
AHEAD_MAX: Final = 60
"""Batches signed and not sent; they live for a minute from their signing on."""
UNDER_WAY_MAX: Final = 4_000
WAIT_S: Final = 0.2
POSTS_PER_NODE: Final = 2
WIRE_BYTES: Final = 300


class Load:
    """Sends as fast as the network commits, until it is told to stop.

    Parameters
    ----------
    devices : sequence of DeviceKey
        Registered ones; each sends in its turn.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        watch: CommitWatch,
        genesis: Genesis,
        devices: Sequence[DeviceKey],
        workers: ProcessPoolExecutor,
    ) -> None:
        self._clients = clients
        self._watch = watch
        self._genesis = genesis
        self._devices = devices
        self._workers = workers
        self._ready: asyncio.Queue[Batch | None] = asyncio.Queue(AHEAD_MAX)
        self._stopping = False
        self.post = Post(watch)

    async def run(self) -> None:
        """Sign and send; returns once what was signed has been sent."""
        senders = [*self._clients] * POSTS_PER_NODE
        async with asyncio.TaskGroup() as group:
            for client in senders:
                group.create_task(self._send(client))
            await self._sign()
            for _ in senders:
                await self._ready.put(None)

    def stop(self) -> None:
        """Sign no more."""
        self._stopping = True

    async def _sign(self) -> None:
        loop = asyncio.get_running_loop()
        bodies = [reading_of_size(WIRE_BYTES)]
        count = BATCH * ROUND_BATCHES
        turn = 0
        while not self._stopping:
            first = turn * count % len(self._devices)
            devices = [*self._devices[first:], *self._devices[:first]]
            batches = await loop.run_in_executor(
                self._workers, sign_batches, self._genesis.hash, devices, bodies, count, BATCH
            )
            turn += 1
            for batch in batches:
                await self._ready.put(batch)

    async def _send(self, client: Client) -> None:
        while (batch := await self._ready.get()) is not None:
            # However late they are: a pool that fills up tells of the load, not of the nodes.
            while len(self._watch.outstanding()) >= UNDER_WAY_MAX:
                await self._watch.block_or(WAIT_S)
            await self.post.send(client, batch.wires, batch.ids)

"""A fleet of devices: keys made for the purpose, registered by the organisation's registrar."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from chain.crypto import SEED_SIZE, signing_key
from chain.genesis import Genesis
from chain.kinds.device_registry import DeviceRegister, device_id
from chain.limits import RateLimits
from cli.client import Client
from cli.errors import CliError, TimedOut
from cli.load.post import Post
from cli.load.watch import CommitWatch
from cli.signing import Sender
from node.random_source import SystemRandom

REGISTER_BATCH: Final = 100
REGISTER_TIMEOUT_S: Final = 60.0


def make_device(genesis: Genesis, registrar: Sender, seed: bytes | None = None) -> Sender:
    """Return a device of the registrar's organisation, not registered yet.

    Its key is made from `seed`, or else from new random bytes.
    """
    key = signing_key("ed25519", seed or SystemRandom().bytes(SEED_SIZE))
    address = device_id(genesis.hash, registrar.address, key.public)
    return Sender(genesis_hash=genesis.hash, address=address, key=key)


async def register(
    client: Client,
    watch: CommitWatch,
    registrar: Sender,
    devices: Mapping[str, Sender],
    *,
    limits: RateLimits | None = None,
) -> int:
    """Register devices under their names, wait until all are, and return how many.

    Raises
    ------
    CliError
        One was refused.
    TimedOut
        They were not registered in time.
    """
    post = Post(watch)
    transactions = [
        registrar.sign(
            "device.register",
            DeviceRegister(
                name=name, key=device.key.public, roles=("sensor",), gateway=None, limits=limits
            ),
        )
        for name, device in devices.items()
    ]
    ids = [transaction.id.hex() for transaction in transactions]
    for start in range(0, len(transactions), REGISTER_BATCH):
        batch = transactions[start : start + REGISTER_BATCH]
        await post.send(client, [t.wire for t in batch], [t.id.hex() for t in batch])
    for code in post.refused:
        raise CliError(f"a device could not be registered: {code}", "see the nodes' logs")
    if not await watch.settled(ids, timeout_s=REGISTER_TIMEOUT_S):
        raise TimedOut(
            f"{len(ids)} devices are not registered after {REGISTER_TIMEOUT_S:g} s",
            "see securenet consensus why and the nodes' logs",
        )
    return len(ids)


async def wait_height(clients: Sequence[Client], height: int, *, timeout_s: float = 30.0) -> None:
    """Return once every node has committed block `height`.

    Raises
    ------
    TimedOut
        One has not, in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            for client in clients:
                await client.wait_height(height)
    except TimeoutError as error:
        raise TimedOut(
            f"not all nodes have block {height} after {timeout_s:g} s",
            "see the nodes' logs",
        ) from error

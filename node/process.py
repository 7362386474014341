"""A node as a process: real ports put together from a home directory, run until a signal.

Everything that can be wrong with the home directory is found before anything is opened for
writing, and told in one line.
"""

import asyncio
import contextlib
import gc
import signal
from pathlib import Path
from typing import Final

import structlog

from chain.crypto import SigningKey, address_of
from chain.errors import InvalidKey
from chain.genesis import Genesis
from chain.types import PublicKey
from node.clock import SystemClock
from node.config import NodeConfig
from node.errors import ConfigError
from node.executor_pool import ThreadPool
from node.home import Home
from node.keys import PrivateKey, load_key, load_private_key
from node.members import Members
from node.metrics import Metrics
from node.p2p.peers import PeerDirectory, PeerEntry
from node.p2p.transport import TlsTransport
from node.protocol import KINDS
from node.random_source import SystemRandom
from node.rpc.server import RpcServer
from node.service import Node, Ports
from node.storage.leveldb import LevelDbStore
from node.storage.lock import HomeLock
from node.storage.wal import Wal
from node.verdict_source import WorkerVerdictSource

LAG_PERIOD_S: Final = 0.5
GC_THRESHOLDS: Final = (1_000_000, 50, 1_000)
"""A node makes few cycles and holds many values for a second or two: looking for cycles after so
many more have come than gone, and not more often, saves it a tenth of its work under load."""

log = structlog.get_logger(__name__)


async def run_node(path: Path, *, passphrase: str | None = None) -> None:
    """Run the node of a home directory until SIGINT or SIGTERM.

    Raises
    ------
    ConfigError, KeyFileError
        The home directory is not one to start from.
    StorageError
        Another process holds it, its files are damaged, or the disk refused.
    """
    home = Home(path)
    config = home.load_config()
    genesis = home.load_genesis()
    key = load_key(home.miner_key, passphrase)
    node_key = load_private_key(home.node_key, passphrase)
    _check_role(config, genesis, key.public, node_key.key.public)
    with contextlib.ExitStack() as stack:
        stack.enter_context(HomeLock(path))
        await _run(home, config, genesis, key, node_key, stack)


async def _run(
    home: Home,
    config: NodeConfig,
    genesis: Genesis,
    key: SigningKey,
    node_key: PrivateKey,
    stack: contextlib.ExitStack,
) -> None:
    clock, random, metrics = SystemClock(), SystemRandom(), Metrics()
    executor = stack.enter_context(ThreadPool(config.threads))
    store = stack.enter_context(contextlib.closing(LevelDbStore(home.chain)))
    wal = stack.enter_context(contextlib.closing(Wal(home.log, random=random)))
    transport = TlsTransport(
        node_id=address_of(node_key.key.public),
        seed=node_key.seed,
        genesis_hash=genesis.hash,
        directory=PeerDirectory(),
        kinds=KINDS,
        host=config.p2p.host,
        port=config.p2p.port,
        clock=clock,
        random=random,
    )
    judges = config.detectors and config.role == "miner"
    verdicts = WorkerVerdictSource() if judges else None
    node = Node(
        genesis=genesis,
        key=key,
        node_id=transport.node_id,
        ports=Ports(
            clock=clock,
            random=random,
            executor=executor,
            store=store,
            wal=wal,
            transport=transport,
            verdicts=verdicts,
        ),
        metrics=metrics,
        mempool=config.mempool.limits(),
        path=home.path,
        on_membership=lambda: transport.update_directory(_directory(node.members, config)),
    )
    transport.update_directory(_directory(node.members, config))
    if config.role == "miner" and node.status().miner_id is None:
        # Right for one that waits to be voted in; otherwise keys and chain do not belong together.
        log.warning(
            "keys/miner.json is no miner's key on this chain; the node only follows it",
            miner=address_of(key.public).hex(),
            height=node.chain.height,
        )
    metrics.watch_process()
    metrics.follow(
        height=lambda: node.chain.height,
        mempool_size=lambda: node.status().mempool_transactions,
        mempool_bytes=lambda: node.status().mempool_bytes,
        peers=lambda: len(transport.connected()),
        round=lambda: node.status().round,
    )
    try:
        await _serve(node, RpcServer(node, config.rpc), metrics)
    finally:
        if verdicts is not None:
            await verdicts.close()


async def _serve(node: Node, rpc: RpcServer, metrics: Metrics) -> None:
    """Run everything until a signal comes or something fails."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(node.run()),
            group.create_task(rpc.run()),
            group.create_task(_watch_lag(metrics)),
        ]
        await stopping.wait()
        log.info("node stops", height=node.chain.height)
        for task in tasks:
            task.cancel()


async def _watch_lag(metrics: Metrics) -> None:
    """Measure how late the event loop is: what a request waits for nothing."""
    loop = asyncio.get_running_loop()
    while True:
        expected = loop.time() + LAG_PERIOD_S
        await asyncio.sleep(LAG_PERIOD_S)
        metrics.eventloop_lag(max(0.0, loop.time() - expected))


def _check_role(config: NodeConfig, genesis: Genesis, key: PublicKey, node_key: PublicKey) -> None:
    """Refuse a miner of the genesis document whose node key is another one.

    A miner that joins later is in no genesis document; the registry of the chain decides then.
    """
    for miner in genesis.miners:
        if miner.key == key and miner.node_key != node_key:
            raise ConfigError(
                "keys/node.json", f"is not the node key that the genesis names for {miner.name}"
            )
    is_named = any(miner.key == key for miner in genesis.miners)
    if config.role == "observer" and is_named:
        raise ConfigError("keys/miner.json", "is a miner's key, but role is observer")


def _directory(members: Members, config: NodeConfig) -> PeerDirectory:
    """Return who may connect: the miners of the registry, and whom the configuration adds."""
    entries: dict[PublicKey, PeerEntry] = {}
    for record in members.records():
        entries[record.node_key] = PeerEntry(
            node_id=address_of(record.node_key),
            public_key=record.node_key,
            host=record.host,
            port=record.port,
        )
    for peer in config.p2p.peers:
        key = PublicKey(bytes.fromhex(peer.node_key))
        known = entries.get(key)
        if known is not None and peer.host is None:
            continue
        try:
            entries[key] = PeerEntry(
                node_id=address_of(key), public_key=key, host=peer.host, port=peer.port
            )
        except InvalidKey as error:
            raise ConfigError("p2p.peers.node_key", str(error)) from error
    return PeerDirectory(tuple(entries.values()))

"""A node as a process: real ports put together from a home directory, run until a signal.

Everything that can be wrong with the home directory is found before anything is opened for
writing, and told in one line.
"""

import asyncio
import contextlib
import gc
import math
import signal
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from chain.crypto import SigningKey, address_of
from chain.errors import DecodeError, InvalidKey
from chain.genesis import Genesis, GenesisMiner
from chain.records.miners import MINER_TABLE, MinerRecord
from chain.types import Address, Digest, PublicKey
from node.allocator import give_back_memory
from node.blobs.files import DirectoryFiles
from node.clock import SystemClock
from node.config import NodeConfig
from node.descriptors import connections_within, raise_descriptor_limit
from node.diagnosis import CODES
from node.errors import ConfigError, CorruptStore, StorageError, WrongKey
from node.executor_pool import ThreadPool
from node.home import Home
from node.keys import PrivateKey, load_key, load_private_key
from node.members import Members
from node.metrics import Metrics
from node.model_service import FETCHED_SIZE_MAX
from node.p2p.peers import PeerDirectory, PeerEntry
from node.p2p.tls import ChannelContexts
from node.p2p.transport import TlsTransport
from node.ports import Log, Random
from node.protocol import KINDS
from node.random_source import SystemRandom
from node.rpc.limits import RpcLimits
from node.rpc.server import RpcServer
from node.service import Node, Ports
from node.signer.link import SignerLink
from node.signer_guard import GuardedLog
from node.storage.leveldb import LevelDbStore
from node.storage.lock import HomeLock
from node.storage.wal import Wal
from node.tasks import first_error
from node.verdict_source import WorkerVerdictSource

LAG_PERIOD_S: Final = 0.5
BULK_THREADS: Final = 4
"""Threads for blobs and federated rounds. A large blob takes as long to be synced as the disk needs
for it, several of them come at once, and to every node; votes and blocks are not to wait."""
GC_THRESHOLDS: Final = (1_000_000, 50, 1_000)
"""A node makes few cycles and holds many values for a second or two: looking for cycles after so
many more have come than gone, and not more often, saves it a tenth of its work under load."""

_Keys = tuple[SigningKey | None, SigningKey | None]
"""The miner's key and the one to come; none where another process has them."""

log = structlog.get_logger(__name__)


async def run_node(path: Path, *, passphrase: str | None = None) -> None:
    """Run the node of a home directory until SIGINT or SIGTERM.

    Raises
    ------
    ConfigError, KeyFileError
        The home directory is not one to start from.
    WrongKey
        Its keys are not those of a miner of the chain, though it is to be one.
    StorageError
        Another process holds it, its files are damaged, or the disk refused.
    """
    give_back_memory()
    home = Home(path)
    config = home.load_config()
    genesis = home.load_genesis()
    node_key = load_private_key(home.node_key, passphrase)
    if config.signer.remote is not None:
        keys: _Keys = (None, None)
        config = _with_remote(home, config, genesis, node_key.key.public)
    else:
        key = load_key(home.miner_key, passphrase)
        next_file = home.next_miner_key
        keys = (key, load_key(next_file, passphrase) if next_file.exists() else None)
        if not home.chain.exists() and config.miner_id is None:
            # Later the registry decides; but a refusal now must not leave a database of this chain.
            founder = next((miner for miner in genesis.miners if miner.key == key.public), None)
            _check_keys(home, config, founder, node_key.key.public)
    with first_error(), HomeLock(path):
        goes_on = True
        while goes_on:
            with contextlib.ExitStack() as stack:
                goes_on = await _run(home, config, genesis, keys, node_key, stack)


async def _run(
    home: Home,
    config: NodeConfig,
    genesis: Genesis,
    keys: _Keys,
    node_key: PrivateKey,
    stack: contextlib.ExitStack,
) -> bool:
    """Run a node until a signal; return whether it is to start again, on a snapshot."""
    clock, random, metrics = SystemClock(), SystemRandom(), Metrics()
    executor = stack.enter_context(ThreadPool(config.threads))
    bulk = stack.enter_context(ThreadPool(BULK_THREADS, name="bulk"))
    store = stack.enter_context(contextlib.closing(LevelDbStore(home.chain)))
    wal = stack.enter_context(contextlib.closing(_open_log(home, config, random)))
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
    judges = config.detectors and config.role != "observer"
    link = None
    if config.signer.address is not None and config.signer.remote_key is not None:
        link = SignerLink(
            host=config.signer.address[0],
            port=config.signer.address[1],
            key=PublicKey(bytes.fromhex(config.signer.remote_key)),
            contexts=ChannelContexts(node_key.seed, random),
            genesis_hash=genesis.hash,
            clock=clock,
            metrics=metrics,
        )
        metrics.watch("signer_reached", "1 while the remote signer is", link.is_reached)

    async def find_model(digest: Digest) -> bytes | None:
        try:
            read = partial(node.blobs.read_whole, digest, size_max=FETCHED_SIZE_MAX)
            return await bulk.run(read)
        except StorageError as error:
            # As if it were not here: it is fetched again, or the miner abstains.
            log.warning("a model could not be read", model=digest.hex(), reason=str(error))
            return None

    verdicts = WorkerVerdictSource(find_model) if judges else None
    node = Node(
        genesis=genesis,
        key=keys[0],
        next_key=keys[1],
        miner=None if config.miner_id is None else Address(bytes.fromhex(config.miner_id)),
        node_id=transport.node_id,
        ports=Ports(
            clock=clock,
            random=random,
            executor=executor,
            bulk=bulk,
            store=store,
            wal=wal,
            files=DirectoryFiles(home.blobs),
            transport=transport,
            verdicts=verdicts,
            signer=link,
        ),
        metrics=metrics,
        mempool=config.mempool.limits(),
        snapshots=config.snapshots.settings(),
        sync=config.sync.settings(),
        pruning=config.pruning.policy(),
        watches_behaviour=True,
        blobs=config.blobs.limits(),
        files=config.blobs.files(),
        path=home.path,
        on_membership=lambda: transport.update_directory(_directory(node.members, config)),
    )
    miner = node.chain.state.get(MINER_TABLE, node.miner)
    if miner is not None or config.miner_id is None:
        _check_keys(home, config, miner, node_key.key.public)
    _tell_role(config, miner, node_key.key.public)
    transport.update_directory(_directory(node.members, config))
    loop = asyncio.get_running_loop()
    metrics.watch_process()
    metrics.watch("process_tasks", "Tasks that run", lambda: len(asyncio.all_tasks(loop)))
    metrics.watch("process_threads", "Threads of Python", threading.active_count)
    metrics.watch(
        "snapshot_height",
        "Height of the latest snapshot of the state that is here for peers",
        lambda: node.snapshot_height,
    )
    metrics.watch_held(node.held)
    metrics.follow(
        height=lambda: node.chain.height,
        mempool_size=lambda: node.status().mempool_transactions,
        mempool_bytes=lambda: node.status().mempool_bytes,
        peers=lambda: len(transport.connected()),
        round=lambda: node.status().round,
    )
    metrics.follow_diagnosis(CODES, lambda: _code_of(node))
    metrics.watch(
        "clock_offset_seconds",
        "Wall clock minus the median of the proposers' clocks, as their blocks arrive",
        lambda: math.nan if (offset := node.clock_offset_ms()) is None else offset / 1_000,
    )
    try:
        return await _serve(node, RpcServer(node, config.rpc, limits=_rpc_limits()), metrics)
    finally:
        if verdicts is not None:
            await verdicts.close()


def _with_remote(
    home: Home, config: NodeConfig, genesis: Genesis, node_key: PublicKey
) -> NodeConfig:
    """Return the configuration of a node whose miner's key is elsewhere, with the miner's id."""
    for file in (home.miner_key, home.next_miner_key):
        if file.exists():
            raise ConfigError(
                str(file), "a remote signer has the miner's key; move this copy away from the node"
            )
    if config.role == "observer":
        raise ConfigError("signer.remote", "an observer signs nothing, but a signer is given")
    miner = config.miner_of(node_key, genesis)
    if miner is None:
        raise ConfigError("miner_id", "is needed with signer.remote: genesis.json does not tell it")
    return config.model_copy(update={"miner_id": miner.hex()})


def _open_log(home: Home, config: NodeConfig, random: Random) -> Log:
    """Open the log of consensus, with its guard where there is one."""
    wal = Wal(home.log, random=random)
    guard = config.signer.guard
    if guard is None:
        return wal
    with contextlib.ExitStack() as undo:
        undo.callback(wal.close)
        notes = Wal(guard, random=random)
        undo.callback(notes.close)
        try:
            guarded = GuardedLog(wal, notes)
        except DecodeError as error:
            raise CorruptStore(guard, f"no guard of {home.log} ({error})") from error
        undo.pop_all()
        return guarded


def _code_of(node: Node) -> str | None:
    diagnosis = node.diagnosis()
    return None if diagnosis is None else diagnosis.code


async def _serve(node: Node, rpc: RpcServer, metrics: Metrics) -> bool:
    """Run everything until a signal comes or something fails.

    Returns
    -------
    bool
        Whether the node has ended by itself, to start again.
    """
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
        tasks[0].add_done_callback(lambda _: stopping.set())
        await stopping.wait()
        goes_on = tasks[0].done()
        if not goes_on:
            log.info("node stops", height=node.chain.height)
        for task in tasks:
            task.cancel()
    return goes_on


async def _watch_lag(metrics: Metrics) -> None:
    """Measure how late the event loop is: what a request waits for nothing."""
    loop = asyncio.get_running_loop()
    while True:
        expected = loop.time() + LAG_PERIOD_S
        await asyncio.sleep(LAG_PERIOD_S)
        metrics.eventloop_lag(max(0.0, loop.time() - expected))


def _rpc_limits() -> RpcLimits:
    """Return the bounds of the RPC, within the descriptors that the system lets the node have."""
    limits = RpcLimits()
    descriptors = raise_descriptor_limit()
    connections_max = connections_within(descriptors, limits.connections_max)
    if connections_max < limits.connections_max:
        log.warning(
            "few files may be open at once; fewer clients are served",
            descriptors=descriptors,
            connections=connections_max,
        )
    return replace(limits, connections_max=connections_max)


def _check_keys(
    home: Home, config: NodeConfig, known: GenesisMiner | MinerRecord | None, node_key: PublicKey
) -> None:
    """Refuse keys which do not fit the role of the node or one another.

    Parameters
    ----------
    known : GenesisMiner, MinerRecord or None
        The member whose key ``keys/miner.json`` is, if any.

    Notes
    -----
    What this node knows may be old: a joiner may have been voted in since, or taken back with
    another node key. So a joiner is let off all of it.
    """
    if config.role == "observer" and known is not None and not _is_removed(known):
        raise ConfigError("keys/miner.json", "is a miner's key, but role is observer")
    if config.role == "miner":
        if known is None:
            raise WrongKey(
                home.miner_key,
                "is not the key of a miner of this chain (one that is still to be voted for waits "
                "as keys/miner.next.json)",
            )
        if known.node_key != node_key:
            raise WrongKey(
                home.node_key,
                f"is not the node key of miner {known.name}, and its peers would refuse it",
            )


def _tell_role(config: NodeConfig, known: MinerRecord | None, node_key: PublicKey) -> None:
    """Tell the operator of a node that cannot vote, as far as this node knows."""
    if config.role == "joiner" and known is None:
        log.info("not a miner yet; the node follows the chain until it is voted in")
    elif config.role != "observer" and known is not None and _is_removed(known):
        log.warning("this miner was removed; the node only follows the chain", name=known.name)
    elif known is not None and known.node_key != node_key:
        log.warning(
            "keys/node.json is not the node key of this miner; peers that know no other refuse it",
            name=known.name,
        )


def _is_removed(known: GenesisMiner | MinerRecord) -> bool:
    return isinstance(known, MinerRecord) and known.status == "removed"


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

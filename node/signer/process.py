"""A signer as a process: its directory opened, served until a signal."""

import asyncio
import contextlib
import signal
from pathlib import Path

import structlog

from chain.errors import DecodeError
from chain.types import PublicKey
from node.errors import CorruptStore
from node.executor_pool import ThreadPool
from node.keys import load_key, load_private_key
from node.p2p.tls import ChannelContexts
from node.random_source import SystemRandom
from node.signer.home import SignerHome, genesis_hash_of
from node.signer.keeper import KeyKeeper
from node.signer.server import SignerServer
from node.storage.wal import Wal
from node.tasks import first_error

log = structlog.get_logger(__name__)


async def run_signer(path: Path, *, passphrase: str | None = None) -> None:
    """Run the signer of a directory until SIGINT or SIGTERM.

    Raises
    ------
    ConfigError, KeyFileError
        The directory is not one to start from, or its port is taken.
    StorageError
        Another process holds the log, it is damaged, or the disk refused.
    """
    home = SignerHome(path)
    settings = home.load_settings()
    files = [home.miner_key]
    if home.next_miner_key.exists():
        files.append(home.next_miner_key)
    keys = [load_key(file, passphrase) for file in files]
    channel = load_private_key(home.channel_key, passphrase)
    random = SystemRandom()
    with first_error(), contextlib.ExitStack() as stack:
        journal = stack.enter_context(contextlib.closing(Wal(home.log, random=random)))
        executor = stack.enter_context(ThreadPool(1, name="signer"))
        try:
            keeper = KeyKeeper(genesis_hash=genesis_hash_of(settings), keys=keys, journal=journal)
        except DecodeError as error:
            raise CorruptStore(home.log, f"no log of a signer ({error})") from error
        server = SignerServer(
            keeper=keeper,
            nodes=[PublicKey(bytes.fromhex(node)) for node in settings.nodes],
            contexts=ChannelContexts(channel.seed, random),
            executor=executor,
            host=settings.host,
            port=settings.port,
        )
        log.info(
            "signer runs",
            signer_key=channel.key.public.hex(),
            port=server.port,
            remembers=keeper.remembers,
        )
        if not keeper.remembers:
            log.warning("the signer has no memory; it signs nothing until a node tells it a floor")
        await _serve(server)


async def _serve(server: SignerServer) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.run())
        await stopping.wait()
        log.info("signer stops")
        serving.cancel()

"""The home of a node that does not run, opened so that none starts on it meanwhile."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chain.genesis import Genesis
from consensus.durable import DurableState, decode_record, recover
from node.errors import ConfigError
from node.executor_pool import ThreadPool
from node.home import Home
from node.ports import Executor
from node.storage import schema, wal_format
from node.storage.chain_store import ChainStore
from node.storage.files import storage_error
from node.storage.kv import prefix_end
from node.storage.leveldb import LevelDbStore
from node.storage.lock import HomeLock


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedNode:
    """An open home.

    Parameters
    ----------
    store : LevelDbStore
        The database; it belongs to the chain of `genesis` or is empty.
    """

    home: Home
    genesis: Genesis
    store: LevelDbStore
    executor: Executor

    def chain(self) -> ChainStore:
        """Return the chain; raises `CorruptStore` where it is not what a node writes."""
        return ChainStore(self.store, self.genesis, self.executor, path=self.home.chain)


@contextmanager
def open_stopped(path: Path, *, create: bool = False) -> Iterator[StoppedNode]:
    """Open the home of a node that does not run, and keep nodes from starting on it.

    Parameters
    ----------
    create : bool
        Whether to make a database where there is none.

    Raises
    ------
    ConfigError
        There is no home, no genesis document, or no database.
    StorageError
        A node runs on it, or the files are damaged.
    """
    home = Home(path)
    genesis = home.load_genesis()
    if not create and not home.chain.is_dir():
        raise ConfigError(str(home.chain), "there is no database; the node has never run")
    with (
        HomeLock(path),
        ThreadPool(1) as executor,
        closing(LevelDbStore(home.chain)) as store,
    ):
        yield StoppedNode(home=home, genesis=genesis, store=store, executor=executor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStats:
    """How much of a database one class of entries is.

    Parameters
    ----------
    size_bytes : int
        Of keys and values; on disk they are compressed.
    disk_bytes : int
        About what they take on disk, without what was written last.
    """

    entries: int
    size_bytes: int
    disk_bytes: int


def stats_of(store: LevelDbStore) -> dict[str, ClassStats]:
    """Count the entries of a database by class; reads all of it."""
    found: dict[str, ClassStats] = {}
    for prefix, name in schema.CLASSES.items():
        entries = size = 0
        for key, value in store.scan(start=prefix, stop=prefix_end(prefix)):
            entries += 1
            size += len(key) + len(value)
        disk = store.approximate_size(start=prefix, stop=prefix_end(prefix))
        found[name] = ClassStats(entries=entries, size_bytes=size, disk_bytes=disk)
    return found


def files_size(path: Path) -> int:
    """Return the bytes of the files in a directory.

    Raises
    ------
    StorageError
        The system refused.
    """
    try:
        return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    except OSError as error:
        raise storage_error(path, error) from error


def signer_state(log: Path) -> DurableState | None:
    """Return what a consensus log remembers, and leave it as it is; None where there is none.

    Raises
    ------
    StorageError
        It is damaged, or cannot be read.
    DecodeError
        It holds a record that nobody wrote.
    """
    try:
        image = log.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(log, error) from error
    records = wal_format.recover(image, path=log).records
    return recover(decode_record(record) for record in records)

"""The home directory of a node: what lies where, and how it is made.

::

    config.toml  genesis.json  keys/miner.json  keys/node.json  data/chain  data/consensus.log
    keys/miner.next.json: while a replacement of the miner's key is awaited
"""

import json
import os
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chain.errors import InvalidGenesis
from chain.genesis import Genesis, parse_genesis, render_genesis
from chain.types import Height
from consensus.durable import Floor, encode_record
from node.config import NodeConfig, load_config, render_config
from node.errors import ConfigError, FileTaken
from node.files import create_file
from node.keys import create_key
from node.ports import Random
from node.storage.files import make_directory
from node.storage.wal import Wal, remove_wal

HOME_VARIABLE: Final = "SECURENET_HOME"
GENESIS_SIZE_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeyHome:
    """The places in a directory that holds the key of a miner, of a node or of its signer."""

    path: Path

    @property
    def miner_key(self) -> Path:
        """The key that signs consensus and the miner's transactions."""
        return self.path / "keys" / "miner.json"

    @property
    def next_miner_key(self) -> Path:
        """The key that is to take the place of `miner_key`, where there is one."""
        return self.path / "keys" / "miner.next.json"


@dataclass(frozen=True, slots=True)
class Home(KeyHome):
    """The places in a home directory."""

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.path / "config.toml"

    @property
    def genesis(self) -> Path:
        """The genesis document."""
        return self.path / "genesis.json"

    @property
    def node_key(self) -> Path:
        """The key by which peers know the node."""
        return self.path / "keys" / "node.json"

    @property
    def chain(self) -> Path:
        """The database."""
        return self.path / "data" / "chain"

    @property
    def blobs(self) -> Path:
        """The directory of blobs."""
        return self.path / "data" / "blobs"

    @property
    def log(self) -> Path:
        """The write-ahead log of consensus."""
        return self.path / "data" / "consensus.log"

    def load_config(self) -> NodeConfig:
        """Read the configuration; raises `ConfigError`."""
        return load_config(self.config)

    def load_genesis(self) -> Genesis:
        """Read the genesis document; raises `ConfigError`."""
        return load_genesis(self.genesis)


def default_home() -> Path:
    """Return ``SECURENET_HOME``, or ``~/.securenet``."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".securenet"


def load_genesis(path: Path) -> Genesis:
    """Read a genesis document.

    Raises
    ------
    ConfigError
        It cannot be read, is no JSON, or breaks a rule.
    """
    try:
        if path.stat().st_size > GENESIS_SIZE_MAX:
            raise ConfigError(str(path), f"larger than {GENESIS_SIZE_MAX} bytes")
        return parse_genesis(json.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"is no JSON: {error}") from error
    except InvalidGenesis as error:
        raise ConfigError(str(path), str(error)) from error


def init_home(
    path: Path,
    config: NodeConfig,
    random: Random,
    *,
    genesis: Genesis | None = None,
    passphrase: str | None = None,
) -> Home:
    """Make a home directory: keys, configuration, and a log that remembers having signed nothing.

    All of it, or nothing: what was made before a failure is removed again. The configuration is
    written last, so that a home with one is whole even where the machine stopped meanwhile.

    Parameters
    ----------
    genesis : Genesis, optional
        The chain to take part in; `write_genesis` adds it later otherwise.
    passphrase : str, optional
        Encrypts the keys; by default the environment's ``SECURENET_PASSPHRASE``.

    Raises
    ------
    FileTaken, KeyFileError, StorageError
        Something is there already, or cannot be written.
    """
    home = Home(path)
    for taken in (home.config, home.miner_key, home.node_key, home.log, home.chain):
        if taken.exists():
            raise FileTaken(str(taken), "exists already; choose another home directory")
    with ExitStack() as undo:
        for directory in (path, home.miner_key.parent, home.log.parent):
            if not directory.is_dir():
                undo.callback(_remove_directory, directory)
                make_directory(directory)
        for key in (home.miner_key, home.node_key):
            create_key(key, "ed25519", random, passphrase)
            undo.callback(key.unlink)
        undo.callback(remove_wal, home.log)
        # Without this record a miner has lost its memory and waits before it votes.
        with closing(Wal(home.log, random=random)) as wal:
            wal.append([encode_record(Floor(height=Height(0)))])
        if genesis is not None:
            write_genesis(home.genesis, genesis)
            undo.callback(home.genesis.unlink)
        create_file(home.config, render_config(config).encode())
        undo.pop_all()
    return home


def write_genesis(path: Path, genesis: Genesis) -> None:
    """Write a genesis document to a new file; raises `ConfigError`."""
    create_file(path, (json.dumps(render_genesis(genesis), indent=2) + "\n").encode())


def _remove_directory(path: Path) -> None:
    # It may never have been made, and somebody may have put something there meanwhile.
    with suppress(OSError):
        path.rmdir()

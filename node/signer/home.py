"""The directory of a signer: what lies where, and how it is made of a node's.

::

    signer.toml  keys/miner.json  keys/miner.next.json  keys/signer.json  data/signer.log

The log is never restored from a backup: it is what keeps the key from signing two things.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chain.certificate import VoteType, vote_bytes
from chain.crypto import check_public_key
from chain.errors import DecodeError, InvalidKey
from chain.genesis import Genesis
from chain.types import Digest, Height, PublicKey
from consensus.durable import DurableState, Floor
from consensus.key_memory import (
    KeyRecord,
    SignedStatement,
    decode_key_record,
    encode_key_record,
    recover_keys,
)
from node.config import LogConfig, NodeKey, Port, first_fault, read_toml
from node.errors import ConfigError, CorruptStore, FileTaken
from node.files import create_file
from node.home import Home, KeyHome
from node.keys import copy_key, create_key
from node.ports import Random
from node.rpc.config import Host
from node.stopped import signer_state
from node.storage.files import make_directory
from node.storage.lock import HomeLock
from node.storage.wal import Wal, remove_wal

SIGNER_PORT_DEFAULT: Final = 26758
NODES_MAX: Final = 16
"""Nodes that may ask one signer."""


class SignerSettings(BaseModel):
    """What ``signer.toml`` says.

    Parameters
    ----------
    genesis_hash : str
        The chain that is signed for.
    nodes : list of str
        Public node keys of those that may ask.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    host: Host = "127.0.0.1"
    port: Port = SIGNER_PORT_DEFAULT
    genesis_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    nodes: Annotated[list[NodeKey], Field(min_length=1, max_length=NODES_MAX)]
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for node in self.nodes:
            try:
                check_public_key(bytes.fromhex(node))
            except InvalidKey as error:
                raise ValueError(f"nodes: {node} is {error}") from error
        return self


@dataclass(frozen=True, slots=True)
class SignerHome(KeyHome):
    """The places in the directory of a signer."""

    @property
    def config(self) -> Path:
        """The settings."""
        return self.path / "signer.toml"

    @property
    def channel_key(self) -> Path:
        """The key by which nodes know the signer."""
        return self.path / "keys" / "signer.json"

    @property
    def log(self) -> Path:
        """What was signed."""
        return self.path / "data" / "signer.log"

    def load_settings(self) -> SignerSettings:
        """Read the settings; raises `ConfigError`."""
        document = read_toml(self.config)
        try:
            settings = SignerSettings.model_validate(document)
        except ValidationError as error:
            where, reason = first_fault(error)
            raise ConfigError(f"{self.config}: {where}", reason) from error
        if settings.log.file is None:
            return settings
        log = settings.log.model_copy(update={"file": self.path / settings.log.file})
        return settings.model_copy(update={"log": log})


def init_signer(
    path: Path,
    node: Home,
    random: Random,
    *,
    host: str,
    port: int,
    nodes: Sequence[PublicKey],
    passphrase: str | None = None,
) -> PublicKey:
    """Make the directory of a signer from the home of a node that does not run.

    The keys are copied and stay where they are; of the node's log the signer takes over what was
    signed. All of it, or nothing, but for the directories.

    Returns
    -------
    PublicKey
        By which the nodes are to know the signer.

    Raises
    ------
    ConfigError, KeyFileError
        There is a signer already, or no node to make it from.
    StorageError
        The node runs, or the disk refused.
    """
    home = SignerHome(path)
    for taken in (home.config, home.miner_key, home.channel_key, home.log):
        if taken.exists():
            raise FileTaken(str(taken), "exists already; choose another directory")
    genesis = node.load_genesis()
    with HomeLock(node.path), ExitStack() as undo:
        state = signer_state(node.log)
        for directory in (path, home.miner_key.parent, home.log.parent):
            make_directory(directory)
        copies = [(node.miner_key, home.miner_key)]
        if node.next_miner_key.exists():
            copies.append((node.next_miner_key, home.next_miner_key))
        for source, target in copies:
            copy_key(source, target, random, passphrase=passphrase, new_passphrase=passphrase)
            undo.callback(target.unlink)
        key = create_key(home.channel_key, "ed25519", random, passphrase)
        undo.callback(home.channel_key.unlink)
        undo.callback(remove_wal, home.log)
        records = [] if state is None else memory_of(state, genesis)
        with closing(Wal(home.log, random=random)) as journal:
            journal.append([encode_key_record(record) for record in records])
        create_file(home.config, _render(genesis, host, port, nodes).encode())
        undo.pop_all()
    return key.public


def set_floor(path: Path, height: Height, random: Random) -> bool:
    """Let a signer without memory sign from `height` on; False where it has memory.

    Raises
    ------
    ConfigError
        There is no signer.
    StorageError
        It runs, its log is damaged, or the disk refused.
    """
    home = SignerHome(path)
    home.load_settings()
    with closing(Wal(home.log, random=random)) as journal:
        try:
            memory = recover_keys(decode_key_record(record) for record in journal.records())
        except DecodeError as error:
            raise CorruptStore(home.log, f"no log of a signer ({error})") from error
        if memory.floor is not None:
            return False
        journal.append([encode_key_record(Floor(height=height))])
    return True


def memory_of(state: DurableState, genesis: Genesis) -> list[KeyRecord]:
    """Return what a signer has to remember of what a miner has signed; nothing if it forgot."""
    if state.floor is None:
        return []
    records: list[KeyRecord] = [Floor(height=state.floor)]
    if state.prepared is not None:
        # Of an earlier round its COMMIT is not kept, but what it was on.
        commit = vote_bytes(
            genesis_hash=genesis.hash,
            type=VoteType.COMMIT,
            height=state.prepared.height,
            round=state.prepared.round,
            digest=state.prepared.digest,
        )
        if not state.messages or state.prepared.round < state.messages[-1].round:
            records.append(SignedStatement(statement=commit))
    said = (message.statement(genesis.hash) for message in state.messages)
    return [*records, *(SignedStatement(statement=statement) for statement in said)]


def genesis_hash_of(settings: SignerSettings) -> Digest:
    """Return the chain of a signer."""
    return Digest(bytes.fromhex(settings.genesis_hash))


def _render(genesis: Genesis, host: str, port: int, nodes: Sequence[PublicKey]) -> str:
    keys = ", ".join(json.dumps(key.hex()) for key in nodes)
    return (
        "# A signer: it has a miner's key, and signs for its nodes.\n"
        f"host = {json.dumps(host)}\n"
        f"port = {port}\n"
        f"genesis_hash = {json.dumps(genesis.hash.hex())}  # the chain {genesis.chain_id}\n"
        f"nodes = [{keys}]  # public node keys of those that may ask\n"
        "\n"
        "# [log]  # as in config.toml of a node\n"
    )

"""The configuration of a node: ``config.toml`` in its home directory."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chain.crypto import address_of, check_public_key
from chain.errors import InvalidKey
from chain.genesis import Genesis
from chain.transactions import TRANSACTION_SIZE_MAX
from chain.types import HEIGHT_MAX, Address, Digest, PublicKey
from node.blobs.ledger import FileLimits
from node.blobs.store import BlobLimits
from node.errors import ConfigError
from node.executor_pool import THREADS_DEFAULT, THREADS_MAX
from node.mempool import MEMPOOL_SIZE_BYTES_MAX, MEMPOOL_TRANSACTIONS_MAX, MempoolLimits
from node.pruner import Keep, PruningPolicy
from node.rpc.config import Host, RpcConfig
from node.snapshot_service import (
    INTERVAL_BLOCKS_DEFAULT,
    KEEP_DEFAULT,
    KEEP_MAX,
    SnapshotSettings,
)
from node.state_sync import BEYOND_BLOCKS_DEFAULT, SyncSettings, Trusted
from node.storage.schema import RECEIPTS, REGISTRY, TELEMETRY, VERDICTS

P2P_PORT_DEFAULT: Final = 26756
PEERS_MAX: Final = 256
CONFIG_SIZE_MAX: Final = 1024 * 1024

Port = Annotated[int, Field(ge=0, le=65_535)]
_DAY_MS: Final = 24 * 3_600_000
_ADDRESS: Final = r"^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}$"
NodeKey = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PeerConfig(_Section):
    """A node that is no miner but may connect, read and sync; or another address of a miner.

    Parameters
    ----------
    node_key : str
        Its public node key, in hex.
    host, port : str and int, optional
        Where to dial it; without them only it dials.
    """

    node_key: NodeKey
    host: Host | None = None
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.host is None) != (self.port is None):
            raise ValueError("host and port belong together")
        try:
            check_public_key(bytes.fromhex(self.node_key))
        except InvalidKey as error:
            raise ValueError(f"node_key is {error}") from error
        return self


class P2PConfig(_Section):
    """Where peers are met; port 0 lets the system choose."""

    host: Host = "127.0.0.1"
    port: Port = P2P_PORT_DEFAULT
    peers: Annotated[list[PeerConfig], Field(max_length=PEERS_MAX)] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({peer.node_key for peer in self.peers}) != len(self.peers):
            raise ValueError("one node_key is given twice")
        return self


class MempoolConfig(_Section):
    """How much may wait for a block; see `node.mempool.MempoolLimits`."""

    transactions_max: Annotated[int, Field(ge=1_000, le=1_000_000)] = MEMPOOL_TRANSACTIONS_MAX
    size_bytes_max: Annotated[int, Field(ge=32 * TRANSACTION_SIZE_MAX, le=2**32)] = (
        MEMPOOL_SIZE_BYTES_MAX
    )

    def limits(self) -> MempoolLimits:
        """Return the bounds as the pool takes them."""
        return MempoolLimits(
            transactions_max=self.transactions_max, size_bytes_max=self.size_bytes_max
        )


class SignerConfig(_Section):
    """How the miner's key is watched over.

    Parameters
    ----------
    guard : Path, optional
        A file, outside of what is backed up, in which the place of the last signature is noted.
    remote : str, optional
        ``host:port`` of the signer that has the miner's key; then the node has none.
    remote_key : str, optional
        The signer's public key, in hex.
    """

    guard: Annotated[Path | None, Field(strict=False)] = None
    remote: Annotated[str | None, Field(pattern=_ADDRESS)] = None
    remote_key: NodeKey | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the signer, if there is one."""
        if self.remote is None:
            return None
        host, _, port = self.remote.rpartition(":")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.remote is None) != (self.remote_key is None):
            raise ValueError("remote and remote_key belong together")
        if self.remote_key is not None:
            try:
                check_public_key(bytes.fromhex(self.remote_key))
            except InvalidKey as error:
                raise ValueError(f"remote_key is {error}") from error
        if self.address is not None and not 1 <= self.address[1] <= 65_535:
            raise ValueError("the port of remote is none")
        return self


Blocks = Annotated[int, Field(ge=1, le=HEIGHT_MAX)]
Days = Annotated[int, Field(ge=1, le=36_500)]


class PruningConfig(_Section):
    """What is kept of old blocks, by class; without a number everything.

    Parameters
    ----------
    telemetry_keep_blocks, telemetry_keep_days : int, optional
        For `device.data`: that of so many last blocks, or days, is kept; with both, what either
        keeps.
    verdicts_keep_blocks, verdicts_keep_days : int, optional
        The same for verdicts.
    registry_keep_blocks, registry_keep_days : int, optional
        The same for all other transactions.
    receipts_keep_blocks, receipts_keep_days : int, optional
        The same for receipts, by which a block answers with its ids; those of transactions that
        are kept stay anyway.
    """

    telemetry_keep_blocks: Blocks | None = None
    telemetry_keep_days: Days | None = None
    verdicts_keep_blocks: Blocks | None = None
    verdicts_keep_days: Days | None = None
    registry_keep_blocks: Blocks | None = None
    registry_keep_days: Days | None = None
    receipts_keep_blocks: Blocks | None = None
    receipts_keep_days: Days | None = None

    def policy(self) -> PruningPolicy:
        """Return it as the node takes it."""
        return PruningPolicy(
            keep={
                TELEMETRY: Keep(blocks=self.telemetry_keep_blocks, days=self.telemetry_keep_days),
                VERDICTS: Keep(blocks=self.verdicts_keep_blocks, days=self.verdicts_keep_days),
                REGISTRY: Keep(blocks=self.registry_keep_blocks, days=self.registry_keep_days),
                RECEIPTS: Keep(blocks=self.receipts_keep_blocks, days=self.receipts_keep_days),
            }
        )


class BlobConfig(_Section):
    """What blobs may take: models, and what else the chain names by digest.

    Parameters
    ----------
    blob_size_max_bytes, store_size_max_bytes : int
        Of one, and of all; those that the chain does not name may have half of the latter.
    uploader_size_max_bytes : int
        Of those that the chain does not name, from one address.
    keep_hours : int
        How long those are kept.
    device_size_max_bytes, organisation_size_max_bytes : int
        Of the files that one device, or the devices of one organisation, have registered.
    retention_days : int
        How long such a file is kept after the block that names it.
    fetch_files : bool
        Whether this node fetches those that others hold.
    """

    blob_size_max_bytes: Annotated[int, Field(ge=1024, le=2**32)] = BlobLimits().blob_size_max
    store_size_max_bytes: Annotated[int, Field(ge=1024, le=2**50)] = BlobLimits().store_size_max
    uploader_size_max_bytes: Annotated[int, Field(ge=1024, le=2**50)] = BlobLimits().source_size_max
    keep_hours: Annotated[int, Field(ge=1, le=1_000_000)] = BlobLimits().keep_ms // 3_600_000
    device_size_max_bytes: Annotated[int, Field(ge=0, le=2**50)] = FileLimits().device_size_max
    organisation_size_max_bytes: Annotated[int, Field(ge=0, le=2**50)] = (
        FileLimits().organisation_size_max
    )
    retention_days: Annotated[int, Field(ge=1, le=100_000)] = FileLimits().keep_ms // _DAY_MS
    fetch_files: bool = True

    def files(self) -> FileLimits:
        """Return what is kept of devices' files."""
        return FileLimits(
            device_size_max=self.device_size_max_bytes,
            organisation_size_max=self.organisation_size_max_bytes,
            keep_ms=self.retention_days * _DAY_MS,
            fetches=self.fetch_files,
        )

    def limits(self) -> BlobLimits:
        """Return what a node takes."""
        return BlobLimits(
            blob_size_max=self.blob_size_max_bytes,
            store_size_max=self.store_size_max_bytes,
            source_size_max=self.uploader_size_max_bytes,
            keep_ms=self.keep_hours * 3_600_000,
        )


class LogConfig(_Section):
    """What is told, how and where.

    Parameters
    ----------
    file : Path, optional
        Instead of standard error.
    file_size_max_bytes, files_max : int
        A file of this size is put aside under a number, and so many of those are kept.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
    file: Annotated[Path | None, Field(strict=False)] = None
    file_size_max_bytes: Annotated[int, Field(ge=64 * 1024, le=2**32)] = 16 * 1024 * 1024
    files_max: Annotated[int, Field(ge=1, le=1_000)] = 8


class SnapshotConfig(_Section):
    """When snapshots of the state are made for those that join.

    Parameters
    ----------
    interval_blocks : int
        At heights that are multiples of it; 0 makes none.
    keep : int
        The latest so many are kept.
    """

    interval_blocks: Annotated[int, Field(ge=0, le=10_000_000)] = INTERVAL_BLOCKS_DEFAULT
    keep: Annotated[int, Field(ge=1, le=KEEP_MAX)] = KEEP_DEFAULT

    def settings(self) -> SnapshotSettings:
        """Return what a node takes."""
        return SnapshotSettings(interval_blocks=self.interval_blocks, keep=self.keep)


class SyncConfig(_Section):
    """How a node that is behind catches up.

    Parameters
    ----------
    mode : {"auto", "blocks", "snapshot"}
        By every block; by snapshot where it starts from nothing; or by what is better.
    beyond_blocks : int
        So far ahead peers are where "auto" takes a snapshot to start from nothing.
    trusted_height, trusted_hash : int and str, optional
        A block that the operator knows to be of the chain, believed instead of genesis.
    """

    mode: Literal["auto", "blocks", "snapshot"] = "auto"
    beyond_blocks: Annotated[int, Field(ge=1, le=10_000_000)] = BEYOND_BLOCKS_DEFAULT
    trusted_height: Annotated[int | None, Field(ge=1, le=HEIGHT_MAX)] = None
    trusted_hash: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.trusted_height is None) != (self.trusted_hash is None):
            raise ValueError("trusted_height and trusted_hash belong together")
        return self

    def settings(self) -> SyncSettings:
        """Return what a node takes."""
        trusted = None
        if self.trusted_height is not None and self.trusted_hash is not None:
            block_hash = Digest(bytes.fromhex(self.trusted_hash))
            trusted = Trusted(height=self.trusted_height, hash=block_hash)
        return SyncSettings(mode=self.mode, beyond_blocks=self.beyond_blocks, trusted=trusted)


class NodeConfig(_Section):
    """Everything that an operator may set.

    Parameters
    ----------
    role : {"miner", "joiner", "observer"}
        A joiner is a miner that the others may still have to vote in; until then it only follows.
        An observer follows the chain and answers readers; it neither votes nor admits.
    miner_id : str, optional
        Which miner the key belongs to, in hex. Needed where its key was replaced before and the
        database is empty, so that the chain cannot be asked.
    detectors : bool
        Whether this miner judges flows.
    threads : int
        Threads for signatures and the disk.
    """

    role: Literal["miner", "joiner", "observer"] = "miner"
    miner_id: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    detectors: bool = True
    threads: Annotated[int, Field(ge=1, le=THREADS_MAX)] = THREADS_DEFAULT
    p2p: P2PConfig = P2PConfig()
    rpc: RpcConfig = RpcConfig()
    mempool: MempoolConfig = MempoolConfig()
    snapshots: SnapshotConfig = SnapshotConfig()
    sync: SyncConfig = SyncConfig()
    signer: SignerConfig = SignerConfig()
    pruning: PruningConfig = PruningConfig()
    blobs: BlobConfig = BlobConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.p2p.port == self.rpc.port != 0 and self.p2p.host == self.rpc.host:
            raise ValueError(f"p2p and rpc cannot both listen on port {self.rpc.port}")
        return self

    def miner_of(self, node_key: PublicKey, genesis: Genesis) -> Address | None:
        """Return which miner the node is, as far as can be told without the miner's key."""
        if self.miner_id is not None:
            return Address(bytes.fromhex(self.miner_id))
        founder = next((miner for miner in genesis.miners if miner.node_key == node_key), None)
        return None if founder is None else address_of(founder.key)


def load_config(path: Path) -> NodeConfig:
    """Read a configuration; what it leaves out has its default.

    File names in it are taken from the directory of `path`.

    Raises
    ------
    ConfigError
        It cannot be read, is no TOML, or a setting is unknown or out of its bounds.
    """
    document = read_toml(path)
    try:
        return _resolved(parse_config(document), path.parent)
    except ConfigError as error:
        where = f"{path}: {error.where}" if error.where else str(path)
        raise ConfigError(where, error.reason) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file of settings; raises `ConfigError` where it cannot be read or is no TOML."""
    try:
        if path.stat().st_size > CONFIG_SIZE_MAX:
            raise ConfigError(str(path), f"larger than {CONFIG_SIZE_MAX} bytes")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        # No TOML, no UTF-8, or a number of more digits than Python reads.
        raise ConfigError(str(path), f"is no TOML: {error}") from error


def parse_config(document: Mapping[str, Any]) -> NodeConfig:
    """Return the configuration that a document describes.

    Raises
    ------
    ConfigError
        A setting is unknown or out of its bounds.
    """
    try:
        return NodeConfig.model_validate(document)
    except ValidationError as error:
        where, reason = first_fault(error)
        raise ConfigError(where, reason) from error


def render_config(config: NodeConfig) -> str:
    """Return the TOML of a configuration, with a word on each setting."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: NodeConfig) -> Iterator[str]:
    p2p, rpc, mempool, log = config.p2p, config.rpc, config.mempool, config.log
    snapshots, sync = config.snapshots, config.sync
    yield "# A SecureNet node. Names of files are taken from the directory of this one."
    yield ""
    yield from _setting("role", config.role, "miner, joiner (still to be voted in) or observer")
    yield from _setting("miner_id", config.miner_id, "whose key it is, if data/ is empty")
    yield from _setting("detectors", config.detectors, "judge flows (miners only)")
    yield from _setting("threads", config.threads, "for signatures and the disk")
    yield ""
    yield "[p2p]  # where peers are met"
    yield from _setting("host", p2p.host)
    yield from _setting("port", p2p.port, "0: any free port")
    yield ""
    yield "[rpc]  # where clients are answered"
    yield from _setting("host", rpc.host, "off loopback only with TLS, or with insecure = true")
    yield from _setting("port", rpc.port)
    yield from _setting("tls_certificate", rpc.tls_certificate, "PEM, with tls_key")
    yield from _setting("tls_key", rpc.tls_key, "PEM, without a passphrase")
    yield from _setting("insecure", rpc.insecure)
    yield ""
    yield "[mempool]  # what may wait for a block"
    yield from _setting("transactions_max", mempool.transactions_max)
    yield from _setting("size_bytes_max", mempool.size_bytes_max)
    yield ""
    yield "[snapshots]  # of the state, for those that join"
    word = "made at multiples of it; 0: none"
    yield from _setting("interval_blocks", snapshots.interval_blocks, word)
    yield from _setting("keep", snapshots.keep)
    yield ""
    yield "[sync]  # how a node that is behind catches up"
    yield from _setting("mode", sync.mode, "auto, blocks or snapshot")
    word = "so far ahead peers are where auto takes a snapshot"
    yield from _setting("beyond_blocks", sync.beyond_blocks, word)
    yield from _setting("trusted_height", sync.trusted_height, "a block believed, with its hash")
    yield from _setting("trusted_hash", sync.trusted_hash)
    yield ""
    yield "[signer]"
    yield from _setting("guard", config.signer.guard, "a file on another disk, never backed up")
    yield from _setting("remote", config.signer.remote, "host:port of the signer with the key")
    yield from _setting("remote_key", config.signer.remote_key, "its public key")
    yield ""
    yield "[pruning]  # what is kept of old blocks, at least; without a number everything"
    for name, value in config.pruning:
        yield from _setting(name, value)
    yield ""
    yield "[blobs]  # models, and what else the chain names by digest"
    for name, value in config.blobs:
        yield from _setting(name, value)
    yield ""
    yield "[log]"
    yield from _setting("level", log.level, "debug, info, warning or error")
    yield from _setting("format", log.format, "console or json")
    yield from _setting("file", log.file, "instead of standard error")
    yield from _setting("file_size_max_bytes", log.file_size_max_bytes)
    yield from _setting("files_max", log.files_max)
    for peer in p2p.peers:
        yield ""
        yield "[[p2p.peers]]  # may connect, read and sync"
        yield from _setting("node_key", peer.node_key)
        yield from _setting("host", peer.host, "where to dial it, with port")
        yield from _setting("port", peer.port)


def _setting(name: str, value: str | int | Path | None, word: str = "") -> Iterator[str]:
    """Yield the line of a setting; one that is not set is shown as a comment."""
    remark = f"  # {word}" if word else ""
    if value is None:
        yield f"# {name} ={remark}"
    elif isinstance(value, int):
        yield f"{name} = {str(value).lower()}{remark}"
    else:
        # A string of JSON is one of TOML, but for one control character.
        text = json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
        yield f"{name} = {text}{remark}"


def _resolved(config: NodeConfig, directory: Path) -> NodeConfig:
    def files(section: BaseModel, *names: str) -> dict[str, Any]:
        found = {name: getattr(section, name) for name in names}
        return {name: directory / value for name, value in found.items() if value is not None}

    return config.model_copy(
        update={
            "rpc": config.rpc.model_copy(update=files(config.rpc, "tls_certificate", "tls_key")),
            "signer": config.signer.model_copy(update=files(config.signer, "guard")),
            "log": config.log.model_copy(update=files(config.log, "file")),
        }
    )


def first_fault(error: ValidationError) -> tuple[str, str]:
    """Return the first fault's place and reason, in one line."""
    faults = error.errors(include_url=False)
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        reason = "there is no such setting"
    else:
        reason = first["msg"].removeprefix("Value error, ").replace("\n", " ")
        reason = reason[:1].lower() + reason[1:]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return where, reason + more

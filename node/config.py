"""The configuration of a node: ``config.toml`` in its home directory."""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from node.errors import ConfigError
from node.rpc.config import RpcConfig

P2P_PORT_DEFAULT: Final = 26756
PEERS_MAX: Final = 256
HOST_SIZE_MAX: Final = 253
CONFIG_SIZE_MAX: Final = 1024 * 1024

Host = Annotated[str, Field(min_length=1, max_length=HOST_SIZE_MAX)]
Port = Annotated[int, Field(ge=0, le=65_535)]
NodeKey = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PeerConfig(_Section):
    """A node that is no miner but may connect, read and sync; or an address of a miner."""

    node_key: NodeKey
    host: Host | None = None
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None

    @model_validator(mode="after")
    def _check(self) -> "PeerConfig":
        if (self.host is None) != (self.port is None):
            raise ValueError("host and port belong together")
        return self


class P2PConfig(_Section):
    """Where peers are met; port 0 lets the system choose."""

    host: Host = "127.0.0.1"
    port: Port = P2P_PORT_DEFAULT
    peers: Annotated[list[PeerConfig], Field(max_length=PEERS_MAX)] = []


class LogConfig(_Section):
    """What is told, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class NodeConfig(_Section):
    """Everything that an operator may set.

    Parameters
    ----------
    role : {"miner", "observer"}
        An observer follows the chain and answers readers; it neither votes nor admits.
    detectors : bool
        Whether this miner judges flows.
    threads : int
        Threads for signatures and the disk.
    """

    role: Literal["miner", "observer"] = "miner"
    detectors: bool = True
    threads: Annotated[int, Field(ge=1, le=64)] = 4
    p2p: P2PConfig = P2PConfig()
    rpc: RpcConfig = RpcConfig()
    log: LogConfig = LogConfig()


def load_config(path: Path) -> NodeConfig:
    """Read a configuration; what it leaves out has its default.

    Raises
    ------
    ConfigError
        It cannot be read, is no TOML, or a setting is unknown or out of its bounds.
    """
    try:
        if path.stat().st_size > CONFIG_SIZE_MAX:
            raise ConfigError(str(path), f"larger than {CONFIG_SIZE_MAX} bytes")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is no TOML: {error}") from error
    try:
        return NodeConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ConfigError(f"{path}: {where}", first["msg"].lower()) from error


def render_config(config: NodeConfig) -> str:
    """Return the TOML of a configuration, with a word on each setting."""
    lines = [
        "# SecureNet node. docs/operating.md explains every setting.",
        f'role = "{config.role}"  # miner or observer',
        f"detectors = {_toml(config.detectors)}  # judge flows (miners only)",
        f"threads = {config.threads}  # for signatures and the disk",
        "",
        "[p2p]  # where peers are met",
        f"host = {_toml(config.p2p.host)}",
        f"port = {config.p2p.port}",
        "",
        "[rpc]  # where clients are answered; off loopback only with TLS or insecure = true",
        f"host = {_toml(config.rpc.host)}",
        f"port = {config.rpc.port}",
    ]
    if config.rpc.tls_certificate is not None:
        lines.append(f"tls_certificate = {_toml(str(config.rpc.tls_certificate))}")
    if config.rpc.tls_key is not None:
        lines.append(f"tls_key = {_toml(str(config.rpc.tls_key))}")
    lines += [
        f"insecure = {_toml(config.rpc.insecure)}",
        "",
        "[log]",
        f"level = {_toml(config.log.level)}",
        f"format = {_toml(config.log.format)}  # console or json",
    ]
    for peer in config.p2p.peers:
        lines += [
            "",
            "[[p2p.peers]]  # may connect, read and sync",
            f'node_key = "{peer.node_key}"',
        ]
        if peer.host is not None:
            lines += [f"host = {_toml(peer.host)}", f"port = {peer.port}"]
    return "\n".join(lines) + "\n"


def _toml(value: str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

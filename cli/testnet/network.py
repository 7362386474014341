"""A local test network on disk: which nodes it has, where they listen, which of them run.

::

    DIR/testnet.json     the nodes
    DIR/genesis.json     the chain's beginning, as in every node's home
    DIR/registrar.json   key of the organisation's registrar
    DIR/node0/           home of the first node; its output goes to DIR/node0.log
    DIR/running.json     the processes that were started and not stopped
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from cli.errors import BadInput
from cli.processes import Process
from node.home import load_genesis

NETWORK_FILE: Final = "testnet.json"
GENESIS_FILE: Final = "genesis.json"
REGISTRAR_FILE: Final = "registrar.json"
RUNNING_FILE: Final = "running.json"
LOCALHOST: Final = "127.0.0.1"
ORGANISATION: Final = "demo"

Role = Literal["miner", "observer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of a test network."""

    name: str
    role: Role
    p2p_port: int
    rpc_port: int

    @property
    def rpc(self) -> str:
        """Address of its RPC."""
        return f"http://{LOCALHOST}:{self.rpc_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A test network.

    Parameters
    ----------
    directory : Path
        Absolute.
    nodes : tuple of Node
        Miners first.
    """

    directory: Path
    nodes: tuple[Node, ...]

    @property
    def miners(self) -> tuple[Node, ...]:
        """The nodes that are miners."""
        return tuple(node for node in self.nodes if node.role == "miner")

    @property
    def registrar_key(self) -> Path:
        """Key file of the organisation's registrar."""
        return self.directory / REGISTRAR_FILE

    def home(self, node: Node) -> Path:
        """Return the home directory of a node."""
        return self.directory / node.name

    def log(self, node: Node) -> Path:
        """Return the file that a node's output goes to."""
        return self.directory / f"{node.name}.log"

    def node(self, name: str) -> Node:
        """Return the node called `name`; raises `BadInput` where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise BadInput(f"the test network has no node {name!r}", f"choose one of {names}")

    def genesis_hash(self) -> str:
        """Return the hash of the chain's genesis, in hex; raises `ConfigError`."""
        return load_genesis(self.directory / GENESIS_FILE).hash.hex()

    def save(self) -> None:
        """Write the list of nodes."""
        nodes = [asdict(node) for node in self.nodes]
        write_json(self.directory / NETWORK_FILE, {"format": 1, "nodes": nodes})

    def processes(self) -> dict[str, Process]:
        """Return the recorded processes by the names of their nodes."""
        try:
            document = json.loads((self.directory / RUNNING_FILE).read_text())
            return _PROCESSES.validate_python(document)
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"{self.directory / RUNNING_FILE} cannot be read",
                "find the nodes' processes yourself, end them, and remove the file",
            ) from error

    def record(self, processes: Mapping[str, Process]) -> None:
        """Write down the processes that run."""
        document = {name: asdict(process) for name, process in processes.items()}
        write_json(self.directory / RUNNING_FILE, document)


_NODES: Final = TypeAdapter(tuple[Node, ...])
_PROCESSES: Final = TypeAdapter(dict[str, Process])


def load_network(directory: Path) -> Network:
    """Read the test network in `directory`.

    Raises
    ------
    BadInput
        There is none.
    """
    path = directory / NETWORK_FILE
    try:
        document = json.loads(path.read_text())
        nodes = _NODES.validate_python(document["nodes"])
    except FileNotFoundError as error:
        raise BadInput(
            f"there is no test network in {directory}",
            f"make one: securenet testnet init --dir {directory}",
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(
            f"{path} is no list of a test network's nodes",
            "make the network anew in another directory",
        ) from error
    return Network(directory=directory.resolve(), nodes=nodes)


def fresh_directory(directory: Path) -> Path:
    """Return `directory`, or where it is there already one beside it with a number."""
    fresh = directory
    number = 1
    while fresh.exists():
        number += 1
        fresh = directory.with_name(f"{directory.name}-{number}")
    return fresh


def write_json(path: Path, document: Any) -> None:
    """Replace a file by a JSON document; a reader sees the old one or the new one whole."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(draft, path)

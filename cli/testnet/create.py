"""Making a test network: keys, genesis, and a home for each node."""

import os
import shutil
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from chain.blobs import blob_digest
from chain.crypto import SigningKey
from chain.genesis import Genesis, GenesisMiner, GenesisOrganisation
from chain.kinds.models import ModelRegister
from chain.parameters import Parameters
from chain.types import Digest, TimestampMs
from cli.arguments import parse_host
from cli.errors import AlreadyThere, BadInput
from cli.testnet.network import (
    GENESIS_FILE,
    LOCALHOST,
    ORGANISATION,
    Network,
    Node,
)
from ml_validator import bundled_model
from ml_validator.manifest import Manifest
from node.clock import SystemClock
from node.config import P2P_PORT_DEFAULT, NodeConfig, P2PConfig, PeerConfig
from node.home import Home, init_home, write_genesis
from node.keys import create_key, read_key_info
from node.random_source import SystemRandom
from node.rpc.config import PORT_DEFAULT as RPC_PORT_DEFAULT
from node.rpc.config import RpcConfig

CHAIN: Final = "testnet"
PORTS_PER_NODE: Final = 10
PORT_MAX: Final = 65_535
ANYWHERE: Final = "0.0.0.0"  # noqa: S104  for containers, whose network is their own


def create_network(
    directory: Path,
    *,
    miners: int,
    observers: int,
    base_port: int,
    hosts: Sequence[str] = (),
) -> Network:
    """Make a test network in `directory`: all of it, or nothing.

    Parameters
    ----------
    base_port : int
        P2P port of the first node, whose RPC is one above; each further node has ten more. 0 takes
        free ports of the system's choice.
    hosts : sequence of str
        For nodes that do not share one machine's loopback: where each is reached. Then every node
        listens everywhere, on the default ports.

    Raises
    ------
    AlreadyThere
        The directory holds something.
    BadInput
        The ports do not suffice, the hosts are not as many as the nodes, or one is no host.
    """
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise AlreadyThere(directory)
    nodes = _plan(miners, observers, base_port, hosts)
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = directory.with_name(f".{directory.name}.new-{os.getpid()}")
    try:
        _write(Network(directory=draft, nodes=nodes), hosts)
        os.replace(draft, directory)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Network(directory=directory.resolve(), nodes=nodes)


def bundled_registration() -> ModelRegister:
    """Return what a chain records of the model that comes with the package."""
    artifact, manifest = bundled_model()
    return ModelRegister(
        model=artifact.digest,
        name=manifest.name,
        schema=artifact.schema.digest,
        threshold_ppm=artifact.threshold_ppm,
        size_bytes=len(artifact.data),
        manifest=manifest_digest(manifest),
    )


def manifest_digest(manifest: Manifest) -> Digest:
    """Return the digest by which a chain names a manifest: that of the blob."""
    return blob_digest(manifest.to_json().encode())


def _plan(miners: int, observers: int, base_port: int, hosts: Sequence[str]) -> tuple[Node, ...]:
    count = miners + observers
    if hosts:
        if len(hosts) != count:
            raise BadInput(f"{len(hosts)} hosts for {count} nodes", "give one --host for each node")
        for host in hosts:
            parse_host(host)
        ports = [(P2P_PORT_DEFAULT, RPC_PORT_DEFAULT)] * count
    elif base_port == 0:
        ports = _free_ports(count)
    else:
        if base_port + PORTS_PER_NODE * (count - 1) + 1 > PORT_MAX:
            raise BadInput(
                f"the ports from {base_port} on do not suffice for {count} nodes",
                "give a lower --base-port, or 0 for any free ports",
            )
        ports = [
            (base_port + PORTS_PER_NODE * n, base_port + PORTS_PER_NODE * n + 1)
            for n in range(count)
        ]
    return tuple(
        Node(
            name=f"node{number}",
            role="miner" if number < miners else "observer",
            p2p_port=p2p_port,
            rpc_port=rpc_port,
        )
        for number, (p2p_port, rpc_port) in enumerate(ports)
    )


def _free_ports(count: int) -> list[tuple[int, int]]:
    """Return pairs of ports that are free now; held together, so that none comes twice."""
    with ExitStack() as stack:
        ports = []
        for _ in range(2 * count):
            probe = stack.enter_context(socket.socket())
            probe.bind((LOCALHOST, 0))
            ports.append(probe.getsockname()[1])
    return list(zip(ports[::2], ports[1::2], strict=True))


def _write(network: Network, hosts: Sequence[str]) -> None:
    random = SystemRandom()
    network.directory.mkdir()
    registrar = create_key(network.registrar_key, "ed25519", random)
    # Observers first: the miners' configurations name their keys.
    for node in reversed(network.nodes):
        peers = [] if node.role == "observer" else _observers(network)
        init_home(network.home(node), _config(node, peers, is_local=not hosts), random)
    genesis = _genesis(network, registrar, hosts or [LOCALHOST] * len(network.nodes))
    for node in network.nodes:
        write_genesis(Home(network.home(node)).genesis, genesis)
    write_genesis(network.directory / GENESIS_FILE, genesis)
    network.save()


def _observers(network: Network) -> list[PeerConfig]:
    return [
        PeerConfig(node_key=read_key_info(Home(network.home(node)).node_key).public.hex())
        for node in network.nodes
        if node.role == "observer"
    ]


def _config(node: Node, peers: list[PeerConfig], *, is_local: bool) -> NodeConfig:
    host = LOCALHOST if is_local else ANYWHERE
    return NodeConfig(
        role=node.role,
        p2p=P2PConfig(host=host, port=node.p2p_port, peers=peers),
        rpc=RpcConfig(host=host, port=node.rpc_port, insecure=not is_local),
    )


def _genesis(network: Network, registrar: SigningKey, hosts: Sequence[str]) -> Genesis:
    miners = []
    for node, host in zip(network.nodes, hosts, strict=True):
        if node.role == "miner":
            home = Home(network.home(node))
            miners.append(
                GenesisMiner(
                    name=node.name,
                    key=read_key_info(home.miner_key).public,
                    node_key=read_key_info(home.node_key).public,
                    host=host,
                    port=node.p2p_port,
                )
            )
    return Genesis(
        chain=CHAIN,
        time_ms=TimestampMs(SystemClock().wall_ms()),
        miners=tuple(miners),
        organisations=(
            GenesisOrganisation(name=ORGANISATION, registrar_key=registrar.public, limits=()),
        ),
        parameters=Parameters(),
        model=bundled_registration(),
    )

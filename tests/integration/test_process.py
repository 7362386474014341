"""``python -m node``: a real process on a real home directory, from its start to its end."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from chain.genesis import Genesis, GenesisMiner, GenesisOrganisation
from chain.kinds import KINDS
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import DeviceRegister, device_id
from chain.kinds.models import ModelRegister
from chain.kinds.organisations import organisation_id
from chain.parameters import Parameters
from chain.payloads import Flow
from chain.transactions import Payload, Transaction, sign_transaction
from chain.types import Address, TimestampMs
from ml_validator.bundled import bundled_model
from ml_validator.features import NSL_KDD_SCHEMA
from node.clock import SystemClock
from node.config import NodeConfig, P2PConfig
from node.exit_codes import NodeExit
from node.home import Home, init_home, write_genesis
from node.keys import load_key
from node.random_source import SystemRandom
from node.rpc.config import RpcConfig
from node.storage import schema
from node.storage.leveldb import LevelDbStore
from node.storage.verify import verify_store
from tests.builders import key_of

PATIENCE_S: Final = 60.0
STOP_S: Final = 10.0
REGISTRAR: Final = key_of("registrar of acme", "p256")
ACME: Final = organisation_id("acme")


class Running:
    """A node's process and what it has said."""

    def __init__(self, home: Home, *, descriptors: int | None = None) -> None:
        """Start the node, with a soft limit of open files that it may raise where one is given."""
        self.home = home
        self.log = home.path / f"log-{len(list(home.path.glob('log-*')))}"
        command = [sys.executable, "-m", "node", "run", "--home", str(home.path)]
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -Sn {descriptors}; exec "$@"', "sh", *command]
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()

    def wait_said(self, words: str) -> str:
        """Return the first line with these words."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for line in self.said():
                if words in line:
                    return line
            assert self.child.poll() is None, self.said()
            time.sleep(0.05)
        raise AssertionError(f"never said {words!r}: {self.said()}")

    def children(self) -> list[int]:
        return [
            int(pid)
            for task in Path(f"/proc/{self.child.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]

    def ask(self, method: str, path: str, data: bytes | None = None) -> Any:
        """Ask the RPC, by the one port that it was given."""
        url = f"http://127.0.0.1:{self.home.load_config().rpc.port}{path}"
        request = urllib.request.Request(url, data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/msgpack")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())


@contextmanager
def running(home: Home, **options: Any) -> Iterator[Running]:
    node = Running(home, **options)
    try:
        yield node
    finally:
        if node.child.poll() is None:
            node.child.kill()
        node.child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return the home of the one miner of a chain with a model."""
    config = NodeConfig(p2p=P2PConfig(port=0), rpc=RpcConfig(port=free_port()))
    home = init_home(tmp_path / "home", config, SystemRandom())
    artifact, _ = bundled_model()
    genesis = Genesis(
        chain="process",
        time_ms=TimestampMs(SystemClock().wall_ms()),
        miners=(
            GenesisMiner(
                name="alone",
                key=load_key(home.miner_key).public,
                node_key=load_key(home.node_key).public,
                host="127.0.0.1",
                port=1,
            ),
        ),
        organisations=(
            GenesisOrganisation(name="acme", registrar_key=REGISTRAR.public, limits=()),
        ),
        parameters=Parameters(heartbeat_ms=24 * 3_600_000),
        model=ModelRegister(
            model=artifact.digest,
            name="forest",
            schema=NSL_KDD_SCHEMA.digest,
            threshold_ppm=artifact.threshold_ppm,
            size_bytes=len(artifact.data),
            manifest=artifact.digest,
        ),
    )
    write_genesis(home.genesis, genesis)
    return home


def transaction(home: Home, kind: str, body: Any, signer: Any, sender: Address) -> Transaction:
    payload = Payload(
        version=1,
        genesis_hash=home.load_genesis().hash,
        kind=kind,
        sender=sender,
        time_ms=TimestampMs(SystemClock().wall_ms()),
        nonce=SystemRandom().bytes(8),
        body=KINDS[kind].body.encode(body),
    )
    return sign_transaction(payload, signer)


def commit_flow(node: Running) -> None:
    """Register a device and commit a flow of it."""
    key = key_of("device")
    body = DeviceRegister(
        name="device", key=key.public, roles=("sensor",), gateway=None, limits=None
    )
    registration = transaction(node.home, "device.register", body, REGISTRAR, ACME)
    id = device_id(node.home.load_genesis().hash, ACME, key.public)
    flow = Flow(schema=NSL_KDD_SCHEMA.digest, integers=(1,) * 38, categories=("tcp", "http", "SF"))
    node.ask("POST", "/v1/transactions?wait=commit", registration.wire)
    report = transaction(node.home, "device.data", DeviceData(payload=flow), key, id)
    node.ask("POST", "/v1/transactions?wait=commit", report.wire)


def sound_height(home: Home) -> int:
    """Check what the node has left behind; return its height."""
    store = LevelDbStore(home.chain)
    try:
        assert list(verify_store(store, home.load_genesis())) == []
        place = store.get(schema.TIP_KEY)
    finally:
        store.close()
    assert place is not None
    return int.from_bytes(place, "big")


def libraries(pid: int) -> str:
    """Return the files that a process has mapped: every extension module it has imported."""
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.timeout(180)
def test_a_miner_judges_without_the_training_library_and_ends_on_sigterm(home):
    with running(home) as node:
        node.wait_said("listening for peers")
        node.wait_said("node starts")
        wait_ready(node)
        commit_flow(node)
        node.wait_said("verdict worker started")
        wait_height(node, 3)
        (worker,) = node.children()
        for pid in (node.child.pid, worker):
            mapped = libraries(pid)
            assert "msgpack" in mapped
            assert "/sklearn/" not in mapped
            assert "/scipy/" not in mapped
        assert "/numpy/" in libraries(worker)

        begun = time.monotonic()
        node.child.send_signal(signal.SIGTERM)
        assert node.child.wait(STOP_S) == 0, node.said()
        assert time.monotonic() - begun < STOP_S
        assert not Path(f"/proc/{worker}").exists()

    assert any("node stops" in line for line in node.said())
    assert not any("Traceback" in line for line in node.said())
    assert sound_height(home) == 3


def wait_ready(node: Running) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            node.ask("GET", "/health/live")
        except OSError:
            assert time.monotonic() < deadline, node.said()
            time.sleep(0.05)
        else:
            return


def wait_height(node: Running, height: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while node.ask("GET", "/v1/status")["height"] < height:
        assert time.monotonic() < deadline, node.said()
        time.sleep(0.05)


def test_a_killed_node_leaves_no_worker_and_starts_again(home):
    with running(home) as node:
        wait_ready(node)
        commit_flow(node)
        node.wait_said("verdict worker started")
        (worker,) = node.children()
        node.child.kill()
        node.child.wait()
        deadline = time.monotonic() + STOP_S
        while Path(f"/proc/{worker}").exists() and state_of(worker) != "Z":
            assert time.monotonic() < deadline, "its input has ended, so does the worker"
            time.sleep(0.02)
    height = sound_height(home)
    assert height >= 2

    with running(home) as node:
        assert f"height={height}" in node.wait_said("node starts")
        wait_ready(node)
        node.child.send_signal(signal.SIGINT)
        assert node.child.wait(STOP_S) == 0, node.said()


@pytest.mark.attack("D10")
def test_clients_do_not_use_up_the_files_that_the_node_may_open(home):
    # A node that cannot open its log to rewrite it stops.
    with running(home, descriptors=128) as node, ExitStack() as stack:
        wait_ready(node)
        for _ in range(200):
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", home.load_config().rpc.port))
            )
            client.sendall(
                b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\n"
                b"Content-Type: application/msgpack\r\nContent-Length: 9\r\n\r\n"
            )
        commit_flow(node)

    assert not any("Too many open files" in line for line in node.said())


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_second_node_on_one_home_is_refused_and_a_taken_port_is_told(home):
    with running(home) as node:
        wait_ready(node)
        second = Running(home)
        assert second.child.wait(PATIENCE_S) == NodeExit.STORAGE
        (line,) = refusals(second)
        assert f"in use by process {node.child.pid}; " in line
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", home.load_config().rpc.port))
        taken.listen()
        third = Running(home)
        assert third.child.wait(PATIENCE_S) == NodeExit.PORT_TAKEN
    (line,) = refusals(third)
    assert str(home.load_config().rpc.port) in line


def test_once_there_is_a_registry_it_decides_whose_node_key_is_right(home):
    with running(home) as node:
        wait_ready(node)
        node.child.send_signal(signal.SIGINT)
        assert node.child.wait(STOP_S) == NodeExit.OK
    home.node_key.write_bytes(home.miner_key.read_bytes())

    refused = Running(home)
    assert refused.child.wait(PATIENCE_S) == NodeExit.KEY
    (line,) = refusals(refused)
    assert "is not the node key of miner alone" in line

    home.config.write_text(home.config.read_text().replace('role = "miner"', 'role = "joiner"'))
    with running(home) as joiner:
        joiner.wait_said("keys/node.json is not the node key of this miner")
        wait_ready(joiner)


def refusals(node: Running) -> list[str]:
    assert not any("Traceback" in line for line in node.said()), node.said()
    return [line for line in node.said() if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda home: home.genesis.write_text("{}"), NodeExit.CONFIGURATION, "genesis.json"),
        (
            lambda home: home.node_key.write_bytes(home.miner_key.read_bytes()),
            NodeExit.KEY,
            "is not the node key of miner alone",
        ),
        (
            lambda home: home.miner_key.write_bytes(home.node_key.read_bytes()),
            NodeExit.KEY,
            "is not the key of a miner of this chain",
        ),
        (
            lambda home: home.config.write_text(
                home.config.read_text().replace('role = "miner"', 'role = "observer"')
            ),
            NodeExit.CONFIGURATION,
            "is a miner's key, but role is observer",
        ),
        (
            lambda home: home.log.write_bytes(b"\x00" * 40),
            NodeExit.STORAGE,
            "consensus.log",
        ),
    ],
)
def test_a_home_nobody_can_start_from_is_refused_in_one_line(home, spoil, code, words):
    spoil(home)
    node = Running(home)

    assert node.child.wait(PATIENCE_S) == code

    (line,) = refusals(node)
    assert words in line
    *_, advice, end = node.said()
    assert advice.startswith("  try: ")
    assert end == f"node ended (exit code {code})"
    # A wrong genesis or key leaves no database behind, to which the right ones would not fit.
    assert code == NodeExit.STORAGE or not home.chain.exists()

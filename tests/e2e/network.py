"""A network of real node processes on loopback, seen through the RPC alone.

Each node is a child of the test's process and is signalled as such, so that no other process is
ever touched. Nodes die with the test that started them.
"""

import asyncio
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from chain.genesis import Genesis
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import DeviceRegister
from chain.payloads import Measurement, Reading
from chain.transactions import Transaction
from cli.client import Client, connect
from cli.errors import Refused, Unreachable
from cli.load.fleet import make_device
from cli.processes import python_command
from cli.signing import Sender, registrar_sender
from cli.testnet.create import PORTS_PER_NODE, create_network
from cli.testnet.last_words import last_said
from cli.testnet.network import LOCALHOST, Network
from node.home import Home, load_genesis
from node.keys import load_key

PATIENCE_S: Final = 90.0
"""For anything that takes a second or two on a machine with nothing else to do."""
STOP_S: Final = 30.0
POLL_S: Final = 0.05
PAGE: Final = 1_000
LOG_TAIL_LINES: Final = 25
FIRST_PORT: Final = 12_000
"""Ports are taken from here up to the range of outgoing connections, one of which could hold the
port of a node that is to start again."""


class LiveNetwork:
    """Nodes by number, as 0 for ``node0``, and what is needed to use them.

    Parameters
    ----------
    layout : Network
        The nodes' homes and ports.
    sessions : AsyncExitStack
        Closes the clients.
    """

    def __init__(self, layout: Network, sessions: AsyncExitStack) -> None:
        self.layout = layout
        self.genesis: Genesis = load_genesis(Home(self.home(0)).genesis)
        self.registrar: Sender = registrar_sender(
            self.genesis, load_key(layout.registrar_key), organisation=None
        )
        self._sessions = sessions
        self._clients: dict[int, Client] = {}
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def size(self) -> int:
        """How many nodes there are, running or not."""
        return len(self.layout.nodes)

    @property
    def running(self) -> list[int]:
        """The nodes that run."""
        return sorted(n for n, child in self._children.items() if child.poll() is None)

    def home(self, number: int) -> Path:
        """Return the home directory of a node."""
        return self.layout.home(self.layout.nodes[number])

    def start(self, *numbers: int, through: Sequence[str] = ()) -> None:
        """Start nodes, by default all; `through` is a command that runs the one behind it."""
        for number in numbers or range(self.size):
            assert number not in self.running, f"node{number} runs already"
            node = self.layout.nodes[number]
            command = python_command("node", "run", "--home", str(self.home(number)))
            with self.layout.log(node).open("ab") as log:
                self._children[number] = subprocess.Popen(
                    [*dying_with_parent(), *through, *command],
                    cwd=self.layout.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def process_id(self, number: int) -> int:
        """Return the process of a node that runs."""
        return self._children[number].pid

    def stop(self, *numbers: int) -> None:
        """Ask nodes to stop, and wait until they have, each with status 0."""
        for number in numbers:
            self._children[number].send_signal(signal.SIGTERM)
        for number in numbers:
            status = self._children[number].wait(STOP_S)
            assert status == 0, f"node{number} stopped with {status}: {self.said(number)}"

    def kill(self, *numbers: int) -> None:
        """End nodes with SIGKILL, and wait until the system has let go of them."""
        for number in numbers:
            self._children[number].kill()
        for number in numbers:
            self._children[number].wait(STOP_S)

    def kill_all(self) -> None:
        """End whatever still runs."""
        self.kill(*self.running)

    def wait_ended(self, number: int) -> int:
        """Return the exit status of a node that is to end by itself."""
        return self._children[number].wait(PATIENCE_S)

    def require_running(self, *numbers: int) -> None:
        """Fail with a node's last words if one of `numbers` has ended by itself."""
        for number in numbers:
            if number not in self.running:
                raise AssertionError(f"node{number} has ended: {self.said(number)}")

    def said(self, number: int) -> str:
        """Return the last line of a node's log."""
        return last_said(self.layout.log(self.layout.nodes[number]))

    async def client(self, number: int) -> Client:
        """Return the client of a node; it opens connections when they are needed."""
        if number not in self._clients:
            rpc = self.layout.nodes[number].rpc
            client = await self._sessions.enter_async_context(connect(rpc, timeout_s=20))
            self._clients[number] = client
        return self._clients[number]

    async def clients(self, numbers: Sequence[int] | None = None) -> list[Client]:
        """Return the clients of nodes, by default of all that run."""
        return [await self.client(n) for n in (self.running if numbers is None else numbers)]

    async def wait_ready(self, *numbers: int, min_peers: int | None = None) -> None:
        """Return once nodes, by default all that run, keep up and have their peers."""
        chosen = list(numbers or self.running)
        peers = min(len(self.running), len(self.layout.miners)) - 1
        async with patience(f"nodes {chosen} get ready"):
            for number in chosen:
                client = await self.client(number)
                while not await client.is_ready(
                    min_peers=peers if min_peers is None else min_peers
                ):
                    self.require_running(number)
                    await asyncio.sleep(POLL_S)

    async def wait_equal(self, *numbers: int) -> dict[str, Any]:
        """Return the status that nodes, by default all that run, agree on once they are quiet."""
        clients = await self.clients(numbers or None)
        async with patience("all nodes have the same chain and nothing waits"):
            while True:
                states = [await client.status() for client in clients]
                same = {(s["height"], s["block_hash"], s["state_root"]) for s in states}
                if len(same) == 1 and not any(state["mempool"] for state in states):
                    return states[0]
                await asyncio.sleep(4 * POLL_S)

    async def register_devices(self, count: int) -> list[Sender]:
        """Register so many devices of the demo organisation, known to all running nodes."""
        devices = [make_device(self.genesis, self.registrar) for _ in range(count)]
        transactions = [
            self.registrar.sign(
                "device.register",
                DeviceRegister(
                    name=f"e2e-{device.address.hex()[:16]}",
                    key=device.key.public,
                    roles=("sensor",),
                    gateway=None,
                    limits=None,
                ),
            )
            for device in devices
        ]
        clients = await self.clients()
        for result in await clients[0].submit_batch([t.wire for t in transactions]):
            assert result.refusal is None, result.refusal
        for client in clients:
            for transaction in transactions:
                await wait_committed(client, transaction)
        return devices

    def print_logs(self) -> None:
        """Show the end of every node's log, for the report of a failed test."""
        for node in self.layout.nodes:
            log = self.layout.log(node)
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            print(f"--- {log}, its last lines of {len(lines)}")
            print("\n".join(lines[-LOG_TAIL_LINES:]))


@asynccontextmanager
async def live_network(
    directory: Path, *, miners: int = 4, observers: int = 0, start: Sequence[int] | None = None
) -> AsyncIterator[LiveNetwork]:
    """Make a network in `directory`, start nodes (by default all), and end them whatever happens.

    The files stay, so that the logs of a failed test can be read.
    """
    with free_ports(miners + observers) as base_port:
        layout = create_network(
            directory / "network", miners=miners, observers=observers, base_port=base_port
        )
        async with AsyncExitStack() as sessions:
            network = LiveNetwork(layout, sessions)
            try:
                first = range(network.size) if start is None else start
                if first:
                    network.start(*first)
                    await network.wait_ready()
                yield network
            except BaseException:
                network.print_logs()
                raise
            finally:
                network.kill_all()


@contextmanager
def free_ports(nodes: int) -> Iterator[int]:
    """Hold a block of ports for so many nodes and yield its first.

    The port before the block stays bound meanwhile: whoever finds it taken looks elsewhere, so that
    tests which run at the same time do not take each other's.
    """
    size = 1 + PORTS_PER_NODE * nodes
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(200):
        first = random.randrange(FIRST_PORT, end - size)
        with socket.socket() as claim:
            try:
                claim.bind((LOCALHOST, first))
                for port in range(first + 1, first + size):
                    with socket.socket() as probe:
                        probe.bind((LOCALHOST, port))
            except OSError:
                continue
            yield first + 1
            return
    raise AssertionError(f"no {size} free ports in a row below {end}")


@asynccontextmanager
async def patience(what: str, seconds: float = PATIENCE_S) -> AsyncIterator[None]:
    """Fail with a sentence if the block does not end in time."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise AssertionError(f"not within {seconds:g} s: {what}") from error


def reading(device: Sender, number: int = 0) -> Transaction:
    """Return a signed reading of a device."""
    values = (
        Measurement(name="temperature", value=200 + number % 50, exponent=-1, unit="C"),
        Measurement(name="sequence", value=number, exponent=0, unit=""),
    )
    return device.sign("device.data", DeviceData(payload=Reading(values=values)))


async def wait_committed(client: Client, transaction: Transaction) -> dict[str, Any]:
    """Return a transaction's document once a node has committed it."""
    return await client.wait_committed(transaction.id.hex(), timeout_s=PATIENCE_S)


async def commit(client: Client, transaction: Transaction) -> float:
    """Send one transaction, wait for its receipt, and return how many seconds that took."""
    started = time.monotonic()
    answer = await client.submit(transaction.wire, wait=True)
    if answer["status"] != "committed":
        await wait_committed(client, transaction)
    return time.monotonic() - started


async def all_blocks(client: Client) -> list[dict[str, Any]]:
    """Return every block that a node serves, from genesis on, and check that they are a chain."""
    blocks = await client.pages("/v1/blocks", limit=10_000_000, order="asc")
    for height, block in enumerate(blocks):
        assert block["header"]["height"] == height
        if height:
            assert block["header"]["parent_hash"] == blocks[height - 1]["header"]["hash"]
    return blocks


async def is_reachable(client: Client) -> bool:
    """Tell whether a node answers at all."""
    try:
        await client.status()
    except (Unreachable, Refused):
        return False
    return True


def dying_with_parent() -> list[str]:
    """Return what to put before a command so that it ends with this process, however that ends."""
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "KILL"]

"""Nodes, directories and receivers for the tests of the transport."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from chain.crypto import address_of, signing_key
from chain.types import Address, Digest, PublicKey
from node.clock import SystemClock
from node.p2p import KindPolicy, P2PLimits, PeerDirectory, PeerEntry, TlsTransport
from node.random_source import SystemRandom

GENESIS = Digest(bytes(range(32)))
VOTE = 4
SMALL = 5
BLOCK = 20
KINDS = {
    VOTE: KindPolicy(payload_size_max=64 * 1024),
    SMALL: KindPolicy(payload_size_max=16, messages_per_second=100, burst=100),
    BLOCK: KindPolicy(payload_size_max=8 * 2**20),
}

QUICK = P2PLimits(
    handshake_timeout_ms=1_000,
    ping_interval_ms=200,
    idle_timeout_ms=3_000,
    probe_timeout_ms=1_000,
    dial_backoff_ms=20,
    dial_backoff_ms_max=50,
    accepts_per_second=500,
    accepts_burst=500,
)
"""Times for tests on real sockets: short, but not shorter than a busy machine may pause."""


@dataclass(frozen=True)
class NodeKey:
    """The private node key of a test node."""

    seed: bytes
    public_key: PublicKey
    node_id: Address

    def entry(self, port: int | None = None) -> PeerEntry:
        host = None if port is None else "127.0.0.1"
        return PeerEntry(node_id=self.node_id, public_key=self.public_key, host=host, port=port)


def node_key(index: int) -> NodeKey:
    """Return the key of node `index`; ids do not follow the order of the indices."""
    seed = index.to_bytes(32, "big")
    public_key = signing_key("ed25519", seed).public
    return NodeKey(seed, public_key, address_of(public_key))


def node_keys(count: int) -> list[NodeKey]:
    """Return keys in ascending order of the node ids."""
    return sorted((node_key(index) for index in range(1, count + 1)), key=lambda key: key.node_id)


class ManualClock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ms(self) -> int:
        return self.now_ns // 1_000_000

    def advance_ms(self, delta_ms: int) -> None:
        self.now_ns += delta_ms * 1_000_000


@dataclass
class Recorder:
    """A receiver that writes down what it is told."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    react: Callable[[Address, int, bytes], None] | None = None

    def on_connected(self, peer):
        self.events.append(("connected", peer))

    def on_disconnected(self, peer):
        self.events.append(("disconnected", peer))

    def on_message(self, peer, kind, payload):
        self.events.append(("message", peer, kind, payload))
        if self.react is not None:
            self.react(peer, kind, payload)

    @property
    def messages(self) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == "message"]

    def count(self, what: str) -> int:
        return sum(event[0] == what for event in self.events)


async def until(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait until `condition` holds; a test that waits in vain fails here."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


def make_transport(
    key: NodeKey, entries: Iterable[PeerEntry] = (), *, port: int = 0, **changes
) -> TlsTransport:
    """Return a transport on the loopback that is not running yet."""
    arguments: dict[str, Any] = {
        "node_id": key.node_id,
        "seed": key.seed,
        "genesis_hash": GENESIS,
        "directory": PeerDirectory(tuple(entries)),
        "kinds": KINDS,
        "host": "127.0.0.1",
        "port": port,
        "clock": SystemClock(),
        "random": SystemRandom(),
        "limits": QUICK,
    }
    return TlsTransport(**(arguments | changes))


@asynccontextmanager
async def running(transport, receiver):
    """Run a transport in the background; on leaving it is cancelled and awaited."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(transport.run(receiver))
        if isinstance(transport, TlsTransport):
            waiter = group.create_task(transport.listening.wait())
            await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()
        try:
            yield task
        finally:
            task.cancel()

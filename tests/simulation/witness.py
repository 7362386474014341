"""The ports of one node, watched: what passes goes into the trace and before the checkers.

A crashed node's ports are dead at once. Its tasks may run a last step while they are cancelled,
and nothing of that step reaches the world.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from chain.crypto import tagged_hash
from chain.types import Address, Digest
from node.p2p import PeerDirectory
from node.ports import KeyValueStore, Log, Receiver, WriteBatch
from tests.simulation.disk import PowerLost
from tests.simulation.network import SimulatedTransport
from tests.simulation.trace import acting


class Witness(Protocol):
    """Who is told what passes."""

    def on_delivered(self, node: str, peer: Address, kind: int, payload: bytes) -> None:
        """Hear of a message that reaches a node."""

    def on_sent(self, node: str, peer: Address, kind: int, payload: bytes) -> None:
        """Hear of a message before it leaves a node."""

    def on_penalised(self, node: str, peer: Address, points: int, reason: str) -> None:
        """Hear that a node blames a peer."""

    def on_logged(self, node: str, records: Sequence[bytes]) -> None:
        """Hear of records that are durable in a log."""

    def on_writing(self, node: str, batch: WriteBatch) -> None:
        """Hear of a batch before it is written, for a crash in the midst may leave it behind."""

    def on_written(self, node: str, batch: WriteBatch) -> None:
        """Hear that it is durable."""

    def on_power_lost(self, node: str) -> None:
        """Hear that the power failed in the midst of a sync."""


class WatchedTransport:
    """A :class:`node.ports.Transport` in front of a simulated one."""

    def __init__(self, inner: SimulatedTransport, name: str, witness: Witness) -> None:
        self._inner = inner
        self._name = name
        self._witness = witness
        self.is_dead = False

    async def run(self, receiver: Receiver) -> None:
        await self._inner.run(_WatchedReceiver(receiver, self))

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        if self.is_dead:
            return False
        self._witness.on_sent(self._name, peer, kind, payload)
        return self._inner.send(peer, kind, payload)

    def connected(self) -> Sequence[Address]:
        return self._inner.connected()

    def trouble(self, peer: Address) -> str | None:
        return self._inner.trouble(peer)

    def penalise(self, peer: Address, points: int, reason: str) -> None:
        if not self.is_dead:
            self._witness.on_penalised(self._name, peer, points, reason)
            self._inner.penalise(peer, points, reason)

    def update_directory(self, directory: PeerDirectory) -> None:
        """Replace whom the node may talk to."""
        self._inner.update_directory(directory)

    def note_delivered(self, peer: Address, kind: int, payload: bytes) -> None:
        """Tell the witness of a message."""
        self._witness.on_delivered(self._name, peer, kind, payload)

    @property
    def name(self) -> str:
        """Whose transport this is."""
        return self._name


class _WatchedReceiver:
    """Calls the node in its own name, while it lives."""

    def __init__(self, inner: Receiver, transport: WatchedTransport) -> None:
        self._inner = inner
        self._transport = transport

    def on_connected(self, peer: Address) -> None:
        if not self._transport.is_dead:
            with acting(self._transport.name):
                self._inner.on_connected(peer)

    def on_disconnected(self, peer: Address) -> None:
        if not self._transport.is_dead:
            with acting(self._transport.name):
                self._inner.on_disconnected(peer)

    def on_message(self, peer: Address, kind: int, payload: bytes) -> None:
        if not self._transport.is_dead:
            self._transport.note_delivered(peer, kind, payload)
            with acting(self._transport.name):
                self._inner.on_message(peer, kind, payload)


class WatchedLog:
    """A :class:`node.ports.Log` in front of a simulated one."""

    def __init__(self, inner: Log, name: str, witness: Witness) -> None:
        self._inner = inner
        self._name = name
        self._witness = witness
        witness.on_logged(name, inner.records())

    def records(self) -> Sequence[bytes]:
        return self._inner.records()

    def append(self, records: Sequence[bytes]) -> None:
        self._sync(self._inner.append, records)

    def rewrite(self, records: Sequence[bytes]) -> None:
        self._sync(self._inner.rewrite, records)

    def close(self) -> None:
        self._inner.close()

    def _sync(self, write: Callable[[Sequence[bytes]], None], records: Sequence[bytes]) -> None:
        try:
            write(records)
        except PowerLost:
            self._witness.on_power_lost(self._name)
            raise
        self._witness.on_logged(self._name, records)


class WatchedStore:
    """A :class:`node.ports.KeyValueStore` in front of a simulated one."""

    def __init__(self, inner: KeyValueStore, name: str, witness: Witness) -> None:
        self._inner = inner
        self._name = name
        self._witness = witness

    def get(self, key: bytes) -> bytes | None:
        return self._inner.get(key)

    def scan(
        self, *, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._inner.scan(start=start, stop=stop, reverse=reverse)

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        self._witness.on_writing(self._name, batch)
        try:
            self._inner.write(batch, sync=sync)
        except PowerLost:
            self._witness.on_power_lost(self._name)
            raise
        if sync:
            self._witness.on_written(self._name, batch)

    def compact(self, *, start: bytes, stop: bytes) -> None:
        self._inner.compact(start=start, stop=stop)

    def close(self) -> None:
        self._inner.close()


def digest_of(batch: WriteBatch) -> Digest:
    """Return a digest over a batch, in the order in which it was put together."""
    parts = []
    for key, value in batch.writes.items():
        parts += [len(key).to_bytes(4, "big"), key]
        parts += [b"-"] if value is None else [b"+", len(value).to_bytes(4, "big"), value]
    return tagged_hash(b"simulation/batch", *parts)

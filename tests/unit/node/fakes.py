"""Ports of a node that a test holds in its hands, and time that passes at once."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from chain.types import Address
from node.ports import Receiver
from node.protocol import CONSENSUS, decode_body
from tests.simulation.clock import SimulatedClock
from tests.simulation.loop import SimulatedLoop, new_loop

START_MS = 1_700_000_000_000


def simulated(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test on simulated time: a wait of a minute takes no time."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        loop = new_loop()
        try:
            loop.run_until_complete(_awaited(test, arguments, named))
        finally:
            loop.close()
        assert loop.failures == [], "something failed that nobody awaited"

    # pytest would take the wrapped coroutine function for the test.
    del run.__wrapped__
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run


async def _awaited(test: Any, arguments: Any, named: Any) -> None:
    await test(*arguments, **named)


def clock_of(loop: SimulatedLoop, start_ms: int = START_MS) -> SimulatedClock:
    """Return a clock that follows a simulated loop."""
    return SimulatedClock(loop.time, start_ms=start_ms)


def address(number: int) -> Address:
    """Return an address that belongs to a number."""
    return Address(number.to_bytes(32, "big"))


class Wire:
    """A transport that goes nowhere.

    Attributes
    ----------
    peers : set of Address
        With whom a session stands.
    sent : list of (Address, int, bytes)
        What the node has sent, oldest first.
    blames : list of (Address, int, str)
        Whom it has penalised, by how many points, and why.
    """

    def __init__(self, *peers: Address) -> None:
        self.peers = set(peers)
        self.sent: list[tuple[Address, int, bytes]] = []
        self.blames: list[tuple[Address, int, str]] = []

    async def run(self, receiver: Receiver) -> None:
        await asyncio.get_running_loop().create_future()

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        if peer not in self.peers:
            return False
        self.sent.append((peer, kind, payload))
        return True

    def connected(self) -> Sequence[Address]:
        return sorted(self.peers)

    def trouble(self, peer: Address) -> str | None:
        return None

    def penalise(self, peer: Address, points: int, reason: str) -> None:
        self.blames.append((peer, points, reason))

    def take(self, kind: int) -> list[tuple[Address, Any]]:
        """Return what was sent of a kind since the last call, decoded, with its receiver."""
        assert kind != CONSENSUS, "that has its own codec"
        found = [(to, decode_body(kind, data)) for to, what, data in self.sent if what == kind]
        self.sent = [entry for entry in self.sent if entry[1] != kind]
        return found

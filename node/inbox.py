"""What waits for the driver: bounded, fair between peers, and each fact once.

Answers to what the driver itself has asked for go first, then what it was told, then the messages
of peers, one of each in turn; so a flood of one peer holds up nobody else's.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from chain.types import Address
from consensus.events import MemoryShown, Received
from node.p2p.limits import TokenBucket

PEER_MESSAGES_MAX: Final = 1_024
"""Messages of one peer that wait; further ones are dropped, and resending makes up for them."""
PEER_SIZE_MAX: Final = 4 * 1024 * 1024
"""The same in bytes."""
PEER_BYTES_PER_SECOND: Final = 8 * 1024 * 1024
"""What one peer may say in the long run: many times what the largest blocks need. The rest is
dropped before it is decoded, for that alone could keep a processor busy."""
PEER_BURST_SIZE: Final = 32 * 1024 * 1024

Own = TypeVar("Own")


@dataclass(frozen=True, slots=True)
class FromPeer:
    """A message of consensus, or what was said of those before it, and the peer that sent it."""

    peer: Address
    said: Received | MemoryShown


@dataclass(slots=True)
class _Waiting:
    messages: deque[tuple[Received | MemoryShown, int]] = field(default_factory=deque)
    size: int = 0


class Inbox(Generic[Own]):
    """The one queue of the driver.

    Notes
    -----
    Bounded by the bounds above for each peer, one entry for each name that `tell` is given, and the
    work that the driver has under way, of which each brings one answer.
    """

    def __init__(self) -> None:
        self._answers: deque[Own] = deque()
        self._told: dict[Hashable, Own] = {}
        # Whoever had its turn longest ago stands first.
        self._peers: OrderedDict[Address, _Waiting] = OrderedDict()
        self._allowances: dict[Address, TokenBucket] = {}
        self._arrived = asyncio.Event()

    def put(self, answer: Own) -> None:
        """Add an answer that the driver waits for."""
        self._answers.append(answer)
        self._arrived.set()

    def tell(self, name: Hashable, fact: Own) -> None:
        """Add a fact; it replaces what was told under this name and not taken yet."""
        self._told[name] = fact
        self._arrived.set()

    def retract(self, name: Hashable) -> None:
        """Drop what was told under this name, if it was not taken yet."""
        self._told.pop(name, None)

    def is_within_allowance(self, peer: Address, size: int, now_ns: int) -> bool:
        """Tell whether a peer may say so much more, and charge it; asked before it is decoded."""
        allowance = self._allowances.get(peer)
        if allowance is None:
            allowance = TokenBucket(PEER_BYTES_PER_SECOND, PEER_BURST_SIZE)
            self._allowances[peer] = allowance
        return allowance.take(now_ns, size)

    def has_room(self, peer: Address, size: int) -> bool:
        """Tell whether another message of this peer may wait."""
        waiting = self._peers.get(peer)
        return waiting is None or (
            len(waiting.messages) < PEER_MESSAGES_MAX and waiting.size + size <= PEER_SIZE_MAX
        )

    def put_message(self, peer: Address, said: Received | MemoryShown, size: int) -> None:
        """Add a message of `size` bytes, for which there is room; a peer's keep their order."""
        waiting = self._peers.setdefault(peer, _Waiting())
        waiting.messages.append((said, size))
        waiting.size += size
        self._arrived.set()

    async def get(self) -> Own | FromPeer:
        """Wait for what is next, and take it."""
        while True:
            if self._answers:
                return self._answers.popleft()
            if self._told:
                return self._told.pop(next(iter(self._told)))
            if self._peers:
                # A message that changes nothing is handled without a pause; others want theirs.
                await asyncio.sleep(0)
                return self._next_message()
            self._arrived.clear()
            await self._arrived.wait()

    def _next_message(self) -> FromPeer:
        peer, waiting = next(iter(self._peers.items()))
        said, size = waiting.messages.popleft()
        waiting.size -= size
        if waiting.messages:
            self._peers.move_to_end(peer)
        else:
            del self._peers[peer]
        return FromPeer(peer, said)

"""What peers say of consensus becomes an event for the driver, if they may say so much.

Nothing here waits.
"""

from typing import Any, Final

from chain.types import HEIGHT_MAX, Address, Height, TimestampMs
from consensus.codec import decode_message
from consensus.events import HeightSeen, MemoryShown, PeerConnected, Received
from consensus.messages import PrePrepare
from node.clock_watch import ClockWatch
from node.inbox import Inbox
from node.members import Members
from node.metrics import Metrics
from node.ports import Clock, Transport
from node.protocol import GetShown, Shown

EXCESS_POINTS: Final = 1
"""Price of a message above what one peer may say."""
OTHER_KEY_SIZE: Final = 64 * 1024
"""What a message under a key that is not known counts of what a peer may say, in bytes: its
signature was verified in vain, and so many of them cost no more than a hundredth of a processor."""
SHOWN_SIZE: Final = 64
"""What a peer's word that it has shown all counts in the queue of its messages, in bytes."""


class PeerEvents:
    """Puts what miners' nodes say into the driver's inbox; nobody else has anything to say.

    Parameters
    ----------
    inbox : Inbox
        The driver's, in which other things wait as well.
    """

    def __init__(
        self,
        inbox: Inbox[Any],
        *,
        members: Members,
        transport: Transport,
        clock: Clock,
        clock_watch: ClockWatch,
        metrics: Metrics,
    ) -> None:
        self._inbox = inbox
        self._members = members
        self._transport = transport
        self._clock = clock
        self._clock_watch = clock_watch
        self._metrics = metrics
        # Peers of which a message was dropped that might have been one of those shown.
        self._lacking: set[Address] = set()

    def on_message(self, peer: Address, payload: bytes) -> None:
        """Take a message of consensus from a peer.

        Raises
        ------
        DecodeError
            It is none.
        """
        miner = self._members.miner_of(peer)
        if miner is None:
            # Miners say what they have signed themselves.
            self._metrics.peer_refused("no_miner")
            return
        if not self._inbox.is_within_allowance(peer, len(payload), self._clock.monotonic_ns()):
            self._lacking.add(peer)
            self._metrics.peer_refused("consensus_excess")
            self._transport.penalise(peer, EXCESS_POINTS, "too much to say")
            return
        if not self._inbox.has_room(peer, len(payload)):
            self._lacking.add(peer)
            self._metrics.peer_refused("consensus_queue_full")
            return
        message = decode_message(payload)
        received = Received(message=message, wall_ms=TimestampMs(self._clock.wall_ms()))
        if isinstance(message, PrePrepare) and message.round == 0 and message.sender == miner:
            self._clock_watch.on_fresh_block(miner, message.proposal.header.time_ms)
        self._inbox.put_message(peer, received, len(payload))

    def may_have_replaced_its_key(self, peer: Address, sender: Address) -> bool:
        """Tell whether an honest peer sends a message under a key that this node cannot know.

        It does so in its own miner's name, and shows this node's miner what that has signed, where
        the height of either is not the other's. It does not do so without end.
        """
        others = [node for node in self._members.nodes_of([sender]) if node != peer]
        return not others and self._inbox.is_within_allowance(
            peer, OTHER_KEY_SIZE, self._clock.monotonic_ns()
        )

    def on_connected(self, peer: Address) -> None:
        """Show a miner what it may have missed."""
        miner = self._members.miner_of(peer)
        if miner is not None:
            self._inbox.tell(("connected", miner), PeerConnected(miner=miner))

    def on_status(self, peer: Address, height: Height) -> None:
        """Learn up to which height a peer has committed."""
        miner = self._members.miner_of(peer)
        if miner is not None:
            seen = HeightSeen(miner=miner, height=Height(min(height + 1, HEIGHT_MAX)))
            self._inbox.tell(("height", miner), seen)

    def on_shown(self, peer: Address, shown: Shown) -> None:
        """Learn that a miner has shown all that it holds of this one, behind those messages.

        Where one of them was dropped, it does not count; the driver asks again.
        """
        miner = self._members.miner_of(peer)
        if peer in self._lacking:
            self._lacking.remove(peer)
        elif miner is not None and self._inbox.has_room(peer, SHOWN_SIZE):
            said = MemoryShown(miner=miner, height=shown.height)
            self._inbox.put_message(peer, said, SHOWN_SIZE)

    def on_get_shown(self, peer: Address, request: GetShown) -> None:
        """Show a miner once more what it waits for: a message may be lost within a session."""
        miner = self._members.miner_of(peer)
        if miner is not None:
            self._inbox.tell(("height", miner), HeightSeen(miner=miner, height=request.height))
            self.on_connected(peer)

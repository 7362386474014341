"""What peers have said of how far they are, and of what they have to give."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from chain.types import Address, Height
from node.members import Members
from node.ports import Clock
from node.protocol import Status

SETTLE_S: Final = 10.0
"""So long after its start a node makes do with the word of fewer peers than a weak quorum."""


class Progress:
    """The last status of each connected peer.

    Parameters
    ----------
    members : Members
        Whose word counts: one liar must not make a node believe that it is behind.
    is_connected : callable
        Tells whether a session with a peer stands.
    """

    def __init__(
        self, *, members: Members, clock: Clock, is_connected: Callable[[Address], bool]
    ) -> None:
        self._members = members
        self._clock = clock
        self._is_connected = is_connected
        self._started_ns = clock.monotonic_ns()
        self._settled = False
        # At most one for each connected peer.
        self._told: dict[Address, Status] = {}

    @property
    def highest_seen(self) -> int:
        """The highest committed height that peers have told of, as far as one of them is honest.

        With fewer than f + 1 miners connected it is what all of those have reached; without any,
        what observers say.
        """
        told = [
            status.height
            for peer, status in self._told.items()
            if self._members.miner_of(peer) is not None
        ]
        told = sorted(told or [status.height for status in self._told.values()], reverse=True)
        return told[min(self._members.weak_quorum, len(told)) - 1] if told else 0

    @property
    def is_settled(self) -> bool:
        """Whether this node has heard since its start how far a weak quorum of miners is.

        After `SETTLE_S` the word of any peer is enough, for an observer may know one node alone.
        """
        if not self._settled:
            miners = sum(self._members.miner_of(peer) is not None for peer in self._told)
            waited_ns = self._clock.monotonic_ns() - self._started_ns
            self._settled = miners >= min(
                self._members.weak_quorum, len(self._members.others())
            ) or (bool(self._told) and waited_ns >= SETTLE_S * 1e9)
        return self._settled

    def on_status(self, peer: Address, status: Status) -> None:
        """Take in what a peer says; it may say less than before, and is believed."""
        self._told[peer] = status

    def saw(self, peer: Address, height: Height) -> None:
        """Take note that `peer` has shown to have committed up to `height`."""
        known = self._told.get(peer)
        if self._is_connected(peer) and (known is None or height > known.height):
            self._told[peer] = replace(known or Status(height=height), height=height)

    def forget(self, peer: Address) -> None:
        """Forget what a peer said."""
        self._told.pop(peer, None)

    def height_of(self, peer: Address) -> int:
        """Return how far a peer is; 0 where that is not known."""
        status = self._told.get(peer)
        return 0 if status is None else status.height

    def holders(self, height: int) -> list[Address]:
        """Return the peers that say they have block `height`, in the order of their ids."""
        return sorted(
            peer
            for peer, status in self._told.items()
            if max(1, status.first) <= height <= status.height
        )

    def snapshots(self) -> dict[int, list[Address]]:
        """Return which peers have a snapshot, by height."""
        found: dict[int, list[Address]] = {}
        for peer, status in sorted(self._told.items()):
            for height in status.snapshots:
                found.setdefault(height, []).append(peer)
        return found

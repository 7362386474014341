"""Telling peers how far this node is, and what of the chain it has to give."""

from collections.abc import Callable

from chain.types import Address, Height
from node.ports import Transport
from node.protocol import SNAPSHOTS_TOLD_MAX, STATUS, Status, encode_body
from node.storage.chain_store import ChainStore


class Announcer:
    """Sends statuses.

    Parameters
    ----------
    snapshots : callable
        Returns the heights of the snapshots of this node, ascending.
    """

    def __init__(
        self, *, chain: ChainStore, transport: Transport, snapshots: Callable[[], tuple[int, ...]]
    ) -> None:
        self._chain = chain
        self._transport = transport
        self._snapshots = snapshots

    def tell(self, peer: Address) -> None:
        """Tell one peer."""
        self._transport.send(peer, STATUS, self._status())

    def tell_all(self) -> None:
        """Tell all peers."""
        status = self._status()
        for peer in self._transport.connected():
            self._transport.send(peer, STATUS, status)

    def _status(self) -> bytes:
        snapshots = self._snapshots()[-SNAPSHOTS_TOLD_MAX:]
        status = Status(
            height=Height(self._chain.height),
            first=Height(self._chain.first_block()),
            snapshots=tuple(map(Height, snapshots)),
        )
        return encode_body(STATUS, status)

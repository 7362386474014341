"""Which node belongs to which miner, as the registry of the chain has it."""

from collections.abc import Iterable

from chain.crypto import address_of
from chain.records.miners import MINER_TABLE, MinerRecord
from chain.state import State, miner_sets_of
from chain.types import Address


class Members:
    """Miner ids and node ids of the miners that decide the coming heights.

    Parameters
    ----------
    miner : Address
        This node's miner id; a stranger's for an observer.
    """

    def __init__(self, state: State, *, miner: Address) -> None:
        self._miner = miner
        self._records: dict[Address, MinerRecord] = {}
        self._nodes: dict[Address, Address] = {}
        self._miners: dict[Address, Address] = {}
        self._weak_quorum = 1
        self.update(state)

    @property
    def is_member(self) -> bool:
        """Whether this node is one of the miners."""
        return self._miner in self._nodes

    @property
    def weak_quorum(self) -> int:
        """So many miners that one of them is honest."""
        return self._weak_quorum

    def update(self, state: State) -> bool:
        """Take in the state after a block; return whether anything has changed."""
        current, following = miner_sets_of(state)
        self._weak_quorum = current.weak_quorum
        records: dict[Address, MinerRecord] = {}
        for member in (*current, *following):
            record = state.get(MINER_TABLE, member.id)
            assert record is not None, "a member is on record"
            records[member.id] = record
        if records == self._records:
            return False
        self._records = records
        self._nodes = {id: address_of(record.node_key) for id, record in records.items()}
        self._miners = {node: id for id, node in self._nodes.items()}
        return True

    def records(self) -> Iterable[MinerRecord]:
        """Return the records of all members, this node's among them."""
        return self._records.values()

    def miner_of(self, node: Address) -> Address | None:
        """Return the miner whose node this is; None for an observer."""
        return self._miners.get(node)

    def others(self) -> list[Address]:
        """Return the node ids of all miners but this one, in ascending order."""
        return sorted(node for id, node in self._nodes.items() if id != self._miner)

    def nodes_of(self, miners: Iterable[Address]) -> list[Address]:
        """Return the node ids of `miners` but this one, in their order."""
        return [
            self._nodes[miner] for miner in miners if miner != self._miner and miner in self._nodes
        ]

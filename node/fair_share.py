"""Who is served next, and who gives way: a tree of shares over the waiting transactions.

A lane of the mempool is one tree: the miners and peers by which transactions came, below each the
gateways, below each the senders, each with a queue in the order of arrival; a sender without a
gateway stands beside the gateways. Every branch shares out what it gets between its children, so
that many senders behind one gateway together get what another gateway gets, and a crowd behind one
miner no more than another miner's clients.

The tree knows nothing of bounds, ids and time; those are the mempool's.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Final, Generic, Protocol, TypeVar

from chain.transactions import TRANSACTION_SIZE_MAX, Transaction
from chain.types import Address

LOAD_UNIT_BYTES: Final = 1_024
"""Each transaction weighs one, and one more for each full unit of its bytes."""
LOAD_MAX: Final = 1 + TRANSACTION_SIZE_MAX // LOAD_UNIT_BYTES
MISSES_MAX: Final = 64
"""Transactions too large for what is left of a block, after which it counts as full."""

_Key = Address | tuple[Address] | None


class Weighed(Protocol):
    """Anything that has a load."""

    load: int


W = TypeVar("W", bound=Weighed)


@dataclass(slots=True, eq=False)
class Pending:
    """A waiting transaction and its place in the tree."""

    transaction: Transaction
    queue: "Queue"
    size: int
    load: int


@dataclass(slots=True)
class Budget:
    """What is left of a block; `misses` bounds the search for what still fits."""

    count: int
    size: int
    misses: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether there is no use in looking further."""
        return self.count <= 0 or self.size <= 0 or self.misses >= MISSES_MAX


class Ranking(Generic[W]):
    """Finds the heaviest of many whose loads change, in constant time.

    Notes
    -----
    One bucket for each load that occurs. The search for the next lower bucket takes no more steps
    than the load that has left.
    """

    __slots__ = ("_by_load", "_top")

    def __init__(self) -> None:
        self._by_load: dict[int, OrderedDict[W, None]] = {}
        self._top = 0

    def move(self, node: W, old: int, new: int) -> None:
        """Take note that the load of `node` changes; 0 means that it comes or goes."""
        buckets = self._by_load
        bucket: OrderedDict[W, None] | None = None
        if old:
            bucket = buckets[old]
            del bucket[node]
            if not bucket:
                del buckets[old]
        if new:
            if new in buckets:
                bucket = buckets[new]
            else:
                # Most loads are those of one node: its bucket moves with it.
                buckets[new] = bucket = OrderedDict() if bucket is None or bucket else bucket
            bucket[node] = None
            if new > self._top:
                self._top = new
                return
        while self._top and self._top not in buckets:
            self._top -= 1

    def heaviest(self) -> W | None:
        """Return the heaviest; among equals the one that came to its load last."""
        return next(reversed(self._by_load[self._top])) if self._top else None


class Branch:
    """A share that is shared out again between its children.

    Parameters
    ----------
    parent : Branch or None
        None for the root of a lane.
    key : address, tuple of address, or None
        The miner or peer; the gateway, in a tuple so that it is never taken for a sender.
    """

    __slots__ = ("children", "key", "load", "parent", "ranking")

    def __init__(self, parent: "Branch | None" = None, key: _Key = None) -> None:
        self.parent = parent
        self.key = key
        self.load = 0
        # Whoever was served longest ago stands first.
        self.children: OrderedDict[_Key, Branch | Queue] = OrderedDict()
        self.ranking: Ranking[Branch | Queue] = Ranking()

    def walk(self, budget: Budget) -> Iterator[Pending]:
        """Yield what fits, next always from the child which was given least so far."""
        if len(self.children) == 1:
            (only,) = self.children.values()
            yield from only.walk(budget)
            return
        served: list[tuple[int, int, Iterator[Pending]]] = []
        for order, child in enumerate(self.children.values()):
            if budget.is_spent:
                return
            walk = child.walk(budget)
            first = next(walk, None)
            if first is not None:
                yield first
                served.append((first.load, order, walk))
        heapify(served)
        while served and not budget.is_spent:
            given, order, walk = served[0]
            pending = next(walk, None)
            if pending is None:
                heappop(served)
            else:
                yield pending
                heapreplace(served, (given + pending.load, order, walk))


class Queue:
    """What one sender has waiting, in the order of arrival."""

    __slots__ = ("entries", "key", "load", "parent")

    def __init__(self, parent: Branch, sender: Address) -> None:
        self.parent = parent
        self.key = sender
        self.load = 0
        # Ordered by links, not by a plain dict: both ends stay cheap after many removals.
        self.entries: OrderedDict[Pending, None] = OrderedDict()

    def walk(self, budget: Budget) -> Iterator[Pending]:
        """Yield in the order of arrival; what follows one that does not fit has to wait too."""
        for pending in self.entries:
            if budget.is_spent:
                return
            if pending.size > budget.size:
                budget.misses += 1
                return
            budget.count -= 1
            budget.size -= pending.size
            yield pending

    def newest(self) -> Pending:
        """Return what arrived last."""
        return next(reversed(self.entries))


class Shares:
    """The tree of one lane.

    Notes
    -----
    While a sender has transactions waiting it keeps the place under the source and the gateway of
    the first of them, by whatever way the others come: one sender is one sender, and its order
    holds.
    """

    __slots__ = ("_queues", "_root", "_senders")

    def __init__(self) -> None:
        self._root = Branch()
        self._queues: dict[Address, Queue] = {}
        self._senders: Ranking[Queue] = Ranking()

    @property
    def load(self) -> int:
        """The load of everything that waits."""
        return self._root.load

    def load_of(self, sender: Address) -> int:
        """Return what `sender` has waiting."""
        queue = self._queues.get(sender)
        return 0 if queue is None else queue.load

    def heaviest_sender(self) -> Queue | None:
        """Return the sender with most waiting, wherever in the tree."""
        return self._senders.heaviest()

    def add(
        self, transaction: Transaction, *, source: Address | None, gateway: Address | None
    ) -> Pending:
        """Append `transaction` to the queue of its sender."""
        sender = transaction.payload.sender
        queue = self._queues.get(sender)
        if queue is None:
            parent = _child(self._root, source)
            if gateway is not None:
                parent = _child(parent, (gateway,))
            queue = self._queues[sender] = Queue(parent, sender)
            parent.children[sender] = queue
        size = len(transaction.wire)
        pending = Pending(transaction, queue, size, load_of(size))
        self._link(pending)
        return pending

    def restore(self, pending: Pending) -> None:
        """Put back what was removed last."""
        queue = pending.queue
        if not queue.entries:
            self._queues[queue.key] = queue
            node: Branch | Queue = queue
            while (parent := node.parent) is not None and node.key not in parent.children:
                parent.children[node.key] = node
                node = parent
        self._link(pending)

    def remove(self, pendings: Iterable[Pending], *, was_served: bool) -> None:
        """Take `pendings` out; who was served goes to the back, on every level, the last last."""
        loads: dict[Queue, int] = {}
        for pending in pendings:
            queue = pending.queue
            del queue.entries[pending]
            loads[queue] = loads.pop(queue, 0) + pending.load
        for queue, load in loads.items():
            self._charge(queue, -load)
            if not queue.entries:
                del self._queues[queue.key]
            node: Branch | Queue = queue
            while (parent := node.parent) is not None:
                if not node.load:
                    del parent.children[node.key]
                elif was_served:
                    parent.children.move_to_end(node.key)
                node = parent

    def walk(self, budget: Budget) -> Iterator[Pending]:
        """Yield what fits into `budget`, which is used up on the way, in fair order, each once."""
        return self._root.walk(budget)

    def heavier_than(
        self, sender: Address, load: int, *, source: Address | None, gateway: Address | None
    ) -> Queue | None:
        """Return who has to give way to `load` more of `sender`, or None.

        From the root downwards: where another branch is heavier than the sender's own would be,
        the heaviest sender of the heaviest branch has to; where none is, the question repeats
        within the sender's own branch.
        """
        queue = self._queues.get(sender)
        branch = self._root
        for key in _path(queue, sender, source, gateway):
            own = branch.children.get(key)
            heaviest = branch.ranking.heaviest()
            if heaviest is not None and heaviest.load > load + (own.load if own else 0):
                while isinstance(heaviest, Branch):
                    heaviest = heaviest.ranking.heaviest()
                assert heaviest is not None, "a branch without senders is taken out of the tree"
                return heaviest
            if not isinstance(own, Branch):
                return None
            branch = own
        return None

    def _link(self, pending: Pending) -> None:
        pending.queue.entries[pending] = None
        self._charge(pending.queue, pending.load)

    def _charge(self, queue: Queue, change: int) -> None:
        self._senders.move(queue, queue.load, queue.load + change)
        node: Branch | Queue = queue
        while (parent := node.parent) is not None:
            parent.ranking.move(node, node.load, node.load + change)
            node.load += change
            node = parent
        node.load += change


def load_of(size: int) -> int:
    """Return the load of a transaction of `size` bytes."""
    return 1 + size // LOAD_UNIT_BYTES


def _child(parent: Branch, key: _Key) -> Branch:
    child = parent.children.get(key)
    if child is None:
        child = parent.children[key] = Branch(parent, key)
    assert isinstance(child, Branch), "keys of branches and of senders are of different types"
    return child


def _path(
    queue: Queue | None, sender: Address, source: Address | None, gateway: Address | None
) -> list[_Key]:
    if queue is None:
        return [source, sender] if gateway is None else [source, (gateway,), sender]
    path: list[_Key] = []
    node: Branch | Queue = queue
    while (parent := node.parent) is not None:
        path.append(node.key)
        node = parent
    path.reverse()
    return path

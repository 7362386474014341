"""The transactions that wait for a block: bounded, each id once, in a fair order.

The pool takes what has passed admission and hands out candidates for a block. It decides nothing
about validity, verifies nothing and keeps no time: whoever owns it says what has been committed,
what has become invalid and what the time is.

How the room is shared
----------------------
Each lane has room of its own, so that no flood of telemetry keeps a vote out, and no flood of
verdicts telemetry. When a lane is full, then for a newcomer

1. a sender above its part (a sixteenth of what the lane holds) gives way, its newest transaction
   first; and the newcomer is refused if its own sender would be above that part;
2. otherwise the rule of :meth:`node.fair_share.Shares.heavier_than` decides, between the miners and
   peers by which transactions came, then between gateways, then between senders: whoever has more
   waiting than the newcomer's side gives way, its newest first; if nobody has, the newcomer is
   refused.

So one sender cannot keep others out whatever it sends, nor many behind one gateway those behind
another, nor the clients of one miner those of another. A miner counts what it took from its own
clients as its own, whatever others say, and proposes in its turn: a peer that relays the
transactions of others early, to have them counted as its own, slows nobody there.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Final, Literal

from chain.kinds.base import Lane
from chain.transactions import TRANSACTION_SIZE_MAX, Transaction
from chain.types import Address, Digest, TimestampMs
from node.errors import MempoolFull
from node.fair_share import LOAD_MAX, Budget, Pending, Queue, Shares, load_of

MEMPOOL_TRANSACTIONS_MAX: Final = 50_000
MEMPOOL_SIZE_BYTES_MAX: Final = 64 * 1024 * 1024
REMEMBERED_MAX: Final = 20_000
"""Ids of rejected and expired transactions; the one that came first is forgotten."""
RETRY_AFTER_MS: Final = 1_000
SENDER_PART: Final = 16
"""A sender may hold one in so many of a full lane."""
DISPLACED_MAX: Final = 128
"""Transactions that one newcomer may displace; one that needs more room is refused."""
SWEEP_ABOVE: Final = 1_024
"""Times of transactions that have left, beyond as many as wait, at which they are swept out."""
PASSED_OVER_MAX: Final = 4
"""Blocks in a row that may take nothing of a lane in which something waits."""
LANE_SIXTEENTHS: Final = {
    Lane.GOVERNANCE: 1,
    Lane.REGISTRY: 1,
    Lane.VERDICT: 2,
    Lane.TELEMETRY: 12,
}
"""How the bounds of the pool are dealt to the lanes."""


class Added(Enum):
    """What became of a transaction handed to the pool."""

    NEW = "new"
    KNOWN = "known"
    """The very same bytes are waiting already."""
    OTHER_SIGNATURE = "other_signature"
    """The same payload waits under another signature; the first is kept, this one is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What a pool knows of a transaction; that it was committed, only the store knows.

    Parameters
    ----------
    status : {"pending", "rejected", "expired"}
    code : str, optional
        Why it was rejected.
    """

    status: Literal["pending", "rejected", "expired"]
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MempoolLimits:
    """Bounds of a pool, over all lanes.

    Parameters
    ----------
    transactions_max : int
        How many may wait; at least 16.
    size_bytes_max : int
        How many bytes they may have on the wire together, at least 16 of the largest size. In
        memory each takes about three times its bytes and a kilobyte and a half.
    remembered_max : int
        Rejected and expired ids that can be asked for.
    retry_after_ms : int
        What a refused sender is told to wait.
    """

    transactions_max: int = MEMPOOL_TRANSACTIONS_MAX
    size_bytes_max: int = MEMPOOL_SIZE_BYTES_MAX
    remembered_max: int = REMEMBERED_MAX
    retry_after_ms: int = RETRY_AFTER_MS

    def __post_init__(self) -> None:
        if self.transactions_max < 16 or self.size_bytes_max < 16 * TRANSACTION_SIZE_MAX:
            raise ValueError("every lane needs room for one transaction at least")


class Mempool:
    """Pending transactions by id and by full digest, and the order in which they are proposed.

    Parameters
    ----------
    limits : MempoolLimits, optional
        Bounds; at a bound the module's rule decides who gives way.

    Attributes
    ----------
    on_dropped : callable
        ``on_dropped(transaction_id)``, told of each that leaves otherwise than by `remove`: it will
        stand in no block.

    Notes
    -----
    A transaction leaves by `remove`, `reject`, `expire`, or by giving way. One that was refused or
    gave way is forgotten, and is taken like any other when it is sent again.
    """

    def __init__(self, limits: MempoolLimits | None = None) -> None:
        self._limits = limits or MempoolLimits()
        self.on_dropped: Callable[[Digest], None] = lambda transaction_id: None
        self._lanes = {
            lane: _LaneRoom(
                count_max=self._limits.transactions_max * part // 16,
                size_max=self._limits.size_bytes_max * part // 16,
            )
            for lane, part in LANE_SIXTEENTHS.items()
        }
        self._by_id: dict[Digest, tuple[Pending, _LaneRoom]] = {}
        self._by_digest: dict[Digest, Transaction] = {}
        # What left before it expired stays here until it comes to the top or is swept out.
        self._by_time: list[tuple[TimestampMs, Digest]] = []
        self._fates: OrderedDict[Digest, Fate] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def size_bytes(self) -> int:
        """Bytes on the wire of everything that waits."""
        return sum(room.size for room in self._lanes.values())

    @property
    def remembered_count(self) -> int:
        """Of how many that have left it knows why."""
        return len(self._fates)

    def count(self, lane: Lane) -> int:
        """Return how many wait in `lane`."""
        return self._lanes[lane].count

    def has(self, transaction_id: Digest) -> bool:
        """Tell whether a transaction with this id waits."""
        return transaction_id in self._by_id

    def get(self, digest: Digest) -> Transaction | None:
        """Return the waiting transaction with this full digest, as proposals name it."""
        return self._by_digest.get(digest)

    def find(self, transaction_id: Digest) -> Transaction | None:
        """Return the waiting transaction with this id."""
        found = self._by_id.get(transaction_id)
        return None if found is None else found[0].transaction

    def fate(self, transaction_id: Digest) -> Fate | None:
        """Return what is known of an id; None where it never came, gave way or is long gone."""
        if transaction_id in self._by_id:
            return Fate(status="pending")
        return self._fates.get(transaction_id)

    def add(
        self,
        transaction: Transaction,
        *,
        lane: Lane,
        source: Address | None,
        gateway: Address | None = None,
    ) -> Added:
        """Let an admitted transaction wait.

        Parameters
        ----------
        source : Address or None
            The miner or peer it came from; None for this node's own clients.
        gateway : Address, optional
            The gateway its device is registered behind.

        Raises
        ------
        MempoolFull
            The lane is full and nobody has to give way. The pool is as it was before.
        """
        known = self._by_id.get(transaction.id)
        if known is not None:
            is_same = known[0].transaction.digest == transaction.digest
            return Added.KNOWN if is_same else Added.OTHER_SIGNATURE
        room = self._lanes[lane]
        for displaced in room.make_room(transaction, source=source, gateway=gateway):
            self._forget(displaced.transaction)
            self.on_dropped(displaced.transaction.id)
        if room.lacks_room_for(len(transaction.wire)):
            raise MempoolFull(retry_after_ms=self._limits.retry_after_ms)
        pending = room.add(transaction, source=source, gateway=gateway)
        self._by_id[transaction.id] = pending, room
        self._by_digest[transaction.digest] = transaction
        heappush(self._by_time, (transaction.payload.time_ms, transaction.id))
        if len(self._by_time) > 2 * len(self._by_id) + SWEEP_ABOVE:
            self._sweep()
        self._fates.pop(transaction.id, None)
        return Added.NEW

    def take(self, limit_count: int, limit_bytes: int) -> list[Transaction]:
        """Return candidates for a block in their order; they go on waiting.

        The lanes follow each other. A lane leaves those after it up to half of the room it finds,
        as far as they have use for it, so that a stream of votes or registrations never stops the
        devices. Half of a place is none: where blocks are that small, a lane that several of them
        have passed over has a place before those in front of it. Within a lane the shares are
        served in turn, and a sender in the order of arrival.

        Parameters
        ----------
        limit_count, limit_bytes : int
            Bounds of the result; bytes are those on the wire. A transaction above `limit_bytes` is
            never returned, so a proposer that has to get on leaves room for the largest one.

        Notes
        -----
        After a commit whoever was served is last in its row, on every level of the tree, so whoever
        was not moves to the front, however many arrive meanwhile.
        """
        taken: list[Transaction] = []
        later_count = len(self._by_id)
        later_size = self.size_bytes
        owed = sum([room.is_owed for room in self._lanes.values()])
        for lane in Lane:
            room = self._lanes[lane]
            later_count -= room.count
            later_size -= room.size
            owed -= room.is_owed
            kept_count = min(later_count, limit_count, max(limit_count // 2, owed))
            half = max(0, min(limit_bytes // 2, limit_bytes - TRANSACTION_SIZE_MAX))
            kept_size = min(later_size, limit_bytes, max(half, owed * TRANSACTION_SIZE_MAX))
            budget = Budget(limit_count - kept_count, limit_bytes - kept_size)
            taken += [pending.transaction for pending in room.shares.walk(budget)]
            limit_count = budget.count + kept_count
            limit_bytes = budget.size + kept_size
        return taken

    def remove(self, transaction_ids: Iterable[Digest]) -> None:
        """Drop what a block has committed, under whichever signature; unknown ids are no error."""
        left: dict[_LaneRoom, list[Pending]] = {}
        for transaction_id in transaction_ids:
            found = self._by_id.get(transaction_id)
            if found is not None:
                pending, room = found
                left.setdefault(room, []).append(pending)
                self._forget(pending.transaction)
        for room, pendings in left.items():
            room.remove(pendings)
        for room in self._lanes.values():
            room.passed_over = 0 if room in left or not room.count else room.passed_over + 1

    def reject(self, transaction: Transaction, code: str) -> None:
        """Drop a transaction that has become invalid, or note that one was refused, and why.

        Where the same payload waits under another signature, that one is untouched and nothing is
        noted: a forged copy must not speak for the original.
        """
        found = self._by_id.get(transaction.id)
        if found is not None:
            if found[0].transaction.digest != transaction.digest:
                return
            self._drop(transaction.id)
        self._remember(transaction.id, Fate(status="rejected", code=code))

    def expire(self, time_ms: int, lifetime_ms: int, *, floor_ms: int = 0) -> list[Transaction]:
        """Drop and return what is no longer timely in a block of `time_ms` or later.

        Parameters
        ----------
        time_ms : int
            The earliest time that the next block may have.
        lifetime_ms, floor_ms : int
            The chain's parameters: timely is later than ``time_ms - lifetime_ms`` and later than
            ``floor_ms``.
        """
        horizon_ms = max(time_ms - lifetime_ms, floor_ms)
        expired = []
        while self._by_time and self._by_time[0][0] <= horizon_ms:
            transaction = self._drop(heappop(self._by_time)[1])
            if transaction is not None:
                self._remember(transaction.id, Fate(status="expired"))
                expired.append(transaction)
        return expired

    def _drop(self, transaction_id: Digest) -> Transaction | None:
        found = self._by_id.get(transaction_id)
        if found is None:
            return None
        pending, room = found
        room.remove([pending])
        self._forget(pending.transaction)
        self.on_dropped(transaction_id)
        return pending.transaction

    def _forget(self, transaction: Transaction) -> None:
        del self._by_id[transaction.id]
        del self._by_digest[transaction.digest]

    def _remember(self, transaction_id: Digest, fate: Fate) -> None:
        self._fates[transaction_id] = fate
        self._fates.move_to_end(transaction_id)
        if len(self._fates) > self._limits.remembered_max:
            self._fates.popitem(last=False)

    def _sweep(self) -> None:
        self._by_time = [
            (pending.transaction.payload.time_ms, transaction_id)
            for transaction_id, (pending, _) in self._by_id.items()
        ]
        heapify(self._by_time)


class _LaneRoom:
    """A lane: its shares and its bounds, and how many blocks in a row have passed it over."""

    __slots__ = ("_count_max", "_size_max", "count", "passed_over", "shares", "size")

    def __init__(self, *, count_max: int, size_max: int) -> None:
        self._count_max = count_max
        self._size_max = size_max
        self.shares = Shares()
        self.count = 0
        self.size = 0
        self.passed_over = 0

    @property
    def is_owed(self) -> bool:
        return self.count > 0 and self.passed_over >= PASSED_OVER_MAX

    def lacks_room_for(self, size: int) -> bool:
        return self.count >= self._count_max or self.size + size > self._size_max

    def add(
        self, transaction: Transaction, *, source: Address | None, gateway: Address | None
    ) -> Pending:
        self.count += 1
        self.size += len(transaction.wire)
        return self.shares.add(transaction, source=source, gateway=gateway)

    def remove(self, pendings: Sequence[Pending], *, was_served: bool = True) -> None:
        self.count -= len(pendings)
        self.size -= sum([pending.size for pending in pendings])
        self.shares.remove(pendings, was_served=was_served)

    def make_room(
        self, transaction: Transaction, *, source: Address | None, gateway: Address | None
    ) -> list[Pending]:
        """Take out who has to give way for `transaction`: enough of them, or nobody."""
        size = len(transaction.wire)
        displaced: list[Pending] = []
        while self.lacks_room_for(size):
            heavier = self._heavier_than(transaction, source=source, gateway=gateway)
            if heavier is None or len(displaced) == DISPLACED_MAX:
                for pending in reversed(displaced):
                    self.count += 1
                    self.size += pending.size
                    self.shares.restore(pending)
                return []
            displaced.append(heavier.newest())
            self.remove(displaced[-1:], was_served=False)
        return displaced

    def _heavier_than(
        self, transaction: Transaction, *, source: Address | None, gateway: Address | None
    ) -> Queue | None:
        sender = transaction.payload.sender
        load = load_of(len(transaction.wire))
        # A sender may always have one transaction of any size.
        part = max(self.shares.load // SENDER_PART, LOAD_MAX)
        if self.shares.load_of(sender) + load > part:
            return None
        heaviest = self.shares.heaviest_sender()
        if heaviest is not None and heaviest.load > part:
            return heaviest
        return self.shares.heavier_than(sender, load, source=source, gateway=gateway)

"""The laws of the mempool: bounds, order, and that nobody starves."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chain.kinds.base import Lane
from chain.transactions import TRANSACTION_SIZE_MAX, attach_signature
from chain.types import Signature
from node.errors import MempoolFull
from node.fair_share import LOAD_MAX, load_of
from node.mempool import LANE_SIXTEENTHS, Added, Fate, Mempool, MempoolLimits
from tests.unit.node.pool_values import TIME_MS, address, make_transaction

LIFETIME_MS = 100
ALL = (10_000, 1 << 30)
LIMITS = MempoolLimits(
    transactions_max=96, size_bytes_max=16 * TRANSACTION_SIZE_MAX, remembered_max=50
)

SOURCES = st.one_of(st.none(), st.integers(1, 3).map(address))
GATEWAYS = st.one_of(st.none(), st.integers(11, 13).map(address))
SENDERS = st.integers(11, 24)
SIZES = st.sampled_from([200, 300, 1_500, 9_000, 32_900])
WAYS = st.fixed_dictionaries({"source": SOURCES, "gateway": GATEWAYS})


class Pool(RuleBasedStateMachine):
    """A pool beside a plain model of it: the transactions that wait, by id, with their lanes."""

    def __init__(self):
        super().__init__()
        self.pool = Mempool(LIMITS)
        self.waiting = {}
        self.gone = []
        self.time_ms = TIME_MS

    def waits(self):
        return {transaction.id for transaction in self.pool.take(*ALL)}

    @rule(
        way=WAYS,
        sender=SENDERS,
        lane=st.sampled_from(Lane),
        size_bytes=SIZES,
        count=st.integers(1, 40),
        age_ms=st.integers(0, LIFETIME_MS - 1),
    )
    def add(self, way, sender, lane, size_bytes, count, age_ms):
        for _ in range(count):
            transaction = make_transaction(
                sender=sender, size_bytes=size_bytes, time_ms=self.time_ms - age_ms
            )
            before = self.waits()
            try:
                added = self.pool.add(transaction, lane=lane, **way)
            except MempoolFull:
                assert self.waits() == before
                break
            assert added is Added.NEW
            assert self.pool.fate(transaction.id) == Fate(status="pending")
            after = self.waits()
            assert after - before == {transaction.id}
            self.waiting[transaction.id] = transaction, lane
            for displaced in before - after:
                lost, lost_lane = self.waiting.pop(displaced)
                assert lost_lane is lane
                assert lost.payload.sender != transaction.payload.sender
                assert self.pool.fate(displaced) is None
                self.gone.append((lost, lane))

    @rule(data=st.data(), way=WAYS)
    def add_again(self, data, way):
        if self.waiting:
            transaction, lane = data.draw(st.sampled_from(list(self.waiting.values())))
            twin = attach_signature(transaction.payload, Signature(b"\x01" * 64))
            assert self.pool.add(transaction, lane=lane, **way) is Added.KNOWN
            assert self.pool.add(twin, lane=lane, **way) is Added.OTHER_SIGNATURE

    @rule(data=st.data(), way=WAYS)
    def send_again_what_has_left(self, data, way):
        if self.gone:
            transaction, lane = self.gone.pop(data.draw(st.integers(0, len(self.gone) - 1)))
            if transaction.payload.time_ms <= self.time_ms - LIFETIME_MS:
                return
            before = self.waits()
            try:
                assert self.pool.add(transaction, lane=lane, **way) is Added.NEW
            except MempoolFull:
                return
            for displaced in before - self.waits():
                del self.waiting[displaced]
            self.waiting[transaction.id] = transaction, lane

    @rule(count=st.integers(0, 60), size=st.integers(0, 8 * TRANSACTION_SIZE_MAX))
    def commit(self, count, size):
        taken = self.pool.take(count, size)
        assert len(taken) <= count
        assert sum(len(transaction.wire) for transaction in taken) <= size
        self.pool.remove([transaction.id for transaction in taken])
        for transaction in taken:
            self.gone.append(self.waiting.pop(transaction.id))

    @rule(data=st.data())
    def reject(self, data):
        if self.waiting:
            chosen = data.draw(st.sampled_from(list(self.waiting)))
            transaction, lane = self.waiting.pop(chosen)
            self.pool.reject(transaction, "device_not_active")
            assert self.pool.fate(chosen) == Fate(status="rejected", code="device_not_active")
            self.gone.append((transaction, lane))

    @rule(passed_ms=st.integers(0, LIFETIME_MS // 2))
    def expire(self, passed_ms):
        self.time_ms += passed_ms
        expired = self.pool.expire(self.time_ms, LIFETIME_MS)
        late = {
            id_
            for id_, (transaction, _) in self.waiting.items()
            if transaction.payload.time_ms <= self.time_ms - LIFETIME_MS
        }
        assert {transaction.id for transaction in expired} == late
        assert len(expired) == len(late)
        for id_ in late:
            del self.waiting[id_]

    @invariant()
    def bounds_hold_in_every_lane(self):
        for lane, part in LANE_SIXTEENTHS.items():
            sizes = [len(tx.wire) for tx, of in self.waiting.values() if of is lane]
            assert self.pool.count(lane) == len(sizes) <= LIMITS.transactions_max * part // 16
            assert sum(sizes) <= LIMITS.size_bytes_max * part // 16
        assert len(self.pool) == len(self.waiting)
        assert self.pool.size_bytes == sum(len(tx.wire) for tx, _ in self.waiting.values())

    @invariant()
    def everything_that_waits_is_taken_once_in_order(self):
        taken = self.pool.take(*ALL)
        assert len({transaction.id for transaction in taken}) == len(taken)
        assert {transaction.id for transaction in taken} == set(self.waiting)
        lanes = [self.waiting[transaction.id][1] for transaction in taken]
        assert lanes == sorted(lanes)
        assert all(self.pool.get(transaction.digest) is transaction for transaction in taken)

    @invariant()
    def a_sender_keeps_its_order_of_arrival(self):
        arrival = {id_: place for place, id_ in enumerate(self.waiting)}
        places = defaultdict(list)
        for transaction in self.pool.take(*ALL):
            lane = self.waiting[transaction.id][1]
            places[lane, transaction.payload.sender].append(arrival[transaction.id])
        assert all(a < b for row in places.values() for a, b in pairwise(row))

    @invariant()
    def loads_of_the_shares_add_up(self):
        for room in self.pool._lanes.values():
            check_loads(room.shares._root)
            assert len(room.shares._queues) == len(queues(room.shares._root))


def queues(branch):
    if not hasattr(branch, "children"):
        return [branch]
    return [queue for child in branch.children.values() for queue in queues(child)]


def check_loads(branch):
    if hasattr(branch, "children"):
        assert branch.load == sum(check_loads(child) for child in branch.children.values())
        loads = [child.load for child in branch.children.values()]
        assert all(loads)
        heaviest = branch.ranking.heaviest()
        assert (heaviest.load if heaviest else 0) == max(loads, default=0)
    else:
        assert branch.load == sum(pending.load for pending in branch.entries)
    return branch.load


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=40, stateful_step_count=25)


def add(pool, way, **fields):
    transaction = make_transaction(**fields)
    pool.add(transaction, lane=Lane.TELEMETRY, **way)
    return transaction


def is_admitted(pool, way, **fields):
    try:
        add(pool, way, **fields)
    except MempoolFull:
        return False
    return True


FLOOD = st.lists(st.tuples(WAYS, SENDERS, SIZES, st.integers(1, 30)), min_size=1, max_size=30)


def flood(pool, waves):
    """Send `waves` again and again, so that most of them find a full lane."""
    for _ in range(4):
        for way, sender, size_bytes, count in waves:
            for _ in range(count):
                is_admitted(pool, way, sender=sender, size_bytes=size_bytes)


@pytest.mark.attack("D15")
@settings(max_examples=60)
@given(waves=FLOOD, data=st.data())
def test_no_flood_keeps_out_a_sender_that_comes_by_a_way_of_its_own(waves, data):
    pool = Mempool(LIMITS)
    flood(pool, waves)

    assert is_admitted(pool, {"source": address(9)}, sender=1, size_bytes=300)


@settings(max_examples=60)
@given(way=WAYS, size_bytes=SIZES, victim_way=WAYS)
def test_no_single_sender_keeps_others_out_whatever_way_they_come(way, size_bytes, victim_way):
    pool = Mempool(LIMITS)
    flood(pool, [(way, 1, size_bytes, 30)])

    admitted = [
        is_admitted(pool, victim_way, sender=sender, size_bytes=300) for sender in range(100, 116)
    ]

    assert all(admitted)


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(WAYS, SENDERS, SIZES, st.integers(1, 12)), min_size=2, max_size=20),
    limit=st.integers(1, 70),
)
def test_who_still_waits_was_given_no_less_than_anyone_beside_it(rows, limit):
    pool = Mempool()
    for way, sender, size_bytes, count in rows:
        for _ in range(count):
            add(pool, way, sender=sender, size_bytes=size_bytes)

    given: defaultdict[bytes, int] = defaultdict(int)
    for transaction in pool.take(limit, 1 << 30):
        given[transaction.payload.sender] += load_of(len(transaction.wire))

    check_shares(pool._lanes[Lane.TELEMETRY].shares._root, given)


def check_shares(node, given):
    """Check every row of the tree; return what `node` was given and whether it still waits."""
    if not hasattr(node, "children"):
        return given[node.key], given[node.key] < node.load
    shares = [check_shares(child, given) for child in node.children.values()]
    waiting = [share for share, waits in shares if waits]
    # Whoever was given most was behind, or level with, every other before its last transaction.
    assert not waiting or max(share for share, _ in shares) - min(waiting) <= LOAD_MAX
    return sum(share for share, _ in shares), bool(waiting)


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(WAYS, SENDERS, st.sampled_from([200, 1_500])), min_size=1, max_size=15),
    waves=st.lists(
        st.tuples(WAYS, st.integers(100, 110), st.integers(1, 10)), min_size=1, max_size=5
    ),
    limit=st.integers(1, 5),
)
def test_everybody_is_served_however_many_arrive_meanwhile(rows, waves, limit):
    pool = Mempool(MempoolLimits(transactions_max=1_600))
    patient = [add(pool, way, sender=sender, size_bytes=size) for way, sender, size in rows]

    # One is served in each block at least, and a row is as long as the rows and waves together.
    blocks_max = 2 * (len(rows) + len(waves)) ** 2
    for _ in range(blocks_max):
        for way, sender, count in waves:
            for _ in range(count):
                is_admitted(pool, way, sender=sender)
        pool.remove([transaction.id for transaction in pool.take(limit, 200_000)])
        if not any(pool.has(transaction.id) for transaction in patient):
            return

    raise AssertionError("somebody starved")

import pytest

from chain.kinds.base import Lane
from chain.transactions import TRANSACTION_SIZE_MAX, attach_signature
from chain.types import Digest, Signature
from node.errors import MempoolFull
from node.mempool import PASSED_OVER_MAX, Added, Fate, Mempool, MempoolLimits
from tests.unit.node.pool_values import TIME_MS, address, make_transaction

ALL = (10_000, 1 << 30)
TELEMETRY_MAX = 48
LARGEST = 32_900
SMALL = MempoolLimits(transactions_max=64)


def add(pool, transaction, *, lane=Lane.TELEMETRY, source=None, gateway=None):
    return pool.add(transaction, lane=lane, source=source, gateway=gateway)


def fill(pool, count, *, sender=None, **way):
    """Add `count` transactions of one sender, or of a new sender each."""
    transactions = [
        make_transaction(sender=sender if sender is not None else 1_000 + index)
        for index in range(count)
    ]
    for transaction in transactions:
        add(pool, transaction, **way)
    return transactions


def senders(transactions):
    return [int.from_bytes(transaction.payload.sender) for transaction in transactions]


def test_a_transaction_is_found_by_its_id_and_by_its_full_digest():
    pool = Mempool()
    transaction = make_transaction()

    assert add(pool, transaction) is Added.NEW

    assert pool.has(transaction.id)
    assert pool.find(transaction.id) is transaction
    assert pool.get(transaction.digest) is transaction
    assert pool.get(transaction.id) is None
    assert pool.fate(transaction.id) == Fate(status="pending")
    assert (len(pool), pool.size_bytes) == (1, len(transaction.wire))


def test_the_same_bytes_are_kept_once():
    pool = Mempool()
    transaction = make_transaction()
    add(pool, transaction)

    assert add(pool, transaction, source=address(9)) is Added.KNOWN
    assert len(pool) == 1


@pytest.mark.attack("B12")
def test_the_second_signature_of_a_payload_is_refused():
    pool = Mempool()
    first = make_transaction()
    second = attach_signature(first.payload, Signature(b"\x01" * 64))
    add(pool, first)

    assert add(pool, second) is Added.OTHER_SIGNATURE
    assert pool.get(first.digest) is first
    assert pool.get(second.digest) is None


def test_a_committed_transaction_leaves_under_whichever_signature():
    pool = Mempool()
    first = make_transaction()
    add(pool, first)

    pool.remove([attach_signature(first.payload, Signature(b"\x01" * 64)).id, Digest(bytes(32))])

    assert len(pool) == pool.size_bytes == 0
    assert pool.get(first.digest) is None
    assert pool.fate(first.id) is None


def test_who_asks_is_told_of_what_will_stand_in_no_block():
    pool = Mempool(SMALL)
    dropped: list[Digest] = []
    pool.on_dropped = dropped.append
    flood = fill(pool, TELEMETRY_MAX, sender=7)

    fill(pool, 1)
    pool.reject(flood[0], "not_permitted")
    pool.remove([flood[1].id])
    assert dropped == [flood[-1].id, flood[0].id]

    pool.expire(TIME_MS + 60_000, 60_000)
    assert len(pool) == 0
    assert len(dropped) == TELEMETRY_MAX


def test_taking_removes_nothing():
    pool = Mempool()
    fill(pool, 3)

    assert pool.take(*ALL) == pool.take(*ALL)
    assert len(pool) == 3


def test_lanes_follow_each_other():
    pool = Mempool()
    waiting = {lane: make_transaction() for lane in Lane}
    for lane in reversed(Lane):
        add(pool, waiting[lane], lane=lane)

    assert pool.take(*ALL) == [waiting[lane] for lane in Lane]
    assert [pool.count(lane) for lane in Lane] == [1, 1, 1, 1]


def test_earlier_lanes_leave_later_ones_half_of_the_room():
    pool = Mempool()
    votes = fill(pool, 100, lane=Lane.GOVERNANCE)
    verdicts = fill(pool, 100, lane=Lane.VERDICT)
    telemetry = fill(pool, 100, lane=Lane.TELEMETRY)

    taken = pool.take(40, 1 << 20)

    assert taken == votes[:20] + verdicts[:10] + telemetry[:10]


def test_room_that_later_lanes_do_not_need_is_used():
    pool = Mempool()
    votes = fill(pool, 100, lane=Lane.GOVERNANCE)
    telemetry = fill(pool, 3, lane=Lane.TELEMETRY)

    assert pool.take(40, 1 << 20) == votes[:37] + telemetry


@pytest.mark.parametrize("places", [1, 2, 3])
@pytest.mark.parametrize("size_bytes", [200, LARGEST])
def test_the_smallest_blocks_pass_no_lane_over_for_long(places, size_bytes):
    pool = Mempool()
    lane_of = {}
    for lane in Lane:
        for sender in range(100):
            transaction = make_transaction(sender=sender, size_bytes=size_bytes)
            add(pool, transaction, lane=lane)
            lane_of[transaction.id] = lane
    blocks = []
    for _ in range(30):
        taken = pool.take(places, TRANSACTION_SIZE_MAX)
        blocks.append([lane_of[transaction.id] for transaction in taken])
        pool.remove([transaction.id for transaction in taken])

    for lane in Lane:
        served = [height for height, lanes in enumerate(blocks) if lane in lanes]
        gaps = [b - a for a, b in zip([-1, *served], [*served, len(blocks)], strict=True)]
        assert max(gaps) <= PASSED_OVER_MAX + len(Lane), lane
    assert all(lanes == sorted(lanes) for lanes in blocks)
    assert sum(Lane.GOVERNANCE in lanes for lanes in blocks) >= len(blocks) // 4


def test_a_lane_that_was_empty_is_owed_nothing():
    pool = Mempool()
    votes = fill(pool, 20, lane=Lane.GOVERNANCE)
    for vote in votes[:10]:
        pool.remove([vote.id])
    fill(pool, 1)

    assert pool.take(1, TRANSACTION_SIZE_MAX) == [votes[10]]


def test_the_bytes_of_a_block_are_shared_out_like_its_places():
    pool = Mempool()
    votes = [make_transaction(sender=index, size_bytes=29_000) for index in range(20)]
    for vote in votes:
        add(pool, vote, lane=Lane.GOVERNANCE)
    telemetry = fill(pool, 1_000)

    taken = pool.take(10_000, 300_000)

    assert sum(len(transaction.wire) for transaction in taken) <= 300_000
    assert [transaction for transaction in taken if transaction in votes] == votes[:5]
    assert sum(transaction in telemetry for transaction in taken[5:]) == len(taken) - 5 > 700


def test_the_largest_vote_fits_into_the_smallest_block():
    pool = Mempool()
    vote = make_transaction(size_bytes=LARGEST)
    add(pool, vote, lane=Lane.GOVERNANCE)
    fill(pool, 1_000)

    taken = pool.take(4_000, 64 * 1024)

    assert taken[0] is vote
    assert len(taken) > 100


def test_senders_take_turns_and_keep_their_own_order():
    pool = Mempool()
    a = fill(pool, 5, sender=1)
    b = fill(pool, 2, sender=2)
    c = fill(pool, 1, sender=3)

    assert pool.take(*ALL) == [a[0], b[0], c[0], a[1], b[1], a[2], a[3], a[4]]


def test_a_sender_keeps_its_order_whatever_way_its_transactions_come():
    pool = Mempool()
    transactions = [make_transaction(sender=1) for _ in range(4)]
    for index, transaction in enumerate(transactions):
        add(pool, transaction, source=address(index % 2), gateway=address(7) if index > 2 else None)

    assert pool.take(*ALL) == transactions


@pytest.mark.attack("D15")
def test_many_senders_behind_one_gateway_get_what_one_other_sender_gets():
    pool = Mempool()
    fill(pool, 50, gateway=address(7))
    fill(pool, 10, sender=1)

    assert senders(pool.take(20, 1 << 20)).count(1) == 10


def test_the_clients_of_one_miner_get_what_those_of_another_get():
    pool = Mempool()
    for gateway in range(5):
        for sender in range(10):
            add(
                pool,
                make_transaction(sender=100 * gateway + sender + 100),
                source=address(8),
                gateway=address(gateway),
            )
    fill(pool, 10, sender=1, source=address(9))

    assert senders(pool.take(20, 1 << 20)).count(1) == 10


def test_a_gateway_that_sends_itself_is_no_gateway_of_its_own():
    pool = Mempool()
    own = make_transaction(sender=7)
    behind = make_transaction(sender=8)
    add(pool, own)
    add(pool, behind, gateway=address(7))

    assert pool.take(*ALL) == [own, behind]


@pytest.mark.attack("D12")
def test_large_transactions_count_for_their_bytes():
    pool = Mempool()
    for _ in range(5):
        add(pool, make_transaction(sender=1, size_bytes=10_000))
    fill(pool, 50, sender=2)

    taken = senders(pool.take(30, 1 << 20))

    assert taken.count(1) == 3
    assert taken.count(2) == 27


def test_a_transaction_that_does_not_fit_holds_up_its_own_sender_only():
    pool = Mempool()
    small = make_transaction(sender=1, size_bytes=200)
    large = make_transaction(sender=1, size_bytes=5_000)
    behind = make_transaction(sender=1, size_bytes=200)
    other = make_transaction(sender=2, size_bytes=200)
    for transaction in (small, large, behind, other):
        add(pool, transaction)

    assert pool.take(10, 1_000) == [small, other]


def test_who_was_served_goes_to_the_end_of_the_row():
    pool = Mempool()
    a, b, c = (fill(pool, 2, sender=sender) for sender in (1, 2, 3))

    pool.remove([transaction.id for transaction in pool.take(2, 1 << 20)])

    assert pool.take(*ALL) == [c[0], a[1], b[1], c[1]]


def test_a_rejected_transaction_leaves_and_its_code_is_remembered():
    pool = Mempool()
    transaction = make_transaction()
    add(pool, transaction)

    pool.reject(transaction, "device_not_active")

    assert not pool.has(transaction.id)
    assert pool.fate(transaction.id) == Fate(status="rejected", code="device_not_active")


@pytest.mark.attack("D13")
def test_a_forged_copy_neither_removes_the_original_nor_speaks_for_it():
    pool = Mempool()
    original = make_transaction()
    forged = attach_signature(original.payload, Signature(b"\x01" * 64))
    add(pool, original)

    pool.reject(forged, "bad_signature")

    assert pool.get(original.digest) is original
    assert pool.fate(original.id) == Fate(status="pending")


def test_a_rejected_transaction_may_be_sent_again():
    pool = Mempool()
    transaction = make_transaction()
    pool.reject(transaction, "rate_limited")

    assert add(pool, transaction) is Added.NEW
    assert pool.fate(transaction.id) == Fate(status="pending")
    pool.remove([transaction.id])
    assert pool.fate(transaction.id) is None


@pytest.mark.attack("D18")
def test_only_so_many_fates_are_remembered():
    pool = Mempool(MempoolLimits(remembered_max=2))
    transactions = [make_transaction() for _ in range(3)]
    pool.reject(transactions[0], "expired")
    pool.reject(transactions[1], "expired")
    pool.reject(transactions[0], "rate_limited")
    pool.reject(transactions[2], "expired")

    codes = [fate and fate.code for fate in (pool.fate(tx.id) for tx in transactions)]

    assert codes == ["rate_limited", None, "expired"]


def test_what_is_no_longer_timely_expires():
    pool = Mempool()
    late, just, fresh = (make_transaction(time_ms=TIME_MS + offset) for offset in (0, 1, 2))
    for transaction in (fresh, late, just):
        add(pool, transaction)

    assert pool.expire(TIME_MS + 60_001, 60_000) == [late, just]

    assert pool.take(*ALL) == [fresh]
    assert pool.fate(late.id) == Fate(status="expired")


def test_nothing_at_or_before_the_floor_is_timely():
    pool = Mempool()
    before, after = make_transaction(time_ms=TIME_MS), make_transaction(time_ms=TIME_MS + 1)
    add(pool, before)
    add(pool, after)

    assert pool.expire(TIME_MS, 600_000, floor_ms=TIME_MS) == [before]


def test_a_transaction_sent_again_expires_once():
    pool = Mempool()
    transaction = make_transaction()
    for _ in range(3):
        add(pool, transaction)
        pool.remove([transaction.id])
    add(pool, transaction)

    assert pool.expire(TIME_MS + 1_000, 1_000) == [transaction]


@pytest.mark.attack("D18")
def test_the_times_of_what_has_left_are_swept_out():
    pool = Mempool(SMALL)
    for _ in range(5_000):
        transaction = make_transaction()
        add(pool, transaction)
        pool.remove([transaction.id])

    assert len(pool._by_time) <= 2 * 64 + 1_025


def test_a_full_lane_refuses_with_a_time_and_stays_as_it_was():
    pool = Mempool(MempoolLimits(transactions_max=64, retry_after_ms=250))
    fill(pool, TELEMETRY_MAX)
    before = pool.take(*ALL)

    with pytest.raises(MempoolFull) as refusal:
        add(pool, newcomer := make_transaction(sender=1))

    assert refusal.value.retry_after_ms == 250
    assert pool.take(*ALL) == before
    assert pool.fate(newcomer.id) is None


@pytest.mark.attack("D13")
def test_a_refused_transaction_is_taken_once_there_is_room():
    pool = Mempool(SMALL)
    kept = fill(pool, TELEMETRY_MAX)
    newcomer = make_transaction(sender=1)
    with pytest.raises(MempoolFull):
        add(pool, newcomer)
    pool.remove([kept[0].id])

    assert add(pool, newcomer) is Added.NEW


def test_a_flooding_sender_gives_way_with_its_newest():
    pool = Mempool(SMALL)
    flood = fill(pool, TELEMETRY_MAX, sender=1)
    newcomer = make_transaction(sender=2)

    assert add(pool, newcomer) is Added.NEW

    assert len(pool) == TELEMETRY_MAX
    assert pool.take(*ALL) == [flood[0], newcomer, *flood[1:-1]]
    assert pool.fate(flood[-1].id) is None
    with pytest.raises(MempoolFull):
        add(pool, flood[-1])


def test_many_senders_behind_one_gateway_give_way_to_one_behind_another():
    pool = Mempool(SMALL)
    crowd = fill(pool, TELEMETRY_MAX, gateway=address(7))
    newcomer = make_transaction(sender=1)

    assert add(pool, newcomer, gateway=address(8)) is Added.NEW
    assert not pool.has(crowd[-1].id)
    assert pool.has(crowd[0].id)


def test_the_crowd_of_one_miner_gives_way_to_the_clients_of_another_up_to_their_half():
    pool = Mempool(SMALL)
    for sender in range(TELEMETRY_MAX):
        add(pool, make_transaction(sender=500 + sender), source=address(8))

    fill(pool, TELEMETRY_MAX // 2, source=address(9))

    with pytest.raises(MempoolFull):
        add(pool, make_transaction(sender=1), source=address(9))


def test_a_sender_above_its_part_gives_way_even_in_a_lighter_branch():
    pool = Mempool(MempoolLimits(transactions_max=1_600))
    fill(pool, 800, source=address(8))
    flood = fill(pool, 400, sender=1, source=address(9))

    assert add(pool, make_transaction(sender=2), source=address(8)) is Added.NEW
    assert not pool.has(flood[-1].id)


def test_a_sender_above_its_part_displaces_nobody():
    pool = Mempool(MempoolLimits(transactions_max=1_600))
    fill(pool, 100, sender=1, source=address(9))
    fill(pool, 1_100, source=address(8))

    with pytest.raises(MempoolFull):
        add(pool, make_transaction(sender=1), source=address(9))


def test_a_flood_of_telemetry_keeps_no_vote_out():
    pool = Mempool(SMALL)
    fill(pool, TELEMETRY_MAX)

    assert len(fill(pool, 4, lane=Lane.GOVERNANCE)) == 4
    with pytest.raises(MempoolFull):
        add(pool, make_transaction(), lane=Lane.GOVERNANCE)


def test_bytes_are_bounded_and_a_large_newcomer_displaces_several():
    limits = MempoolLimits(size_bytes_max=16 * TRANSACTION_SIZE_MAX)
    pool = Mempool(limits)
    fill(pool, 12 * TRANSACTION_SIZE_MAX // 1_000)
    while True:
        try:
            add(pool, make_transaction(sender=1, size_bytes=1_000))
        except MempoolFull:
            break
    before = len(pool)

    newcomer = make_transaction(sender=2, size_bytes=10_000)
    assert add(pool, newcomer, source=address(9)) is Added.NEW

    assert pool.size_bytes <= 12 * TRANSACTION_SIZE_MAX
    assert before - len(pool) > 5


def test_a_newcomer_that_would_displace_too_many_displaces_nobody():
    pool = Mempool(MempoolLimits(size_bytes_max=16 * TRANSACTION_SIZE_MAX))
    with pytest.raises(MempoolFull):
        fill(pool, 3_000)
    before = set(pool.take(*ALL))

    with pytest.raises(MempoolFull):
        add(pool, make_transaction(sender=2, size_bytes=LARGEST), source=address(9))

    assert set(pool.take(*ALL)) == before


def test_bounds_without_room_for_one_transaction_in_every_lane_are_refused():
    with pytest.raises(ValueError, match="room"):
        MempoolLimits(transactions_max=15)
    with pytest.raises(ValueError, match="room"):
        MempoolLimits(size_bytes_max=TRANSACTION_SIZE_MAX)

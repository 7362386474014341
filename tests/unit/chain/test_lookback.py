"""chain.lookback: what rules need of the recent past, and nothing older."""

import pytest

from chain.limits import RATE_SECONDS_MAX, RateWindow
from chain.lookback import BlockSummary, Lookback, OpenBlock, judged_digest
from chain.parameters import FUTURE_DRIFT_MS, VERDICT_WINDOW, Parameters
from chain.types import Address, Digest
from tests.builders import digest_of, with_parameters

A, B = Address(digest_of("a")), Address(digest_of("b"))


def block(height, time_ms, *, ids=(), sent=None, flows=()):
    return BlockSummary(
        height=height,
        time_ms=time_ms,
        ids=tuple(Digest(digest_of(id)) for id in ids),
        sent=sent or {},
        flows=flows,
        judged=Digest(digest_of(str(height))) if flows else None,
    )


def lookback(*blocks, parameters=None):
    past = Lookback()
    for summary in blocks:
        past.append(summary, parameters or Parameters())
    return past


def test_ids_are_kept_for_l_plus_d():
    kept = Parameters().transaction_lifetime_ms + FUTURE_DRIFT_MS
    past = lookback(block(1, 1_000, ids=["x"]), block(2, 1_000 + kept - 1))
    assert past.has_id(digest_of("x"))

    past.append(block(3, 1_000 + kept), Parameters())
    assert not past.has_id(digest_of("x"))


def test_a_longer_lifetime_keeps_ids_longer():
    parameters = with_parameters(transaction_lifetime_ms=600_000)
    past = lookback(block(1, 1_000, ids=["x"]), block(2, 605_999), parameters=parameters)

    assert past.has_id(digest_of("x"))


def test_counts_are_of_blocks_after_a_time():
    past = lookback(
        block(1, 1_000, sent={A: 2}), block(2, 2_000, sent={A: 3, B: 1}), block(3, 3_000)
    )

    assert [past.sent_since(A, time) for time in (0, 999, 1_000, 1_999, 2_000)] == [5, 5, 3, 3, 0]
    assert past.sent_since(B, 0) == 1
    assert past.sent_since(Address(digest_of("c")), 0) == 0


def test_counts_survive_as_long_as_the_longest_window():
    horizon = RATE_SECONDS_MAX * 1000
    past = lookback(block(1, 1_000, sent={A: 1}), block(2, 1_000 + horizon - 1, sent={B: 1}))
    assert past.sent_since(A, 0) == 1

    past.append(block(3, 1_000 + horizon), Parameters())
    assert past.sent_since(A, 0) == 0
    assert past.sent_since(B, 0) == 1


def test_flows_are_kept_for_the_window_of_verdicts():
    past = lookback(block(1, 1_000, flows=(A, B)))
    for height in range(2, 1 + VERDICT_WINDOW + 1):
        past.append(block(height, 1_000 * height), Parameters())
        assert past.flows(1) == (A, B)

    past.append(block(2 + VERDICT_WINDOW, 10**6), Parameters())
    assert past.flows(1) == ()


@pytest.mark.attack("D18")
def test_nothing_grows_without_end():
    past = Lookback()
    for height in range(1, 3_000):
        ids = [f"{height} {n}" for n in range(2)]
        sent = {A: 1, Address(digest_of(f"device {height % 50}")): 1}
        past.append(block(height, 1_000 * height, ids=ids, sent=sent, flows=(A,)), Parameters())

    assert len(past._ids) == len([id for _, ids in past._id_blocks for id in ids]) <= 2 * 66
    assert len(past._flows) == VERDICT_WINDOW + 1
    assert len(past._sent) == 51
    assert max(len(sent.times) for sent in past._sent.values()) <= RATE_SECONDS_MAX


@pytest.mark.attack("D18")
def test_who_sends_no_more_is_forgotten():
    past = Lookback()
    for height in range(1, 2_000):
        sent = {Address(digest_of(f"device {height}")): 1}
        past.append(block(height, 1_000 * height, sent=sent), Parameters())

    assert len(past._sent) == RATE_SECONDS_MAX


@pytest.mark.parametrize(
    ("sent", "capacity", "expected"),
    [
        ([], 1, 1),
        ([(1_000, 1)], 2, 1),
        ([(1_000, 1)], 1, 7_000),
        ([(1_000, 1), (3_000, 1)], 1, 9_000),
        ([(1_000, 1), (3_000, 1)], 2, 7_000),
        ([(1_000, 5), (3_000, 1)], 2, 7_000),
        ([(1_000, 1), (3_000, 5)], 2, 9_000),
    ],
)
def test_the_time_to_try_again_is_when_enough_blocks_are_left_behind(sent, capacity, expected):
    past = lookback(*[block(n, time, sent={A: count}) for n, (time, count) in enumerate(sent)])
    now = OpenBlock(past, time_ms=4_000)

    assert now.free_in_ms(A, RateWindow(capacity=capacity, seconds=10)) == expected


def test_charges_of_the_open_block_count_for_the_time_to_try_again():
    past = lookback(block(1, 1_000, sent={A: 1}))
    now = OpenBlock(past, time_ms=4_000, sent={A: 1})

    assert now.free_in_ms(A, RateWindow(capacity=1, seconds=10)) == 10_000
    assert now.free_in_ms(A, RateWindow(capacity=2, seconds=10)) == 7_000
    assert now.free_in_ms(A, RateWindow(capacity=3, seconds=10)) == 1


def test_an_open_block_adds_to_the_past_without_changing_it():
    past = lookback(block(1, 1_000, ids=["x"], sent={A: 1}))
    now = OpenBlock(past, time_ms=2_000)
    now.append(Digest(digest_of("y")))
    now.charge(A)
    now.add_flow(A, Digest(digest_of("z")))

    assert now.has_id(Digest(digest_of("x")))
    assert now.has_id(Digest(digest_of("y")))
    assert now.sent_within(A, 10) == 2
    assert not past.has_id(Digest(digest_of("y")))
    assert past.sent_since(A, 0) == 1
    summary = now.summary(2)
    assert (summary.height, summary.time_ms, summary.flows) == (2, 2_000, (A,))
    assert summary.judged == judged_digest([Digest(digest_of("z"))])

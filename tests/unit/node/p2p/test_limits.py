"""The token bucket: never more than rate and burst allow, and never less."""

from hypothesis import given
from hypothesis import strategies as st

from node.p2p.limits import SECOND_NS, TokenBucket


def test_a_burst_passes_at_once_and_no_more():
    bucket = TokenBucket(10, 5)

    assert [bucket.take(0) for _ in range(6)] == [True] * 5 + [False]


def test_a_token_comes_back_after_its_share_of_a_second():
    bucket = TokenBucket(10, 5)
    for _ in range(5):
        bucket.take(0)

    assert not bucket.take(SECOND_NS // 10 - 1)
    assert bucket.take(SECOND_NS // 10)


def test_a_refused_unit_costs_nothing():
    bucket = TokenBucket(10, 1)
    bucket.take(0)
    for _ in range(1000):
        bucket.take(0)

    assert bucket.take(SECOND_NS // 10)


def test_a_charge_passes_always_and_tells_how_long_to_wait():
    bucket = TokenBucket(1000, 500)

    assert bucket.charge(0, 500) == 0
    assert bucket.charge(0, 250) == SECOND_NS // 4
    assert bucket.charge(SECOND_NS // 4, 0) == 0


@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.lists(st.integers(0, SECOND_NS), min_size=1, max_size=200),
)
def test_no_window_lets_more_pass_than_burst_and_rate(per_second, burst, pauses_ns):
    bucket = TokenBucket(per_second, burst)
    now_ns = 0
    passed = 0
    for pause_ns in pauses_ns:
        now_ns += pause_ns
        passed += bucket.take(now_ns)

    assert passed <= burst + now_ns * per_second / SECOND_NS + 1

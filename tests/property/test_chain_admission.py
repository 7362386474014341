"""Laws of Algorithm 1 over arbitrary histories."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.kinds.parameter_change import ParameterChange
from chain.limits import render_limits
from chain.parameters import FUTURE_DRIFT_MS
from chain.state import parameters_of
from chain.transactions import Transaction
from tests.builders import Chain, code_of, forged, make_genesis
from tests.strategies import rate_limits

FEW = settings(max_examples=30)


def trusting(transaction: Transaction, key: bytes) -> bool:
    """Verify quickly: a forgery of these tests has a flipped first bit, which is on record."""
    return transaction.digest not in _FORGED


_FORGED: set[bytes] = set()


def forge(transaction: Transaction) -> Transaction:
    false = forged(transaction)
    _FORGED.add(false.digest)
    return false


@FEW
@given(
    limits=rate_limits(capacity_max=4),
    steps=st.lists(st.tuples(st.integers(1, 5_000), st.integers(1, 5)), min_size=1, max_size=12),
)
def test_no_window_of_any_length_ever_holds_more_than_its_capacity(limits, steps):
    chain = Chain(verify=trusting)
    device = chain.register(limits=render_limits(limits))
    sent: list[int] = []
    for interval, attempts in steps:
        time_ms = chain.tip.header.time_ms + interval
        execution = chain.execution(time_ms=time_ms)
        taken = []
        for _ in range(attempts):
            report = chain.by_device(device, time_ms=time_ms)
            full = [
                window
                for window in limits
                if sum(time > time_ms - 1000 * window.seconds for time in sent) >= window.capacity
            ]
            code = code_of(execution, report)
            assert code == ("rate_limited" if full else None)
            if code is None:
                taken.append(report)
                sent.append(time_ms)
        if taken:
            chain.commit(*taken, time_ms=time_ms)


@pytest.mark.attack("D14")
@FEW
@given(
    capacity=st.integers(1, 4),
    attempts=st.lists(st.sampled_from(["forged", "replayed", "late", "good"]), max_size=25),
)
def test_what_is_refused_never_costs_the_device_anything(capacity, attempts):
    chain = Chain(verify=trusting)
    device = chain.register(limits=f"{capacity + 1}:600")
    old = chain.by_device(device)
    chain.commit(old)
    execution = chain.execution()
    passed = 0
    for attempt in attempts:
        report = chain.by_device(device)
        transaction, code = {
            "forged": (forge(report), "bad_signature"),
            "replayed": (old, "duplicate"),
            "late": (chain.by_device(device, time_ms=1), "expired"),
            "good": (report, None),
        }[attempt]
        if passed == capacity and code != "expired":
            code = "rate_limited"
        assert code_of(execution, transaction) == code
        passed += code is None

    assert execution.finish().summary.sent.get(device.id, 0) == passed


@pytest.mark.attack("A11", "C4", "D13")
@settings(max_examples=40)
@given(
    lifetimes=st.lists(st.sampled_from([5_000, 20_000, 60_000, 300_000]), min_size=1, max_size=5),
    pauses=st.lists(st.integers(1, 120_000), min_size=6, max_size=6),
    offset=st.integers(-70_000, FUTURE_DRIFT_MS),
)
def test_a_transaction_once_too_old_stays_too_old_and_none_is_committed_twice(
    lifetimes, pauses, offset
):
    """Raising L revives nothing, in whatever order L is raised and lowered."""
    chain = Chain(make_genesis(miners=1), verify=trusting)
    device = chain.register()
    report = chain.by_device(device, time_ms=chain.next_time_ms + offset)
    committed, was_too_old = 0, False
    for index, pause in enumerate(pauses):
        time_ms = chain.tip.header.time_ms + pause
        name, value = "transaction_lifetime_ms", str(lifetimes[index % len(lifetimes)])
        before = parameters_of(chain.state)
        is_too_old = report.payload.time_ms <= max(
            time_ms - before.transaction_lifetime_ms, before.lifetime_floor_ms
        )
        assert is_too_old or not was_too_old
        was_too_old = is_too_old
        change = chain.by_miner(
            0, "param.change", ParameterChange(name=name, value=value), time_ms=time_ms
        )
        execution = chain.execution(time_ms=time_ms)
        execution.apply(change)
        code = code_of(execution, report)
        if code is None:
            assert not is_too_old
            committed += 1
            chain.commit(change, report, time_ms=time_ms)
        else:
            assert code == ("duplicate" if committed and not is_too_old else "expired")
            chain.commit(change, time_ms=time_ms)

    assert committed <= 1

"""Behaviour of devices: exact sums, a score with its reason in words, and bounds."""

from fractions import Fraction
from statistics import pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.payloads import Flow
from chain.types import Address, Digest
from ml_validator import NSL_KDD_SCHEMA, behaviour
from ml_validator.behaviour import (
    DRIFT_WINDOWS,
    MINUTE_MS,
    PAST_MAX,
    PER_MINUTE,
    SUSPICIOUS_PPM,
    WINDOW,
    Sums,
    Watch,
    score_ppm,
    watched_values,
)
from tests.builders import digest_of

GROUP = Address(digest_of("group"))
VALUES = st.lists(st.integers(0, 2**53), min_size=1, max_size=60)


def id_of(name):
    return Address(digest_of(name))


def sums(values):
    found = Sums()
    for value in values:
        found.add(value)
    return found


def send(watch, values, *, device="device", name="src_bytes", time_ms=0):
    rows = [{name: value} for value in values]
    watch.take(id_of(device), GROUP, time_ms=time_ms, sent=len(rows), values=rows)


def report(watch, device="device"):
    return watch.report(id_of(device), GROUP)


def quantity(watch, name="src_bytes", device="device"):
    return next(q for q in report(watch, device).quantities if q.name == name)


def usual(count):
    """Return values around 100."""
    return [(80, 90, 100, 110, 120)[number % 5] for number in range(count)]


# --- sums -----------------------------------------------------------------------------------------


@given(VALUES)
def test_mean_and_variance_are_exact(values):
    found = sums(values)

    assert found.mean == sum(values) // len(values)
    assert found.variance == pvariance([Fraction(value) for value in values]) // 1


@given(st.lists(VALUES, min_size=1, max_size=5), st.integers(1, 50))
def test_sums_that_fade_never_have_a_variance_below_zero(parts, count_max):
    found = Sums()
    for part in parts:
        found.merge(sums(part))
        found.fade(count_max)
        assert found.variance >= 0


@given(VALUES, VALUES)
def test_a_score_is_parts_per_million(latest, past):
    assert 0 <= score_ppm(sums(latest), sums(past)) <= 1_000_000


def test_what_equals_the_past_scores_nothing_and_what_is_far_off_nearly_all():
    past = sums(usual(100))

    assert score_ppm(sums([100] * WINDOW), past) == 0
    assert score_ppm(sums([104] * WINDOW), past) < SUSPICIOUS_PPM
    assert score_ppm(sums([4_000] * WINDOW), past) > 990_000


def test_a_device_that_always_sent_the_same_may_send_a_little_more():
    past = sums([1_000] * 100)

    assert score_ppm(sums([1_050] * WINDOW), past) < SUSPICIOUS_PPM
    assert score_ppm(sums([2_000] * WINDOW), past) > SUSPICIOUS_PPM


# --- a device against its past --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([4_000] * WINDOW, "src_bytes 40 × this device's normal"),
        ([250] * WINDOW, "src_bytes 2.5 × this device's normal"),
        ([20] * WINDOW, "src_bytes 1/5.0 of this device's normal"),
        ([0] * WINDOW, "src_bytes 0, where 100 is this device's normal"),
    ],
)
def test_what_is_unusual_is_said_in_words(values, words):
    watch = Watch()
    send(watch, usual(4 * WINDOW))
    assert (report(watch).score_ppm, report(watch).reason) == (0, None)

    send(watch, values)

    found = report(watch)
    assert found.score_ppm > SUSPICIOUS_PPM
    assert found.reason is not None
    assert found.reason.startswith(words)
    assert (quantity(watch).mean, quantity(watch).latest_mean) == (100, values[0])


def test_a_window_counts_once_it_is_full():
    watch = Watch()
    send(watch, usual(4 * WINDOW))

    send(watch, [4_000] * (WINDOW - 1))
    assert report(watch).score_ppm == 0
    send(watch, [4_000])
    assert report(watch).score_ppm > SUSPICIOUS_PPM


def test_a_burst_is_no_drift_and_a_lasting_change_is_one_until_it_is_normal():
    watch = Watch()
    send(watch, usual(10 * WINDOW))
    send(watch, [300] * WINDOW)
    assert not quantity(watch).is_drifting

    send(watch, [300] * (DRIFT_WINDOWS - 1) * WINDOW)
    assert quantity(watch).is_drifting

    send(watch, [300] * 2 * PAST_MAX)
    assert not quantity(watch).is_drifting
    assert report(watch).reason is None


def test_the_number_of_transactions_a_minute_is_watched():
    watch = Watch()
    for minute in range(3 * WINDOW):
        count = 100 if minute >= 2 * WINDOW else 2
        watch.take(id_of("device"), GROUP, time_ms=minute * MINUTE_MS, sent=count, values=[])
    watch.take(id_of("device"), GROUP, time_ms=4 * WINDOW * MINUTE_MS, sent=1, values=[])

    assert quantity(watch, PER_MINUTE).reason.startswith(f"{PER_MINUTE} 50 × this device's normal")


# --- a device against its group -------------------------------------------------------------------


def test_a_new_device_is_measured_by_its_group():
    watch = Watch()
    for number in range(8):
        send(watch, usual(4 * WINDOW), device=f"other {number}")

    send(watch, [4_000] * WINDOW)

    found = report(watch)
    assert quantity(watch).count == 0
    assert found.score_ppm > SUSPICIOUS_PPM
    assert found.reason is not None
    assert found.reason.endswith("× its group's")


def test_a_device_that_is_nearly_alone_in_its_group_has_no_group():
    watch = Watch()
    send(watch, usual(WINDOW), device="other")

    send(watch, usual(4 * WINDOW))

    assert quantity(watch).group_count == 0


def test_devices_do_not_disturb_each_others_past():
    alone, among = Watch(), Watch()
    for _ in range(5):
        send(alone, usual(WINDOW))
        send(among, usual(WINDOW))
        send(among, [9_999] * WINDOW, device="other")

    one, other = quantity(alone), quantity(among)
    assert (one.count, one.mean, one.score_ppm) == (other.count, other.mean, other.score_ppm)


# --- bounds ---------------------------------------------------------------------------------------


def test_who_was_not_heard_of_for_longest_is_forgotten(monkeypatch):
    monkeypatch.setattr(behaviour, "DEVICES_MAX", 3)
    watch = Watch()
    for name in ("a", "b", "c", "a", "d"):
        send(watch, [1], device=name)

    assert watch.device_count == 3
    assert report(watch, "b").quantities == ()
    assert report(watch, "a").quantities


def test_a_past_holds_a_bounded_count():
    watch = Watch()
    send(watch, usual(20 * PAST_MAX))

    assert quantity(watch).count <= PAST_MAX


def test_blocks_cut_elsewhere_give_the_same():
    values = [number * 7919 % 1_000 for number in range(500)]
    whole, cut = Watch(), Watch()
    send(whole, values)
    for start in range(0, 500, 7):
        send(cut, values[start : start + 7])

    assert quantity(whole) == quantity(cut)


# --- flows ----------------------------------------------------------------------------------------


def test_watched_columns_have_the_names_of_the_schema():
    integers = tuple(range(len(NSL_KDD_SCHEMA.integers)))
    flow = Flow(schema=NSL_KDD_SCHEMA.digest, integers=integers, categories=())

    found = watched_values(flow)

    names = [column.name for column in NSL_KDD_SCHEMA.integers]
    assert found == {name: names.index(name) for name in behaviour.WATCHED}


def test_of_an_unknown_or_broken_flow_nothing_is_read():
    unknown = Flow(schema=Digest(bytes(32)), integers=(1, 2, 3), categories=())
    short = Flow(schema=NSL_KDD_SCHEMA.digest, integers=(), categories=())

    assert watched_values(unknown) == watched_values(short) == {}

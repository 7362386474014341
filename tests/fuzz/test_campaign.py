"""That fuzzing finds what is wrong: readers with planted bugs are caught, and their inputs kept."""

import time
from contextlib import contextmanager
from random import Random

import pytest

from chain import codec
from chain.errors import DecodeError
from chain.transactions import TRANSACTION_SIZE_MAX
from tests.fuzz import campaign
from tests.fuzz.campaign import fuzz, load, replay, saved
from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target, pure

SEEDS = [codec.encode([1, b"key", [2, "word"], codec.encode([3, None])])]


def target(check):
    return pure("planted", "msgpack", lambda: SEEDS, check)


def read(data):
    try:
        return codec.decode(data, what="value")
    except DecodeError:
        return None


def raises_on_a_wrong_type(data):
    items = read(data)
    return bool(items) and items[0] > 0


def ignores_what_follows(data):
    assert codec.encode(codec.decode(data[: len(SEEDS[0])], what="value")) == data
    return True


def trusts_a_length(data):
    items = read(data)
    if items and type(items[0]) is int and 0 < items[0] < 2**40:
        assert len(bytearray(min(items[0], 64 * 2**20))) >= 0
    return items is not None


def breaks_within_bytes(data):
    items = read(data)
    if items and len(items) == 4 and type(items[3]) is bytes:
        inner = read(items[3])
        assert not inner or inner[0] == 3
    return items is not None


def sleeps(data):
    time.sleep(60)
    return True


@pytest.mark.parametrize(
    "check", [raises_on_a_wrong_type, ignores_what_follows, trusts_a_length, breaks_within_bytes]
)
def test_a_planted_bug_is_found_kept_and_found_again(check, tmp_path):
    planted = target(check)

    failure = fuzz(planted, inputs=20_000, seed="1").failure

    assert failure is not None
    assert len(failure.inputs) == 1
    path = failure.save(tmp_path)
    assert saved(planted, tmp_path) == [path]
    with pytest.raises((AssertionError, TypeError, DecodeError, MemoryError, campaign.TooDear)):
        replay(planted, load(path))


def test_an_input_that_takes_too_long_is_a_failure(monkeypatch):
    monkeypatch.setattr(campaign, "INPUT_S_MAX", 0.05)

    failure = fuzz(target(sleeps), inputs=1, seed="1").failure

    assert failure is not None
    assert "TooDear" in failure.error


def test_a_failure_that_others_prepared_is_kept_with_them():
    @contextmanager
    def opened():
        seen = []

        def check(data):
            seen.append(data)
            assert len(seen) < 7
            return True

        yield check

    made = Target(name="planted", form="bytes", seeds=lambda: SEEDS, opened=opened, life=10)

    failure = fuzz(made, inputs=100, seed="1").failure

    assert failure is not None
    assert len(failure.inputs) == 7


def test_equal_seeds_give_equal_inputs():
    one, other = (Mutator(SEEDS, "msgpack", Random("x")) for _ in range(2))

    assert [one.input() for _ in range(500)] == [other.input() for _ in range(500)]


@pytest.mark.attack("D3")
def test_the_inputs_are_what_an_attacker_would_send():
    mutator = Mutator(SEEDS, "msgpack", Random(1))
    inputs = [mutator.input() for _ in range(20_000)]
    values = [value for data in inputs if (value := read(data)) is not None]

    assert sum(data != SEEDS[0] for data in inputs) > 19_000
    assert any(data.startswith(SEEDS[0]) and data != SEEDS[0] for data in inputs), "bytes behind"
    assert any(SEEDS[0].startswith(data) for data in inputs if data != SEEDS[0]), "cut off"
    assert any(b"\xdd\xff\xff\xff\xff" in data for data in inputs), "an absurd length"
    assert any(data.count(b"\x91") > 1_000 for data in inputs), "nested deep"
    assert any(len(data) > TRANSACTION_SIZE_MAX for data in inputs), "large"
    assert any(value[0] == -1 for value in values if value), "an index below 0"
    assert any(type(value[0]) is str for value in values if value), "another type"
    assert len({len(value) for value in values}) > 4, "fields too few and too many"

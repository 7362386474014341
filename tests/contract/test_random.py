"""What every :class:`node.ports.Random` does."""

import pytest

from node.ports import Random
from node.random_source import SystemRandom
from tests.simulation.random_source import SeededRandom


@pytest.fixture(params=["system", "seeded"])
def random(request: pytest.FixtureRequest) -> Random:
    return SystemRandom() if request.param == "system" else SeededRandom(1)


@pytest.mark.parametrize("size", [0, 1, 8, 33, 10_000])
def test_bytes_have_the_size_asked_for(random: Random, size: int):
    assert len(random.bytes(size)) == size


def test_nonces_do_not_repeat(random: Random):
    assert len({random.bytes(8) for _ in range(10_000)}) == 10_000


def test_every_value_of_a_byte_occurs(random: Random):
    assert set(random.bytes(10_000)) == set(range(256))


@pytest.mark.parametrize("bound", [1, 2, 7])
def test_numbers_below_a_bound_are_all_the_numbers_below_it(random: Random, bound: int):
    assert {random.below(bound) for _ in range(500)} == set(range(bound))


def test_a_large_bound_is_no_error(random: Random):
    assert 0 <= random.below(2**300) < 2**300


def test_numbers_are_drawn_evenly(random: Random):
    counts = [0] * 4
    for _ in range(8_000):
        counts[random.below(4)] += 1

    # Expected 2,000 each with a standard deviation of 39.
    assert all(1_700 < count < 2_300 for count in counts)


def test_one_seed_gives_the_same_numbers_and_another_seed_others():
    def numbers(seed: int) -> list[object]:
        source = SeededRandom(seed)
        return [source.bytes(16), source.below(2**64), source.bytes(3)]

    assert numbers(7) == numbers(7)
    assert numbers(7) != numbers(8)

"""What every :class:`node.ports.Clock` does."""

import asyncio

import pytest

from node.clock import SystemClock
from node.ports import Clock

YEAR_2020_MS = 1_577_836_800_000
YEAR_2200_MS = 7_258_118_400_000


@pytest.fixture(params=[SystemClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


def test_monotonic_time_never_goes_back(clock: Clock):
    readings = [clock.monotonic_ns() for _ in range(1_000)]

    assert readings == sorted(readings)


def test_readings_are_integers(clock: Clock):
    assert type(clock.monotonic_ns()) is int
    assert type(clock.wall_ms()) is int


def test_wall_time_is_in_milliseconds_since_1970(clock: Clock):
    assert YEAR_2020_MS < clock.wall_ms() < YEAR_2200_MS


async def test_both_clocks_advance_while_the_loop_sleeps(clock: Clock):
    monotonic_ns, wall_ms = clock.monotonic_ns(), clock.wall_ms()

    await asyncio.sleep(0.02)

    assert clock.monotonic_ns() - monotonic_ns >= 19_000_000
    # The wall clock of a machine may be stepped meanwhile, but hardly within this test.
    assert clock.wall_ms() - wall_ms >= 19

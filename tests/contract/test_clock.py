"""What every :class:`node.ports.Clock` does."""

import asyncio

import pytest

from node.clock import SystemClock
from node.ports import Clock
from tests.simulation.clock import SimulatedClock

YEAR_2020_MS = 1_577_836_800_000
YEAR_2200_MS = 7_258_118_400_000


@pytest.fixture(params=["system", "simulated"])
async def clock(request: pytest.FixtureRequest) -> Clock:
    if request.param == "system":
        return SystemClock()
    return SimulatedClock(asyncio.get_running_loop().time, start_ms=YEAR_2020_MS + 1)


@pytest.mark.attack("C3")
async def test_monotonic_time_never_goes_back(clock: Clock):
    readings = [clock.monotonic_ns() for _ in range(1_000)]

    assert readings == sorted(readings)


async def test_readings_are_integers(clock: Clock):
    assert type(clock.monotonic_ns()) is int
    assert type(clock.wall_ms()) is int


async def test_wall_time_is_in_milliseconds_since_1970(clock: Clock):
    assert YEAR_2020_MS < clock.wall_ms() < YEAR_2200_MS


async def test_both_clocks_advance_while_the_loop_sleeps(clock: Clock):
    monotonic_ns, wall_ms = clock.monotonic_ns(), clock.wall_ms()

    await asyncio.sleep(0.02)

    assert clock.monotonic_ns() - monotonic_ns >= 19_000_000
    # The wall clock of a machine may be stepped meanwhile, but hardly within this test.
    assert clock.wall_ms() - wall_ms >= 19


@pytest.mark.attack("C3")
async def test_a_step_of_a_simulated_wall_clock_moves_no_timer():
    clock = SimulatedClock(lambda: 12.5, start_ms=YEAR_2020_MS)
    before_ns, before_ms = clock.monotonic_ns(), clock.wall_ms()

    clock.skew_ms = -3_600_000

    assert (before_ns, before_ms) == (12_500_000_000, YEAR_2020_MS + 12_500)
    assert clock.monotonic_ns() == before_ns
    assert clock.wall_ms() == before_ms - 3_600_000


async def test_a_drifting_simulated_clock_goes_on_from_where_it_is():
    passed_s = 0.0
    clock = SimulatedClock(lambda: passed_s, start_ms=YEAR_2020_MS)

    clock.drift(1_000)
    passed_s = 10.0
    clock.drift(-1_000)
    fast_ns, fast_ms = clock.monotonic_ns(), clock.wall_ms()
    passed_s = 30.0

    assert (fast_ns, fast_ms) == (10_010_000_000, YEAR_2020_MS + 10_010)
    assert clock.monotonic_ns() == fast_ns + 19_980_000_000


async def test_a_simulated_wall_clock_that_is_set_right_moves_no_timer():
    passed_s = 0.0
    clock = SimulatedClock(lambda: passed_s, start_ms=YEAR_2020_MS)
    clock.skew_ms = 70_000
    clock.drift(1_000)
    passed_s = 20.0
    before_ns = clock.monotonic_ns()

    clock.set_right()
    after_ns = clock.monotonic_ns()
    passed_s = 30.0

    assert after_ns == before_ns == 20_020_000_000
    assert clock.wall_ms() == YEAR_2020_MS + 30_000

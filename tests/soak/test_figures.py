"""What a soak concludes from its samples: what creeps is told, what breathes is not."""

from dataclasses import replace

import pytest

from tests.soak.figures import (
    MIB,
    SAMPLES_MIN,
    SLOPE_MIB_MAX,
    WARM_UP_SHARE,
    WARM_UP_TRANSACTIONS,
    Sample,
    faults,
    memory_slope_mib,
    slope,
)

COUNT = 80
STEP = 25_000
SOUND = [
    Sample(
        at_s=number * 60.0,
        transactions=number * STEP,
        height=number * 10,
        anonymous_bytes=100 * MIB + (number % 3) * MIB,
        mapped_bytes=min(number, 40) * MIB,
        descriptors=60 + number % 5,
        tasks=30 + number % 7,
        threads=4,
        held={"pooled": 4_000, "lookback_ids": 200_000},
    )
    for number in range(COUNT)
]


def test_the_line_of_least_squares_has_the_slope_of_its_points():
    assert slope([(x, 3.0 * x - 7) for x in range(10)]) == pytest.approx(3)
    assert slope([(0, 0), (1, 2), (2, 1), (3, 3)]) == pytest.approx(0.8)
    assert slope([(5, 1), (5, 9)]) == 0


def test_a_node_that_breathes_is_sound():
    assert faults("node0", SOUND) == []


@pytest.mark.attack("D18")
def test_memory_that_creeps_is_told_and_a_warm_up_is_not():
    per_step = 2 * SLOPE_MIB_MAX * MIB * STEP / 100_000
    creeping = [
        replace(sample, anonymous_bytes=int(100 * MIB + number * per_step))
        for number, sample in enumerate(SOUND)
    ]
    warm = max(int(COUNT * WARM_UP_SHARE), WARM_UP_TRANSACTIONS // STEP)
    filling = [
        replace(sample, anonymous_bytes=min(number, warm) * MIB)
        for number, sample in enumerate(SOUND)
    ]

    few = creeping[: WARM_UP_TRANSACTIONS // STEP + SAMPLES_MIN - 1]
    fast = [replace(sample, at_s=0.1 * sample.at_s) for sample in creeping]
    assert memory_slope_mib(few) is None
    assert memory_slope_mib(fast) is None
    assert memory_slope_mib(creeping) == pytest.approx(2 * SLOPE_MIB_MAX, rel=1e-3)
    assert ["memory grows" in fault for fault in faults("node0", creeping)] == [True]
    assert faults("node0", filling) == []


def test_mapped_tables_are_memory_of_their_own():
    assert memory_slope_mib(SOUND) == pytest.approx(0, abs=0.1)
    growth = memory_slope_mib(SOUND, mapped=True)
    assert growth is not None
    assert growth > 0.5


@pytest.mark.attack("D18")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda number: {"tasks": 30 + number}, "tasks rise"),
        (lambda number: {"threads": 4 + number // 40}, "threads rise"),
        (lambda number: {"descriptors": 60 + 3 * number}, "descriptors rise"),
        (lambda number: {"held": {"fates": 20_001 if number == 5 else 0}}, "holds 20001 fates"),
        (lambda number: {"height": 7}, "stands still"),
    ],
)
def test_whatever_else_creeps_or_stands_still_is_told(change, told):
    samples = [replace(sample, **change(number)) for number, sample in enumerate(SOUND)]

    (fault,) = faults("node0", samples)

    assert told in fault


def test_too_few_samples_are_no_proof():
    (fault,) = faults("node0", SOUND[:SAMPLES_MIN])

    assert "too few" in fault

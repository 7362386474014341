"""Vectors of Algorithm 1: what is timely, and what the rate limits let pass."""

from typing import Any


def algorithm_1() -> dict[str, Any]:
    """Return what is timely, and what the rate limits let pass."""
    block, lifetime, drift = 1_000_000, 60_000, 5_000
    timely = [
        (block, lifetime, 0, block - lifetime, False),
        (block, lifetime, 0, block - lifetime + 1, True),
        (block, lifetime, 0, block, True),
        (block, lifetime, 0, block + drift, True),
        (block, lifetime, 0, block + drift + 1, False),
        (block, lifetime, block - 10, block - 10, False),
        (block, lifetime, block - 10, block - 9, True),
        (block, lifetime, block - lifetime - 5, block - lifetime, False),
    ]
    rates: list[tuple[str, list[tuple[int, int]], int, int, bool]] = [
        # limits, (time, count) of earlier blocks, count earlier in this block, block time, passes
        ("2:10", [], 0, 100_000, True),
        ("2:10", [], 1, 100_000, True),
        ("2:10", [], 2, 100_000, False),
        ("2:10", [(90_000, 2)], 0, 100_000, True),
        ("2:10", [(90_001, 2)], 0, 100_000, False),
        ("2:10", [(90_001, 1)], 1, 100_000, False),
        ("2:10", [(90_000, 5), (95_000, 1)], 0, 100_000, True),
        ("3:1,4:60", [(50_000, 4)], 0, 100_000, False),
        ("3:1,4:60", [(40_000, 4)], 0, 100_000, True),
        ("3:1,4:60", [(99_001, 3)], 0, 100_000, False),
        ("1:600", [(100_000, 1)], 0, 700_000, True),
        ("1:600", [(100_001, 1)], 0, 700_000, False),
        ("", [(99_999, 10_000)], 10_000, 100_000, True),
    ]
    return {
        "future_drift_ms": drift,
        "timely": [
            dict(
                zip(
                    ("block_time_ms", "lifetime_ms", "floor_ms", "time_ms", "timely"),
                    case,
                    strict=True,
                )
            )
            for case in timely
        ],
        "rates": [
            {
                "limits": limits,
                "earlier_blocks": [{"time_ms": time, "count": count} for time, count in earlier],
                "earlier_in_block": before,
                "block_time_ms": time_ms,
                "passes": passes,
            }
            for limits, earlier, before, time_ms, passes in rates
        ],
    }

"""What a node makes of its wall clock, by the blocks of the others."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from chain.crypto import address_of
from consensus.timers import Timing
from node.clock_watch import ClockWatch
from tests.interaction.cluster import miner_keys, miner_set
from tests.simulation.clock import SimulatedClock

TIMING = Timing(precision_ms=500, message_delay_ms=2_000)
START_MS = 1_700_000_000_000


class Scene:
    """The watch of a miner among four."""

    def __init__(self) -> None:
        self.time_s = 1_000.0
        self.clock = SimulatedClock(lambda: self.time_s, start_ms=START_MS)
        self.watch = ClockWatch(self.clock)
        keys = miner_keys(4)
        self.miners = miner_set(keys)
        self.ids = [address_of(key.public) for key in keys]

    def hear(self, number: int, offset_ms: int = 0) -> None:
        """Get a block of a proposer whose clock is so far ahead of true time."""
        true_ms: Any = START_MS + int(self.time_s * 1_000) + offset_ms
        self.watch.on_fresh_block(self.ids[number], true_ms)

    def look(self) -> list[str]:
        with capture_logs() as said:
            self.watch.look(self.miners, TIMING)
        return [entry["log_level"] for entry in said]


def test_without_a_block_nothing_is_known():
    scene = Scene()

    assert scene.watch.offset_ms() is None
    assert scene.look() == []


@pytest.mark.parametrize("skew_ms", [-501, 2_501, -3_600_000, 3_600_000])
def test_a_clock_that_two_others_find_wrong_is_told_once_and_once_more_when_it_is_right(skew_ms):
    scene = Scene()
    scene.hear(1)
    scene.hear(2)
    assert scene.look() == []

    scene.clock.skew_ms = skew_ms
    assert scene.look() == ["warning"]
    assert scene.look() == []
    assert scene.watch.offset_ms() == skew_ms

    scene.clock.skew_ms = 0
    assert scene.look() == ["info"]


@pytest.mark.parametrize("skew_ms", [-500, 2_500])
def test_what_rule_13_allows_is_not_told(skew_ms):
    scene = Scene()
    scene.clock.skew_ms = skew_ms
    for number in (1, 2, 3):
        scene.hear(number)

    assert scene.look() == []


def test_one_liar_makes_no_node_doubt_its_clock():
    scene = Scene()
    scene.hear(1, -3_600_000)
    scene.hear(2)

    assert scene.look() == []
    assert scene.watch.offset_ms() == 0


def test_two_that_are_wrong_in_opposite_ways_say_nothing_of_this_clock():
    scene = Scene()
    scene.hear(1, -3_600_000)
    scene.hear(2, 3_600_000)

    assert scene.look() == []


def test_time_that_passes_changes_nothing():
    scene = Scene()
    scene.hear(1)
    scene.hear(2)
    scene.time_s += 3_600

    assert scene.look() == []
    assert scene.watch.offset_ms() == 0


def test_those_who_are_no_members_any_more_are_forgotten():
    scene = Scene()
    scene.clock.skew_ms = 10_000
    scene.watch.on_fresh_block(address_of(miner_keys(5)[0].public), START_MS)  # type: ignore[arg-type]
    for number in range(3):
        scene.watch.on_fresh_block(bytes((number,)) * 32, START_MS)  # type: ignore[arg-type]
    scene.look()

    assert len(scene.watch._zeros_ms) <= 1

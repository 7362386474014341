"""Castro and Liskov (OSDI '99), §4.4 and §4.5.2: view changes and liveness."""

import pytest

from consensus.messages import RoundChange
from tests.interaction.cluster import Cluster
from tests.unit.consensus.bench import TIMING, Bench, sent


@pytest.mark.attack("A5")
def test_the_timer_for_a_view_starts_once_2f_plus_1_view_changes_are_there():
    """§4.5.2: "waits for 2f + 1 view-change messages for view v + 1 and then starts its timer"."""
    bench = Bench()
    bench.work()
    bench.time_out()
    bench.receive(bench.round_change(2))
    bench.wait(10 * TIMING.round_timeout_max_ms)
    assert bench.snapshot.round == 1
    bench.receive(bench.round_change(3))
    bench.time_out()
    assert bench.snapshot.round == 2


@pytest.mark.attack("A5")
def test_f_plus_1_view_changes_make_a_replica_send_one_before_its_timer_expires():
    """§4.5.2: "it sends a view-change message ... even if its timer has not expired"."""
    bench = Bench()
    bench.receive(bench.round_change(1, 3))
    assert sent(bench.receive(bench.round_change(2, 5)), RoundChange)[0].round == 3


@pytest.mark.attack("A4", "A5")
def test_a_miner_alone_for_an_hour_is_back_within_a_minute_though_another_is_down():
    """Rounds that run apart never meet (ATTACKS A4, A5; besu#7642, polygon-edge#187)."""
    cluster = Cluster(n=4, seed=5)
    assert cluster.run_to(2)
    cluster.nodes[3].crash()
    cluster.partition([0], [1, 2])
    cluster.run(for_ms=3_600_000)
    assert all(node.replica.snapshot().round <= 2 for node in cluster.nodes[:3])
    height = max(node.height for node in cluster.nodes)
    cluster.heal()
    assert cluster.run_to(height + 1, for_ms=60_000, nodes=cluster.nodes[:3])

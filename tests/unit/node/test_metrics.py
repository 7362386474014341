import pytest

from node.metrics import LAG_LOOKS, REASONS_MAX, Metrics


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"securenet_{name}", labels)


def commit(metrics, *, height=1, round=0, transactions=0, time_ms=1_000, write_ns=2_000_000):
    metrics.block_committed(
        height=height, round=round, transactions=transactions, time_ms=time_ms, write_ns=write_ns
    )


def test_the_names_that_dashboards_rely_on_are_there():
    metrics = Metrics()
    metrics.watch_process()
    metrics.admission_rejected("rate_limited")
    metrics.verdicts_given(anomalous=1, flows=3)
    metrics.watch_held(lambda: {"lookback_ids": 3})

    lines = metrics.render().decode().splitlines()

    assert {
        "securenet_consensus_height",
        "securenet_consensus_round",
        "securenet_consensus_block_interval_seconds_count",
        "securenet_consensus_round_changes_total",
        "securenet_transactions_committed_total",
        "securenet_mempool_size",
        "securenet_mempool_size_bytes",
        "securenet_p2p_peers",
        'securenet_admission_rejected_total{reason="rate_limited"}',
        'securenet_verdicts_total{label="anomalous"}',
        'securenet_verdicts_total{label="normal"}',
        "securenet_verdicts_late_total",
        "securenet_verdicts_after_decision_total",
        "securenet_eventloop_lag_seconds",
        "securenet_storage_write_seconds_count",
        "securenet_process_resident_memory_bytes",
        "securenet_process_cpu_seconds_total",
        'securenet_held{what="lookback_ids"}',
    } <= {line.rpartition(" ")[0] for line in lines}


def test_every_name_has_the_prefix():
    metrics = Metrics()
    metrics.watch_process()
    metrics.watch("p2p_pending", "Connections without a session", lambda: 2)

    families = [family.name for family in metrics.registry.collect()]

    assert len(families) > 15
    assert all(name.startswith("securenet_") for name in families)
    assert value(metrics, "p2p_pending") == 2


def test_what_is_held_is_read_when_it_is_asked_for():
    metrics = Metrics()
    held = {"pooled": 1}
    metrics.watch_held(lambda: held)

    held["pooled"] = 7

    assert value(metrics, "held", what="pooled") == 7


def test_two_nodes_in_one_process_count_apart():
    one, other = Metrics(), Metrics()

    commit(one, height=7, transactions=3)

    assert value(one, "consensus_height") == 7
    assert value(other, "consensus_height") == 0
    assert value(other, "transactions_committed_total") == 0


def test_a_committed_block_counts_its_transactions_its_failed_rounds_and_its_writing():
    metrics = Metrics()

    commit(metrics, height=1, transactions=3)
    commit(metrics, height=2, transactions=4, round=2)

    assert value(metrics, "consensus_height") == 2
    assert value(metrics, "transactions_committed_total") == 7
    assert value(metrics, "consensus_round_changes_total") == 2
    assert value(metrics, "storage_write_seconds_sum") == pytest.approx(0.004)


def test_the_interval_of_blocks_is_that_of_their_times():
    metrics = Metrics()

    commit(metrics, time_ms=1_000)
    assert value(metrics, "consensus_block_interval_seconds_count") == 0
    commit(metrics, time_ms=1_250)

    assert value(metrics, "consensus_block_interval_seconds_sum") == pytest.approx(0.25)


def test_what_is_followed_is_read_when_it_is_asked_for():
    metrics = Metrics()
    waiting = [1, 2]
    metrics.follow(
        height=lambda: 9,
        mempool_size=lambda: len(waiting),
        mempool_bytes=lambda: 10 * len(waiting),
        peers=lambda: 3,
        round=lambda: 4,
    )

    waiting.append(3)

    assert value(metrics, "consensus_height") == 9
    assert value(metrics, "mempool_size") == 3
    assert value(metrics, "mempool_size_bytes") == 30
    assert value(metrics, "p2p_peers") == 3
    assert value(metrics, "consensus_round") == 4


@pytest.mark.attack("D18")
def test_reasons_do_not_grow_without_end():
    metrics = Metrics()

    for number in range(REASONS_MAX + 10):
        metrics.peer_refused(f"reason_{number}")
    metrics.peer_refused("reason_0")

    assert value(metrics, "p2p_messages_refused_total", reason="reason_0") == 2
    assert value(metrics, "p2p_messages_refused_total", reason="other") == 10


def test_verdicts_are_counted_by_their_label():
    metrics = Metrics()

    metrics.verdicts_given(anomalous=2, flows=10)
    metrics.verdict_late()
    metrics.verdict_failed()

    assert value(metrics, "verdicts_total", label="anomalous") == 2
    assert value(metrics, "verdicts_total", label="normal") == 8
    assert value(metrics, "verdicts_late_total") == 1
    assert value(metrics, "verdicts_failed_total") == 1


def test_a_late_event_loop_shows_for_a_while():
    metrics = Metrics()

    metrics.eventloop_lag(0.2)
    metrics.eventloop_lag(-0.001)
    assert value(metrics, "eventloop_lag_seconds") == pytest.approx(0.2)
    for _ in range(LAG_LOOKS):
        metrics.eventloop_lag(0.01)

    assert value(metrics, "eventloop_lag_seconds") == pytest.approx(0.01)

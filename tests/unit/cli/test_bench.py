"""The measurements: sizes, signing, targets, and a small run against the fake node."""

import pytest

from chain.crypto import SEED_SIZE, signing_key
from chain.transactions import decode_transaction
from cli.bench import baseline, run
from cli.bench.run import Bench, Settings
from cli.bench.sign import DeviceKey, reading_of_size, sign_batches
from cli.commands import bench
from cli.errors import BadInput
from cli.exit_codes import ExitCode
from cli.processes import Process, Usage
from cli.progress import Progress
from cli.signing import device_sender
from cli.testnet.create import create_network
from tests.unit.cli.fake_node import REGISTRAR


@pytest.fixture
def quick_ceiling(monkeypatch):
    """Measure what the machine could do in a moment: here only the form of the figure counts."""
    monkeypatch.setattr(baseline, "SECONDS", 0.02)


@pytest.mark.parametrize("size", [250, 300, 500])
def test_a_reading_makes_a_transaction_of_exactly_the_size_asked_for(node, size):
    seed = b"s" * SEED_SIZE
    sender = device_sender(node.chain.genesis, signing_key("ed25519", seed), organisation="acme")
    body = reading_of_size(size)

    batches = sign_batches(
        node.chain.genesis.hash, [DeviceKey(address=sender.address, seed=seed)], [body], 5, 2
    )

    assert [len(batch.wires) for batch in batches] == [2, 2, 1]
    for batch in batches:
        for wire, id in zip(batch.wires, batch.ids, strict=True):
            transaction = decode_transaction(wire)
            assert len(wire) == size
            assert transaction.id.hex() == id
            assert transaction.is_signed_by(sender.key.public)


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_size_no_reading_has_is_told(size):
    with pytest.raises(BadInput):
        reading_of_size(size)


async def test_a_run_has_the_figures_of_the_contract(node, quick_ceiling):
    settings = Settings(transactions=60, flows=20, devices=3, batch=10, idle_commits=3)

    figures = await Bench([node.url], REGISTRAR, settings, Progress()).run()

    assert figures["committed"] == 60
    assert figures["wire_bytes"] == 300
    assert figures["tx_per_s"] > 0
    assert figures["ceiling_tx_per_s"] > figures["share_of_ceiling"] >= 0
    assert figures["tx_per_s_flows_with_detectors"] > 0
    assert figures["idle_commit_p50_ms"] > 0
    assert set(figures["latency_ms"]) == {"p50", "p99"}


@pytest.mark.parametrize(
    ("rests_after", "wait_s_max", "idle_percent"),
    [(0, 60.0, 0.0), (3, 60.0, 0.0), (1_000, 0.05, 100.0)],
)
async def test_what_a_load_leaves_to_be_done_is_not_taken_for_idleness(
    monkeypatch, rests_after, wait_s_max, idle_percent
):
    """LevelDB merging tables behind 20,000 flows was told as an idle node at 12 % of a core."""
    window_s = 0.06
    looks = 0

    def usage(process: Process) -> Usage:
        nonlocal looks
        # The first look is at the memory; each window begins with one and ends with another.
        windows = min(looks // 2, rests_after)
        looks += 1
        return Usage(cpu_s=windows * window_s, rss_bytes=5 * run.MIB)

    monkeypatch.setattr(run, "usage", usage)
    monkeypatch.setattr(run, "WORKING_S", window_s)
    monkeypatch.setattr(run, "IDLE_CPU_S", window_s)
    monkeypatch.setattr(run, "WORKING_S_MAX", wait_s_max)
    node = Process(pid=1, started=1)
    measuring = Bench([], REGISTRAR, Settings(), Progress(), processes=[node])

    figures = await measuring._resources()

    assert figures["rss_mb"] == 5.0
    assert figures["idle_cpu_percent"] == idle_percent
    assert (figures["afterwork_s"] > 0) == (rests_after > 0)


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ({"tx_per_s": 3000.0, "idle_commit_p50_ms": 100.0}, False),
        ({"tx_per_s": 2999.9, "idle_commit_p50_ms": 10.0}, True),
        ({"tx_per_s": 5000.0, "idle_commit_p50_ms": 100.1}, True),
    ],
)
def test_a_missed_target_ends_with_its_exit_code(securenet, monkeypatch, figures, missed):
    monkeypatch.setattr(bench, "_measure_testnet", lambda directory, settings: figures)

    ended = securenet("bench", "--json")

    assert ended.code == (ExitCode.MISSED if missed else ExitCode.OK)
    assert ended.document == figures


def test_nodes_are_measured_by_their_addresses(securenet, node, registrar, quick_ceiling):
    ended = securenet(
        *("bench", "--rpc", node.url, "--key", registrar, "--transactions", "20", "--flows", "0"),
        *("--devices", "2", "--batch", "10", "--target-tx-per-s", "0", "--target-idle-ms", "1e6"),
    )

    assert ended.code == ExitCode.OK, ended.err
    assert "committed           20\n" in ended.out
    assert ended.out.splitlines()[-1].endswith(" ms")


def test_nodes_cannot_be_measured_without_a_registrar(securenet, node):
    assert securenet("bench", "--rpc", node.url).code == ExitCode.USAGE


def test_one_network_is_measured_at_a_time(securenet, node, tmp_path):
    ended = securenet("bench", "--rpc", node.url, "--dir", tmp_path)

    assert ended.code == ExitCode.USAGE


def test_a_network_that_does_not_run_is_told(securenet, tmp_path):
    create_network(tmp_path / "net", miners=1, observers=0, base_port=0)

    assert securenet("bench", "--dir", tmp_path / "net").code == ExitCode.NOT_RUNNING

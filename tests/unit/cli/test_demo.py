"""The parts of the demonstration: its input, its attacks, its arithmetic, its report."""

import asyncio
import json
from contextlib import nullcontext

import pytest

from chain.crypto import signing_key
from chain.limits import parse_limits
from cli.client import connect
from cli.demo import attack
from cli.demo.judgement import judge
from cli.demo.report import NodeReport, Report
from cli.demo.run import make_attempt, run_demo
from cli.demo.traffic import ATTACKER_NAMES, NORMAL_NAMES, batches, nsl_kdd_rows, synthetic_rows
from cli.errors import CliError, Missed, NotRunning
from cli.exit_codes import ExitCode
from cli.load.post import Post
from cli.load.watch import Commit, CommitWatch
from cli.progress import Progress
from cli.signing import Sender, device_sender
from ml_validator.errors import NoDataset
from ml_validator.nsl_kdd import write_records
from ml_validator.synthetic import Profile, generate
from tests.unit.cli.fake_node import REGISTRAR

SENSOR = signing_key("ed25519", b"s" * 32)
OTHER = signing_key("ed25519", b"o" * 32)


def test_synthetic_devices_each_follow_one_kind_of_traffic():
    rows = synthetic_rows()

    assert {row.device for row in rows} == {*NORMAL_NAMES, *ATTACKER_NAMES}
    assert all(row.is_attack == (row.device in ATTACKER_NAMES) for row in rows)
    assert len(rows) == 6_000
    assert rows == synthetic_rows()


def test_rows_of_a_file_are_dealt_in_their_order(tmp_path):
    normal, attacks = generate(Profile.DNS, 41, seed=1), generate(Profile.FLOOD, 11, seed=1)
    write_records(tmp_path / "KDDTest+.txt", [*attacks, *normal])

    rows = nsl_kdd_rows(tmp_path)

    assert [row.flow for row in rows] == [record.flow for record in [*attacks, *normal]]
    assert [row.device for row in rows[:11]] == [*ATTACKER_NAMES, ATTACKER_NAMES[0]]
    assert [row.device for row in rows[11:]] == [*NORMAL_NAMES, NORMAL_NAMES[0]]


def test_a_folder_without_the_file_is_told(securenet, tmp_path):
    with pytest.raises(NoDataset, match="KDDTest"):
        nsl_kdd_rows(tmp_path)
    assert securenet("demo", "--data", tmp_path, "--dir", tmp_path / "d").code == ExitCode.USAGE
    assert not (tmp_path / "d").exists()


def test_a_file_that_is_not_nsl_kdd_starts_nothing(securenet, tmp_path):
    (tmp_path / "KDDTest+.txt").write_text("1,2,3\n")

    ended = securenet("demo", "--data", tmp_path, "--dir", tmp_path / "d")

    assert ended.code == ExitCode.USAGE
    assert "row 1" in ended.err
    assert not (tmp_path / "d").exists()


def test_batches_hold_every_row_once():
    rows = synthetic_rows()[:250]

    cut = list(batches(rows, 100))

    assert [len(batch) for batch in cut] == [100, 100, 50]
    assert [row for batch in cut for row in batch] == rows


def test_each_attempt_is_refused_by_its_step(node):
    node.register(SENSOR)
    node.register(OTHER, name="flooder", limits=parse_limits("1:60"))
    genesis = node.chain.genesis
    victim = device_sender(genesis, SENSOR, organisation="acme")
    flooder = device_sender(genesis, OTHER, organisation="acme")
    stranger = Sender(genesis_hash=genesis.hash, address=victim.key.public, key=OTHER)  # type: ignore[arg-type]
    genuine = victim.sign("device.data", attack.reading(1))
    node.chain.commit([genuine])
    node.chain.commit([flooder.sign("device.data", attack.reading(1))])
    attempts = [
        attack.unregistered(stranger),
        attack.forged(victim, stranger),
        attack.replayed([genuine]),
        attack.expired(victim),
        attack.flooding(flooder),
        attack.overreaching(victim),
        attack.foreign(victim),
    ]

    from chain.errors import Rejection

    for attempt in attempts:
        for transaction in attempt.transactions:
            with pytest.raises(Rejection) as rejected:
                node.chain.commit([transaction])
            assert rejected.value.code == attempt.code, attempt.name


async def test_an_attempt_that_succeeds_fails_the_demonstration(node):
    node.register(SENSOR)
    honest = device_sender(node.chain.genesis, SENSOR, organisation="acme")
    harmless = attack.Attempt(
        name="harmless",
        code="expired",
        transactions=(honest.sign("device.data", attack.reading(1)),),
    )

    async with connect(node.url) as client:
        with pytest.raises(Missed, match="refused by nothing, not by expired"):
            await make_attempt([client], Post(CommitWatch(client)), harmless)


async def test_a_demonstration_ends_when_its_guard_says_so(node):
    async def guard() -> None:
        await asyncio.sleep(0.1)
        raise NotRunning("node2 has ended", "see its log")

    with pytest.raises(NotRunning):
        await run_demo([node.url], REGISTRAR, synthetic_rows(), Progress(), guard=guard)


def commit(height: int, index: int) -> Commit:
    return Commit(height=height, index=index, latency_ms=1.0, at_ns=0)


def verdict(*scores: int) -> dict[str, object]:
    return {"scores_ppm": list(scores), "threshold_ppm": 500}


def test_a_flow_is_anomalous_when_a_weak_quorum_says_so():
    commits = {"a": commit(1, 5), "b": commit(1, 2), "c": commit(2, 0), "d": commit(2, 1)}
    labels = {"a": True, "b": False, "c": True, "d": False}
    # In block 1 `b` stands before `a`.
    verdicts = {
        1: [verdict(0, 500), verdict(499, 900), verdict(900, 0)],
        2: [verdict(900, 900), verdict(0, 900), verdict(0, 0)],
    }

    result = judge(commits, labels, verdicts, miners=4)

    counts = (result.true_positives, result.false_positives)
    assert counts == (1, 1)
    assert (result.true_negatives, result.false_negatives) == (1, 1)
    assert (result.precision, result.recall, result.false_positive_rate) == (0.5, 0.5, 0.5)


def test_a_verdict_of_another_length_is_no_verdict():
    with pytest.raises(CliError, match="2 scores for 1 flows"):
        judge({"a": commit(1, 0)}, {"a": True}, {1: [verdict(1, 2)]}, miners=4)


def test_nothing_committed_has_no_rates():
    result = judge({}, {}, {}, miners=4)

    assert (result.precision, result.recall, result.false_positive_rate) == (0.0, 0.0, 0.0)


REPORT = Report(
    nodes=(NodeReport(height=7, block_hash="ab", state_root="cd"),) * 4,
    submitted=100,
    committed=90,
    tx_per_s=123.456,
    latency_p50_ms=10.04,
    latency_p99_ms=20.06,
    rejected={"expired": 4, "duplicate": 6},
    precision=0.98765,
    recall=1.0,
    false_positive_rate=0.0,
    attackers_quarantined=10,
    others_quarantined=0,
)


def test_the_report_has_the_keys_of_the_contract():
    document = json.loads(json.dumps(REPORT.document()))

    assert document == {
        "nodes": [{"height": 7, "block_hash": "ab", "state_root": "cd"}] * 4,
        "submitted": 100,
        "committed": 90,
        "tx_per_s": 123.5,
        "latency_ms": {"p50": 10.0, "p99": 20.1},
        "rejected": {"duplicate": 6, "expired": 4},
        "verdicts": {"precision": 0.9877, "recall": 1.0, "false_positive_rate": 0.0},
        "quarantined": {"attackers": 10, "others": 0},
    }


def test_the_report_for_people_ends_with_whether_the_nodes_agree(capsys):
    REPORT.show(attackers=10, others=40)

    out = capsys.readouterr().out
    assert "quarantined     10 of 10 attackers, 0 of 40 other devices\n" in out
    assert out.endswith("all 4 nodes agree\n")


def test_figures_that_cannot_be_written_are_shown_all_the_same(securenet, tmp_path, monkeypatch):
    async def run(*arguments: object, **options: object) -> Report:
        return REPORT

    monkeypatch.setattr("cli.demo.run.run_demo", run)
    monkeypatch.setattr("cli.testnet.control.running_network", lambda *arguments: nullcontext({}))
    (tmp_path / "out").mkdir()

    ended = securenet("demo", "--dir", tmp_path / "net", "--out", tmp_path / "out")

    assert ended.code == ExitCode.STORAGE
    assert ended.out.endswith("all 4 nodes agree\n")

"""``securenet model features``: what it writes, says and refuses."""

import json

import pytest

from chain.payloads import FLOW
from cli.commands import model_features
from cli.exit_codes import ExitCode
from cli.readings import parse_flow_file
from ml_validator import Detector, bundled_model
from ml_validator.nsl_kdd import file_digest, read_flows
from tests.unit.ml_validator.traffic.packets import PAGE, SYN, capture, ethernet, tcp, udp
from tests.unit.ml_validator.traffic.test_zeek import HEADER, line


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "conn.log"
    rows = (line(ts=str(second), orig_bytes=size) for second, size in ((1, "10"), (2, "-")))
    path.write_text(HEADER + "".join(rows))
    return path


@pytest.fixture
def pcap(tmp_path):
    path = tmp_path / "some.pcap"
    frames = (*PAGE, udp(30), *(tcp(SYN, client_port=port) for port in range(1, 40)))
    path.write_bytes(capture(*map(ethernet, frames), step_s=0.01))
    return path


def test_a_log_becomes_flows_and_what_it_cannot_show_is_named(securenet, log, tmp_path):
    out = tmp_path / "flows.csv"

    ended = securenet("model", "features", "--zeek", log, "--out", out, "--json")

    assert ended.code == ExitCode.OK, ended.err
    found = ended.document
    assert (found["flows"], found["flag"], found["missing"]) == (2, {"SF": 2}, {"orig_bytes": 1})
    assert found["source"] == {"file": "conn.log", "sha256": file_digest(log)}
    assert {"hot", "num_failed_logins", "logged_in", "wrong_fragment", "urgent"} <= set(
        found["not_computable"]
    )
    flows = list(read_flows(out))
    assert [flow.integers[1] for flow in flows] == [10, 0]
    assert {flow.schema.hex() for flow in flows} == {found["schema"]}


def test_a_capture_becomes_flows_that_a_model_judges_and_tx_submit_takes(securenet, pcap, tmp_path):
    out = tmp_path / "flows.jsonl"

    ended = securenet("model", "features", "--pcap", pcap, "--out", out)

    assert ended.code == ExitCode.OK, ended.err
    assert "warning: the bundled forests need logged_in" in ended.err
    assert "model train --traffic-only" in ended.err
    assert "hot, num_failed_logins" in ended.out
    assert "filled with 0" in ended.out
    assert "wrong_fragment" not in ended.out
    flows = [FLOW.parse(json.loads(text), "flow") for text in out.read_text().splitlines()]
    assert len(flows) == 41
    assert [parse_flow_file(out, row) for row in (1, 2, 41)] == [flows[0], flows[1], flows[-1]]
    # It ends with a flood of connections that nobody answers.
    artifact, _ = bundled_model()
    assert Detector(artifact).judge(flows)[-1] >= artifact.threshold_ppm


def test_both_forms_hold_the_same_flows(securenet, pcap, tmp_path):
    for name in ("a.csv", "a.jsonl"):
        assert securenet("model", "features", "--pcap", pcap, "--out", tmp_path / name).code == 0
    for row in (1, 20, 41):
        assert parse_flow_file(tmp_path / "a.csv", row) == parse_flow_file(
            tmp_path / "a.jsonl", row
        )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--out", "o.csv"), ExitCode.USAGE, "one of --zeek, --pcap"),
        (("--zeek", "a", "--pcap", "b", "--out", "o.csv"), ExitCode.USAGE, "one of --zeek"),
        (("--zeek", "conn.log", "--out", "o.txt"), ExitCode.USAGE, "neither .csv nor .jsonl"),
        (("--zeek", "none.log", "--out", "o.csv"), ExitCode.USAGE, "none.log"),
        (("--zeek", "some.pcap", "--out", "o.csv"), ExitCode.USAGE, "some.pcap, row 1, row"),
        (("--pcap", "conn.log", "--out", "o.csv"), ExitCode.USAGE, "conn.log, row 1, packet"),
        (("--pcap", "cut.pcap", "--out", "o.csv"), ExitCode.USAGE, "cut.pcap, row 48, packet"),
        (("--zeek", "conn.log", "--out", "no/o.csv"), ExitCode.USAGE, "is no directory"),
        (("--zeek", "conn.log", "--out", "here.csv"), ExitCode.ALREADY_THERE, "is there already"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    securenet, log, pcap, tmp_path, monkeypatch, arguments, code, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.pcap").write_bytes(pcap.read_bytes()[:-5])
    (tmp_path / "here.csv").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    ended = securenet("model", "features", *arguments)

    assert ended.code == code
    assert told in ended.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_the_library_it_is_said_what_to_install(securenet, pcap, tmp_path, monkeypatch):
    monkeypatch.setattr(model_features, "find_spec", lambda name: None)

    ended = securenet("model", "features", "--pcap", pcap, "--out", tmp_path / "o.csv")

    assert ended.code == ExitCode.FAILED
    assert ".[features]" in ended.err

"""`securenet query`, `consensus why`, `node status`: reading."""

import json

import pytest
from aiohttp import web

from chain.blocks import BlockReceipt, Event
from chain.crypto import signing_key
from cli.demo.attack import reading
from cli.exit_codes import ExitCode
from cli.signing import device_sender
from node.rpc.render import federated_round, round_summary
from tests.federation import Federation

SENSOR = signing_key("ed25519", b"s" * 32)


@pytest.fixture
def grown(node):
    """Return a node with a device and three of its readings."""
    node.register(SENSOR)
    sender = device_sender(node.chain.genesis, SENSOR, organisation="acme")
    for value in range(3):
        node.chain.commit([sender.sign("device.data", reading(value))])
    return node


@pytest.mark.parametrize("words", [("query", "status"), ("node", "status")])
def test_status_is_the_nodes(securenet, grown, words):
    document = securenet(*words, "--json").document

    assert document["height"] == 4
    assert document["state_root"] == grown.chain.tip.header.state_root.hex()
    assert "height      4\n" in securenet(*words).out


@pytest.mark.parametrize("reference", ["latest", "4", "HASH"])
def test_a_block_is_found_by_height_hash_or_as_the_latest(securenet, grown, reference):
    block_hash = grown.chain.tip.header.hash.hex()

    document = securenet(
        "query", "block", block_hash if reference == "HASH" else reference, "--json"
    ).document

    assert document["header"]["hash"] == block_hash


def test_a_block_for_people_names_signers_and_transactions(securenet, grown):
    out = securenet("query", "block").out

    assert "signed by miners  0\n" in out
    assert grown.chain.blocks[-1].transactions[0].id.hex() in out


@pytest.mark.parametrize(
    ("reference", "code"),
    [("99", ExitCode.NOT_FOUND), ("-1", ExitCode.USAGE), ("../params", ExitCode.USAGE)],
)
def test_a_block_that_is_none(securenet, grown, reference, code):
    assert securenet("query", "block", "--", reference).code == code


def test_a_device_comes_with_budget_and_history(securenet, grown):
    id = securenet("device", "list", "--json").document[0]["id"]

    document = securenet("query", "device", id, "--limit", "2", "--json").document

    assert document["device"]["name"] == "sensor-1"
    assert [entry["height"] for entry in document["transactions"]] == [2, 3]
    assert "no rate limits" in securenet("query", "device", id).out


def test_events_up_to_now_are_printed_and_the_command_ends(securenet, grown):
    lines = securenet("query", "events", "--type", "block", "--json").out.splitlines()

    assert [json.loads(line)["data"]["header"]["height"] for line in lines] == [1, 2, 3, 4]


def test_events_continue_behind_a_cursor(securenet, grown):
    ended = securenet("query", "events", "--from", "3:0", "--json")

    cursors = [json.loads(line)["cursor"] for line in ended.out.splitlines()]
    assert cursors == ["3:1", "4:0", "4:1"]
    assert securenet("query", "events", "--from", "4:1").out == ""


def test_events_of_the_end_of_the_last_block_are_printed_too(securenet, grown):
    event = Event(name="proposal_expired", values=("ab" * 32, "param.change"))
    grown.chain.block_receipts[-1] = BlockReceipt(events=(event,))

    lines = securenet("query", "events", "--from", "4:0").out.splitlines()

    assert [line.split()[:3] for line in lines] == [
        ["4:1", "transaction", "device.data"],
        ["4:2", "event", "proposal_expired"],
    ]
    assert securenet("query", "events", "--from", "4:2").out == ""
    assert f"proposal_expired {'ab' * 32} param.change" in securenet("query", "block").out


def test_a_cursor_that_is_none_is_told(securenet, node):
    assert securenet("query", "events", "--from", "yesterday").code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "empty"),
    [
        (("query", "verdicts"), "no verdicts\n"),
        (("query", "models"), "no models\n"),
        (("query", "proposals"), "no proposals\n"),
        (("query", "evidence"), "no evidence\n"),
        (("query", "rounds"), "no federated rounds\n"),
        (("model", "list"), "no models\n"),
    ],
)
def test_an_empty_list_says_so(securenet, node, words, empty):
    assert securenet(*words).out == empty
    assert securenet(*words, "--json").document == []


@pytest.fixture
def federation(node):
    """Return a federated round with two groups, one of them void, that the node knows."""
    told = Federation(count=8)
    told.play_to("share")
    lost = [device for device in told.devices if told.member_of(device).group == 1]
    told.play_to("commit", without=lost[:2])
    record = told.record
    page = {"items": [round_summary(told.id, record)], "cursor": None}
    for path, document in (
        ("/v1/rounds", page),
        (f"/v1/rounds/{told.id.hex()}", federated_round(told.id, record)),
    ):
        node.overrides[path] = [web.json_response(document) for _ in range(2)]
    return told


def test_federated_rounds_are_listed(securenet, federation):
    document = securenet("query", "rounds", "--json").document
    out = securenet("query", "rounds").out

    assert [entry["id"] for entry in document] == [federation.id.hex()]
    assert "week-1" in out
    assert "commit" in out
    assert "2 joined 6 shared" in out


def test_a_federated_round_names_its_members_and_whom_it_waits_for(securenet, federation):
    document = securenet("query", "rounds", federation.id.hex(), "--json").document
    out = securenet("query", "rounds", federation.id.hex()).out

    assert len(document["awaited"]) == 4
    assert "waits for     4 participants\n" in out
    assert "1 that count, masked" in out
    assert out.count(" void ") == 4
    for device in federation.devices:
        assert device.id.hex() in out


def test_a_federated_round_that_is_none(securenet, node):
    assert securenet("query", "rounds", "week-1").code == ExitCode.USAGE
    assert securenet("query", "rounds", "ab" * 32, "--phase", "join").code == ExitCode.USAGE


def test_why_says_what_is_awaited(securenet, node):
    out = securenet("consensus", "why").out

    assert out.startswith("idle: there is nothing to agree on\nheight 1, round 0, idle for 1000 ms")
    assert securenet("consensus", "why", "--json").document["quorum"] == 1


def test_a_node_that_is_not_there_has_its_exit_code(securenet):
    ended = securenet("query", "status", "--rpc", "http://127.0.0.1:1")

    assert ended.code == ExitCode.UNREACHABLE
    what, advice = ended.err.splitlines()
    assert "http://127.0.0.1:1" in what
    assert "--rpc" in advice


def test_an_address_that_is_none_is_a_usage_error(securenet):
    assert securenet("query", "status", "--rpc", "nonsense").code == ExitCode.USAGE


def test_behaviour_is_shown_with_its_reason(securenet, node):
    id = "ab" * 32
    quantity = {
        "name": "src_bytes",
        "count": 90,
        "mean": 100,
        "deviation": 14,
        "latest_mean": 4_000,
        "group_count": 900,
        "group_mean": 120,
        "group_deviation": 30,
        "score_ppm": 990_000,
        "group_score_ppm": 980_000,
        "is_drifting": True,
        "reason": "src_bytes 40 × normal",
    }
    head = {"id": id, "from_height": 1, "height": 9, "score_ppm": 990_000}
    document = {**head, "reason": "src_bytes 40 × normal", "quantities": [quantity]}
    quiet = {**head, "reason": None, "quantities": []}
    path = f"/v1/devices/{id}/behaviour"
    node.overrides[path] = [web.json_response(d) for d in (document, document, quiet)]

    out = securenet("query", "behaviour", id).out

    assert "99 of 100" in out
    assert {"100 ± 14", "120 ± 30", "drifts", "src_bytes 40 × normal"} <= {
        cell.strip() for line in out.splitlines() for cell in line.split("  ")
    }
    assert securenet("query", "behaviour", id, "--json").document == document
    assert "nothing unusual" in securenet("query", "behaviour", id).out

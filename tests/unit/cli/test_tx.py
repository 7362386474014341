"""`securenet tx`: device data, and transactions taken apart."""

import json

import pytest

from chain.crypto import signing_key
from chain.limits import parse_limits
from chain.payloads import FLOW
from cli.demo.attack import reading
from cli.exit_codes import ExitCode
from cli.signing import device_sender
from ml_validator.synthetic import Profile, generate

SENSOR = signing_key("ed25519", b"s" * 32)


def test_a_reading_is_pooled_and_found_again(securenet, node, sensor):
    node.register(SENSOR)

    ended = securenet(
        *("tx", "submit", "--key", sensor, "--reading", "t=21.5C", "--reading", "h=4%", "--json")
    )

    assert ended.code == ExitCode.OK, ended.err
    assert ended.document["status"] == "pending"
    shown = securenet("tx", "show", ended.document["id"], "--json").document
    assert shown["status"] == "committed"
    assert shown["transaction"]["kind"] == "device.data"


def test_a_flow_is_sent_and_waited_for(securenet, node, sensor, tmp_path):
    node.register(SENSOR)
    (record,) = generate(Profile.DNS, 1, seed=1)
    (tmp_path / "flow.json").write_text(json.dumps(FLOW.render(record.flow)))

    ended = securenet("tx", "submit", "--key", sensor, "--flow", tmp_path / "flow.json", "--wait")

    assert ended.code == ExitCode.OK, ended.err
    assert "status  committed" in ended.out


def test_a_long_wait_says_what_the_chain_waits_for(securenet, node, sensor):
    node.register(SENSOR)
    node.diagnosis = "quorum_lost"

    ended = securenet("tx", "submit", "--key", sensor, "--reading", "t=1", "--wait", "--json")

    assert ended.code == ExitCode.OK, ended.err
    short = ended.document["id"][:12]
    assert ended.err == (
        f"• transaction {short} is not committed yet: there is nothing to agree on\n"
    )


def test_an_unregistered_device_is_told_to_register(securenet, node, sensor):
    ended = securenet("tx", "submit", "--key", sensor, "--reading", "t=1")

    assert ended.code == ExitCode.USAGE
    assert "securenet device register" in ended.err
    assert "POST /v1/transactions" not in node.requests


def test_a_device_named_by_hand_is_judged_by_the_node(securenet, node, sensor):
    ended = securenet("tx", "submit", "--key", sensor, "--reading", "t=1", "--device", "ab" * 32)

    assert ended.code == ExitCode.REFUSED
    assert ended.err.startswith("error: unknown_device: ")


def test_a_used_up_budget_is_busy(securenet, node, sensor):
    node.register(SENSOR, limits=parse_limits("1:60"))
    send = ("tx", "submit", "--key", sensor, "--reading", "t=1")
    assert securenet(*send).code == ExitCode.OK

    ended = securenet(*send)

    assert ended.code == ExitCode.BUSY
    assert "rate_limited" in ended.err


@pytest.mark.parametrize("more", [(), ("--reading", "t=1", "--flow", "flow.json")])
def test_exactly_one_thing_is_sent(securenet, node, sensor, more):
    ended = securenet("tx", "submit", "--key", sensor, *more)

    assert ended.code == ExitCode.USAGE
    assert node.requests == []


def test_an_unknown_transaction_has_that_status_and_is_not_found(securenet, node):
    ended = securenet("tx", "show", "ab" * 32, "--json")

    assert ended.document["status"] == "unknown"
    assert ended.code == ExitCode.NOT_FOUND


@pytest.mark.parametrize("form", ["bytes", "hex"])
def test_bytes_are_taken_apart_without_a_node(securenet, node, tmp_path, form):
    node.register(SENSOR)
    transaction = device_sender(node.chain.genesis, SENSOR, organisation="acme").sign(
        "device.data", reading(215)
    )
    wire = transaction.wire if form == "bytes" else transaction.wire.hex().encode() + b"\n"
    (tmp_path / "tx").write_bytes(wire)

    document = securenet("tx", "decode", tmp_path / "tx", "--json").document

    assert document["id"] == transaction.id.hex()
    assert document["body"]["payload"]["values"][0]["value"] == 215
    assert document["size_bytes"] == len(transaction.wire)
    assert node.requests == []


@pytest.mark.parametrize("data", [b"", b"\x92", b"garbage", b"\xff" * 100, b"\x91" * 50_000])
def test_bytes_that_are_no_transaction_are_one_line(securenet, tmp_path, data):
    (tmp_path / "tx").write_bytes(data)

    ended = securenet("tx", "decode", tmp_path / "tx")

    assert ended.code == ExitCode.USAGE
    assert len(ended.err.splitlines()) == 2

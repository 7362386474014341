"""What miners and registrars decide: miner, param, policy, organisation, model."""

import json
import re

import pytest
from aiohttp import web

from chain.blobs import blob_digest
from chain.crypto import signing_key
from chain.kinds.miners import sign_acceptance
from chain.types import Digest
from cli.exit_codes import ExitCode
from ml_validator.bundled import bundled_model
from node.clock import SystemClock
from tests.unit.cli.conftest import key_file
from tests.unit.cli.fake_node import problem

STRANGER = signing_key("ed25519", b"x" * 32)


def test_miners_are_listed(securenet, node):
    (miner,) = securenet("miner", "list", "--json").document

    assert miner["name"] == "m0"
    assert "127.0.0.1:26756" in securenet("miner", "list").out


EVIDENCE = {
    "type": "pre-prepare",
    "height": 7,
    "round": 2,
    "digest": "dd" * 32,
    "transaction": "ee" * 32,
    "reporter": "bb" * 32,
    "accepted_height": 9,
    "pardoned_height": None,
}


@pytest.mark.parametrize(
    ("status", "why"),
    [("demoted", "signed two pre-prepares at height 7 round 2"), ("active", "")],
)
def test_the_list_says_why_a_miner_is_demoted_and_how_its_detector_does(
    securenet, node, status, why
):
    miner = {"index": 0, "id": "aa" * 32, "name": "m0", "host": "10.0.0.1", "port": 26756}
    detector = {"overruled": 3, "released": 4, "judged": 90}
    item = {**miner, "status": status, "evidence": EVIDENCE, "detector": detector}
    page = {"items": [item], "cursor": None}
    node.overrides["/v1/miners"] = [web.json_response(page)]

    row = securenet("miner", "list").out.rstrip().splitlines()[-1]

    alarms, _, reason = row.partition("10.0.0.1:26756")[2].strip().partition(" flows")
    assert (alarms, reason.strip()) == ("7 of 90", why)


def test_evidence_is_listed_with_the_transaction_that_proves_it(securenet, node):
    page = {"items": [{"miner": "aa" * 32, **EVIDENCE}], "cursor": None}
    node.overrides["/v1/evidence"] = [web.json_response(page) for _ in range(2)]

    row = securenet("query", "evidence").out.rstrip().splitlines()[-1].split()

    assert [row[0], row[-1]] == ["aa" * 32, "ee" * 32]
    assert {"pre-prepare", "7", "2", "9"} <= set(row)
    assert securenet("query", "evidence", "--json").document == page["items"]


def test_a_candidate_accepts_and_the_only_miner_adds_it(securenet, node, miner, tmp_path):
    candidate = key_file(tmp_path / "candidate.json", "c")
    node_key = key_file(tmp_path / "node.json", "d")
    accepted = securenet(
        *("miner", "accept", "--key", candidate, "--node-key", node_key),
        *("--name", "m1", "--host", "10.0.0.2", "--port", "26756"),
    )
    (tmp_path / "m1.json").write_text(accepted.out)

    ended = securenet("miner", "propose", "--key", miner, "--add", tmp_path / "m1.json", "--json")

    assert ended.code == ExitCode.OK, ended.err
    names = [event["name"] for event in ended.document["receipt"]["events"]]
    assert names == ["proposal_opened", "proposal_enacted", "miner_add"]
    (proposal,) = securenet("query", "proposals", "--json").document
    assert proposal["status"] == "enacted"


@pytest.mark.parametrize(("name", "host"), [("m 1", "10.0.0.2"), ("m1", "")])
def test_an_acceptance_that_no_node_would_take_is_not_given(securenet, node, tmp_path, name, host):
    ended = securenet(
        *("miner", "accept", "--key", key_file(tmp_path / "candidate.json", "c")),
        *("--node-key", key_file(tmp_path / "node.json", "d")),
        *("--name", name, "--host", host, "--port", "26756"),
    )

    assert ended.code == ExitCode.USAGE
    assert ended.out == ""


def test_an_acceptance_lasts_as_long_as_the_candidate_says(securenet, node, tmp_path):
    before_ms = SystemClock().wall_ms()
    accepted = securenet(
        *("miner", "accept", "--key", key_file(tmp_path / "candidate.json", "c")),
        *("--node-key", key_file(tmp_path / "node.json", "d"), "--valid-days", "2"),
        *("--name", "m1", "--host", "10.0.0.2", "--port", "26756"),
    )

    two_days_ms = 2 * 24 * 3_600_000
    assert 0 <= accepted.document["valid_until_ms"] - before_ms - two_days_ms < 60_000


def test_a_past_acceptance_is_refused_and_the_advice_is_to_ask_for_another(
    securenet, node, miner, tmp_path
):
    accepted = securenet(
        *("miner", "accept", "--key", key_file(tmp_path / "candidate.json", "c")),
        *("--node-key", key_file(tmp_path / "node.json", "d")),
        *("--name", "m1", "--host", "10.0.0.2", "--port", "26756"),
    )
    genesis, key = node.chain.genesis, signing_key("ed25519", b"c" * 32)
    node_key = signing_key("ed25519", b"d" * 32).public
    past = sign_acceptance(
        genesis.hash,
        key,
        node_key,
        height=accepted.document["height"],
        block_hash=Digest(bytes.fromhex(accepted.document["block_hash"])),
        valid_until_ms=genesis.time_ms,
    )
    document = accepted.document | {"valid_until_ms": genesis.time_ms, "acceptance": past.hex()}
    (tmp_path / "m1.json").write_text(json.dumps(document))

    ended = securenet("miner", "propose", "--key", miner, "--add", tmp_path / "m1.json")

    assert ended.code == ExitCode.REFUSED
    assert "acceptance_expired" in ended.err
    assert "securenet miner accept" in ended.err


def test_a_miner_is_moved(securenet, node, miner):
    (listed,) = securenet("miner", "list", "--json").document
    ended = securenet(
        *("miner", "propose", "--key", miner, "--move", listed["id"]),
        *("--host", "10.0.0.9", "--port", "1234"),
    )

    assert ended.code == ExitCode.OK, ended.err
    assert "10.0.0.9:1234" in securenet("miner", "list").out


@pytest.mark.parametrize(
    "change",
    [
        (),
        ("--remove", "ab" * 32, "--restore", "ab" * 32),
        ("--move", "ab" * 32),
        ("--remove", "me"),
    ],
)
def test_a_proposal_that_is_none_is_not_sent(securenet, node, miner, change):
    ended = securenet("miner", "propose", "--key", miner, *change)

    assert ended.code == ExitCode.USAGE
    assert "POST /v1/transactions" not in node.requests


@pytest.mark.parametrize(
    ("approvals", "refusals", "code", "told"),
    [
        (["me"], ["bb" * 32], ExitCode.ALREADY_THERE, "this miner's vote for it counts"),
        (["bb" * 32], [], ExitCode.ALREADY_THERE, "vote for it: securenet miner vote"),
        # A vote is never changed: only another proposal lets it change its mind.
        (["bb" * 32], ["me"], ExitCode.OK, ""),
    ],
)
def test_what_is_proposed_already_is_voted_for(
    securenet, node, miner, approvals, refusals, code, told
):
    (me,) = [m["id"] for m in securenet("miner", "list", "--json").document]
    votes = {
        "approvals": [me if voter == "me" else voter for voter in approvals],
        "refusals": [me if voter == "me" else voter for voter in refusals],
    }
    body = {"name": "heartbeat_ms", "value": "70000"}
    others = [
        {"id": "11" * 32, "kind": "param.change", "body": {**body, "value": "1"}, **votes},
        {"id": "22" * 32, "kind": "param.change", "body": body, **votes},
    ]
    node.overrides["/v1/proposals"] = [web.json_response({"items": others, "cursor": None})]

    ended = securenet("param", "propose", "heartbeat_ms", "70000", "--key", miner)

    assert ended.code == code
    assert told in ended.err
    assert ("22" * 32 in ended.err) == (code != ExitCode.OK)
    assert ("POST /v1/transactions" in node.requests) == (code == ExitCode.OK)


def test_who_proposes_is_told_how_the_votes_are(securenet, node, miner):
    ended = securenet("param", "propose", "heartbeat_ms", "30000", "--key", miner)

    assert ended.out.splitlines()[-1].split() == (
        ["proposal", "enacted,", "1", "for", "and", "0", "against;", "1", "decide"]
    )


def test_who_votes_is_told_how_the_votes_are(securenet, node, miner):
    id, others = "22" * 32, ["aa" * 32, "bb" * 32]
    node.overrides["/v1/transactions"] = [
        web.json_response({"id": "33" * 32, "status": "committed", "height": 4, "index": 0})
    ]
    votes = {"status": "open", "approvals": others, "refusals": ["cc" * 32]}
    node.overrides[f"/v1/proposals/{id}"] = [web.json_response(votes)]

    ended = securenet("miner", "vote", id, "--key", miner)

    assert "open, 2 for and 1 against; 1 decide" in ended.out, ended.err


@pytest.mark.parametrize("path", ["/v1/proposals/{id}", "/v1/consensus"])
@pytest.mark.parametrize(
    "answer",
    [
        lambda: problem(404, "not_found", "it is not told"),
        lambda: web.json_response({}),
        lambda: web.json_response([]),
    ],
    ids=["refused", "empty", "of another form"],
)
def test_a_vote_that_is_committed_is_told_even_where_the_node_says_no_more(
    securenet, node, miner, path, answer
):
    id = "22" * 32
    node.overrides["/v1/transactions"] = [
        web.json_response({"id": "33" * 32, "status": "committed", "height": 4, "index": 0})
    ]
    votes = {"status": "open", "approvals": [], "refusals": []}
    node.overrides[f"/v1/proposals/{id}"] = [web.json_response(votes)]
    node.overrides[path.format(id=id)] = [answer()]

    ended = securenet("miner", "vote", id, "--key", miner)

    assert ended.code == ExitCode.OK
    assert "33" * 32 in ended.out
    assert "proposal" not in ended.out


def test_an_acceptance_that_is_none_is_told(securenet, node, miner, tmp_path):
    (tmp_path / "m1.json").write_text(json.dumps({"name": "m1"}))

    ended = securenet("miner", "propose", "--key", miner, "--add", tmp_path / "m1.json")

    assert ended.code == ExitCode.USAGE
    assert "securenet miner accept" in ended.err


def test_a_vote_on_nothing_is_refused(securenet, node, miner):
    ended = securenet("miner", "vote", "ab" * 32, "--key", miner, "--refuse")

    assert ended.code == ExitCode.NOT_FOUND
    assert "not_found" in ended.err


def test_a_vote_on_what_is_decided_is_told_so(securenet, node, miner):
    proposed = securenet("param", "propose", "heartbeat_ms", "30000", "--key", miner, "--json")

    ended = securenet("miner", "vote", proposed.document["id"], "--key", miner)

    assert ended.err.startswith("error: proposal_closed: ")
    assert "securenet query proposals shows how it ended" in ended.err


def test_a_stranger_may_not_vote(securenet, node, sensor):
    ended = securenet("miner", "vote", "ab" * 32, "--key", sensor)

    assert ended.code == ExitCode.REFUSED
    assert "not_permitted" in ended.err
    assert "HOME/keys/miner.json" in ended.err


def test_a_parameter_is_changed(securenet, node, miner):
    assert securenet("param", "propose", "heartbeat_ms", "30000", "--key", miner).code == 0

    assert securenet("param", "show", "--json").document["parameters"]["heartbeat_ms"] == 30_000
    assert "heartbeat_ms " in securenet("param", "show").out


@pytest.mark.parametrize(
    ("name", "value"), [("colour", "1"), ("heartbeat_ms", "soon"), ("heartbeat_ms", "1")]
)
def test_a_parameter_out_of_its_bounds_is_not_sent(securenet, node, miner, name, value):
    ended = securenet("param", "propose", name, value, "--key", miner)

    assert ended.code == ExitCode.USAGE
    assert "POST /v1/transactions" not in node.requests


def test_a_policy_is_set_and_shown(securenet, node, registrar):
    assert securenet("policy", "show", "--json").document["is_default"] is True
    ended = securenet(
        *("policy", "set", "--key", registrar, "--action", "observe"),
        *("--anomalous-min", "5", "--window", "20", "--duration-ms", "60000"),
    )

    assert ended.code == ExitCode.OK, ended.err
    policy = securenet("policy", "show", "--organisation", "acme", "--json").document
    assert (policy["action"], policy["anomalous_min"], policy["window"]) == ("observe", 5, 20)


def test_a_policy_that_limits_names_limits(securenet, node, registrar):
    limit = ("policy", "set", "--key", registrar, "--action", "limit", "--limits")

    assert securenet(*limit, "").code == ExitCode.USAGE
    assert "POST /v1/transactions" not in node.requests
    assert securenet(*limit, "2:60,9:600").code == ExitCode.OK
    policy = securenet("policy", "show", "--json").document
    assert (policy["action"], policy["limits"]) == ("limit", "2:60,9:600")


def test_a_policy_that_can_never_hold_is_not_sent(securenet, node, registrar):
    ended = securenet(
        *("policy", "set", "--key", registrar, "--anomalous-min", "30", "--window", "20")
    )

    assert ended.code == ExitCode.USAGE
    assert "POST /v1/transactions" not in node.requests


def test_an_organisation_is_proposed_and_listed(securenet, node, miner):
    ended = securenet(
        *("organisation", "propose", "--key", miner, "--name", "beta", "--limits", "100:1"),
        *("--registrar-key", STRANGER.public.hex()),
    )

    assert ended.code == ExitCode.OK, ended.err
    names = {o["name"] for o in securenet("organisation", "list", "--json").document}
    assert names == {"acme", "beta"}


def test_a_model_is_published_and_activated(securenet, node, registrar, miner, tmp_path):
    artifact, manifest = bundled_model()
    (tmp_path / "model.safetensors").write_bytes(artifact.data)
    (tmp_path / "model.json").write_text(manifest.to_json())

    published = securenet(
        *("model", "publish", tmp_path / "model.safetensors"),
        *("--manifest", tmp_path / "model.json", "--key", registrar),
    )
    activated = securenet("model", "activate", artifact.digest.hex(), "--key", miner)

    assert (published.code, activated.code) == (0, 0), published.err + activated.err
    assert node.blobs == {
        artifact.digest.hex(): artifact.data,
        blob_digest(manifest.to_json().encode()).hex(): manifest.to_json().encode(),
    }
    (model,) = securenet("query", "models", "--json").document
    assert model["id"] == artifact.digest.hex()


def test_a_model_that_is_registered_is_handed_in_again(securenet, node, registrar, tmp_path):
    artifact, manifest = bundled_model()
    (tmp_path / "model.safetensors").write_bytes(artifact.data)
    (tmp_path / "model.json").write_text(manifest.to_json())
    publish = ("model", "publish", tmp_path / "model.safetensors")
    options = ("--manifest", tmp_path / "model.json", "--key", registrar)
    securenet(*publish, *options)
    node.blobs.clear()

    again = securenet(*publish, *options)

    assert again.code == ExitCode.OK, again.err
    assert artifact.digest.hex() in node.blobs


def test_a_model_that_is_registered_as_what_it_is_not_is_not_handed_in(
    securenet, node, registrar, tmp_path
):
    artifact, manifest = bundled_model()
    (tmp_path / "model.safetensors").write_bytes(artifact.data)
    (tmp_path / "model.json").write_text(manifest.to_json())
    publish = ("model", "publish", tmp_path / "model.safetensors")
    options = ("--manifest", tmp_path / "model.json", "--key", registrar)
    securenet(*publish, *options)
    node.blobs.clear()
    node.model = {"threshold_ppm": 1}

    ended = securenet(*publish, *options)

    assert ended.code == ExitCode.MISSED
    assert f"is {artifact.threshold_ppm} ppm, registered is 1 ppm" in ended.err
    assert node.blobs == {}


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ({}, ["yes", "-"]),
        ({"active": False, "active_from_height": None}, ["no", "-"]),
        ({"active": False}, ["no", "-"]),
        ({"active": False, "active_from_height": 900}, ["from height 900", "-"]),
        ({"here": {"state": "ready", "reason": None}}, ["yes", "ready"]),
        ({"here": {"state": "refused", "reason": "size"}}, ["yes", "refused: size"]),
    ],
)
def test_the_list_says_from_when_a_model_judges_and_how_it_stands_at_the_node(
    securenet, node, registrar, tmp_path, model, shown
):
    artifact, manifest = bundled_model()
    (tmp_path / "model.safetensors").write_bytes(artifact.data)
    (tmp_path / "model.json").write_text(manifest.to_json())
    publish = ("model", "publish", tmp_path / "model.safetensors")
    securenet(*publish, "--manifest", tmp_path / "model.json", "--key", registrar)
    node.model = model

    listed = securenet("model", "list")

    row = next(line for line in listed.out.splitlines() if artifact.digest.hex() in line)
    assert re.split(r"\s{2,}", row.strip())[-2:] == shown


def test_a_file_that_is_no_model_is_told(securenet, node, registrar, tmp_path):
    (tmp_path / "x").write_bytes(b"not a model")

    ended = securenet(
        *("model", "publish", tmp_path / "x", "--manifest", tmp_path / "x", "--key", registrar)
    )

    assert ended.code == ExitCode.USAGE
    assert len(ended.err.splitlines()) == 2

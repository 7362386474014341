"""Devices, organisations, policies, miners, proposals, models and verdicts over HTTP."""

from dataclasses import replace
from threading import Thread, current_thread, main_thread

import pytest

from chain.blocks import HEADER
from chain.certificate import CERTIFICATE
from chain.crypto import address_of
from chain.kinds.appeal import DeviceAppeal
from chain.kinds.device_registry import DeviceUpdate, Suspend
from chain.kinds.parameter_change import ParameterChange
from chain.kinds.policy import PolicySet
from chain.light_client import verify_header, verify_state
from chain.miners import MINERS as MINER_LIST
from chain.miners import MinerSet
from chain.records.policies import PolicyRecord
from chain.state_tree import STATE_PROOF
from ml_validator.behaviour import WINDOW, Watch
from node.api import ModelStanding
from node.behaviour_service import Watched
from tests.unit.node.rpc.chain_node import (
    DEVICES,
    FLOW,
    MINERS,
    MODEL,
    ORGANISATION,
    REGISTRAR,
    ChainNode,
)
from tests.unit.node.rpc.test_chain_routes import pages

STRANGER = "ab" * 32


async def get(client, path):
    answer = await client.get(path)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def test_devices_are_listed_page_by_page(client, node):
    devices, count = await pages(client, "/v1/devices", limit=1)

    assert {device["name"] for device in devices} == {"device-0", "device-1", "device-2"}
    assert [device["id"] for device in devices] == sorted(device["id"] for device in devices)
    assert count == 3


async def suspend(node: ChainNode, index: int):
    body = DeviceUpdate(device=node.device(index), change=Suspend())
    await node.mine(node.sign("device.update", body, REGISTRAR, ORGANISATION))


async def test_devices_are_filtered_by_status_and_organisation(client, node):
    await suspend(node, 1)

    suspended = await get(client, "/v1/devices?status=suspended")
    active = await get(client, f"/v1/devices?status=active&organisation={ORGANISATION.hex()}")
    nobodys = await get(client, f"/v1/devices?organisation={STRANGER}")

    assert [device["name"] for device in suspended["items"]] == ["device-1"]
    assert suspended["items"][0]["active"] is False
    assert {device["name"] for device in active["items"]} == {"device-0", "device-2"}
    assert nobodys == {"items": [], "cursor": None}


async def test_a_filter_that_fits_few_ends_a_page_early_and_goes_on(client, node, monkeypatch):
    monkeypatch.setattr("node.rpc.paging.SCAN_MAX", 2)
    await suspend(node, 1)

    devices, count = await pages(client, "/v1/devices", status="suspended")

    assert [device["name"] for device in devices] == ["device-1"]
    assert count == 2


async def test_a_device_is_shown_with_its_record(client, node):
    device = await get(client, f"/v1/devices/{node.device(0).hex()}")

    assert device["name"] == "device-0"
    assert device["limits"] == "3:60"
    assert device["organisation"] == ORGANISATION.hex()
    assert (device["active"], device["tally"]) == (True, None)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/devices/{}",
        "/v1/devices/{}/transactions",
        "/v1/devices/{}/budget",
        "/v1/organisations/{}",
        "/v1/policies/{}",
        "/v1/proposals/{}",
        "/v1/transactions/{}/proof",
    ],
)
async def test_what_is_unknown_is_not_found_and_what_is_no_id_is_malformed(client, path):
    unknown = await client.get(path.format(STRANGER))
    malformed = await client.get(path.format("AB" * 32))

    assert (unknown.status, (await unknown.json())["code"]) == (404, "not_found")
    assert (malformed.status, (await malformed.json())["code"]) == (400, "malformed")


async def test_a_devices_transactions_are_paged_oldest_first(client, node):
    sent = [node.report(0) for _ in range(3)]
    await node.mine(sent[0], node.report(1), sent[1])
    await node.mine(sent[2])

    path = f"/v1/devices/{node.device(0).hex()}/transactions"
    found, count = await pages(client, path, limit=2)

    assert [(entry["height"], entry["index"]) for entry in found] == [(2, 0), (2, 2), (3, 0)]
    assert [entry["id"] for entry in found] == [transaction.id.hex() for transaction in sent]
    assert count == 2


@pytest.mark.attack("D11")
@pytest.mark.parametrize("name", ["transactions_of", "verdict_transactions"])
async def test_indexes_are_read_beside_the_event_loop(client, node, monkeypatch, name):
    """Entries that were pruned, and not compacted yet, make a scan as long as there were many."""
    threads: list[Thread] = []
    original = getattr(node.chain, name)

    def noted(*of, **named):
        threads.append(current_thread())
        return original(*of, **named)

    monkeypatch.setattr(node.chain, name, noted)
    device = node.device(0).hex()
    path = {"transactions_of": f"devices/{device}/transactions", "verdict_transactions": "verdicts"}

    assert (await client.get(f"/v1/{path[name]}")).status == 200

    assert threads
    assert main_thread() not in threads


async def test_the_budget_counts_down_and_says_when_there_is_room_again(client, node):
    path = f"/v1/devices/{node.device(0).hex()}/budget"
    await node.mine(node.report(0), node.report(0))
    two_left = await get(client, path)
    await node.mine(node.report(0))

    none_left = await get(client, path)

    assert two_left["remaining"] == 1
    assert [window["subject"] for window in none_left["windows"]] == ["device", "organisation"]
    window = none_left["windows"][0]
    assert (window["capacity"], window["seconds"], window["used"]) == (3, 60, 3)
    assert none_left["remaining"] == window["remaining"] == 0
    assert window["free_at_ms"] == node.chain.header(2).time_ms + 60_000
    assert none_left["windows"][1]["remaining"] == 997


def trusted(answer):
    """Return the header of a proof, checked against its certificate."""
    fields = {name: answer["header"][name] for name in HEADER.fields}
    header = HEADER.parse(fields, "header")
    members = MinerSet(MINER_LIST.parse(answer["miners"], "miners"))
    assert members.hash == header.miner_set_hash
    verify_header(header, CERTIFICATE.parse(answer["certificate"], "certificate"), members)
    return header


async def test_a_devices_proof_convinces_a_light_client(client, node):
    answer = await get(client, f"/v1/devices/{node.device(0).hex()}/proof")

    proof = STATE_PROOF.parse(answer["proof"], "proof")
    key, value = bytes.fromhex(answer["key"]), bytes.fromhex(answer["value"])
    verify_state(trusted(answer), key, value, proof)
    assert answer["device"]["name"] == "device-0"


async def test_a_strangers_proof_shows_that_there_is_none(client):
    answer = await get(client, f"/v1/devices/{STRANGER}/proof")

    proof = STATE_PROOF.parse(answer["proof"], "proof")
    verify_state(trusted(answer), bytes.fromhex(answer["key"]), None, proof)
    assert (answer["value"], answer["device"]) == (None, None)


async def test_an_organisation_is_listed_and_shown(client):
    page = await get(client, "/v1/organisations")
    organisation = await get(client, f"/v1/organisations/{ORGANISATION.hex()}")

    assert page == {"items": [organisation], "cursor": None}
    assert (organisation["name"], organisation["device_count"]) == ("acme", 3)


async def test_a_policy_is_the_default_until_one_is_set(client, node):
    path = f"/v1/policies/{ORGANISATION.hex()}"
    before = await get(client, path)
    body = PolicySet(policy=replace(PolicyRecord(), anomalous_min=5))
    await node.mine(node.sign("policy.set", body, REGISTRAR, ORGANISATION))

    after = await get(client, path)

    assert (before["is_default"], before["anomalous_min"]) == (True, 30)
    assert (after["is_default"], after["anomalous_min"]) == (False, 5)


async def test_miners_are_listed_with_their_place(client):
    page = await get(client, "/v1/miners")

    assert sorted(miner["name"] for miner in page["items"]) == [f"miner-{i}" for i in range(4)]
    assert [miner["index"] for miner in page["items"]] == [0, 1, 2, 3]
    assert {miner["passed_over_until"] for miner in page["items"]} == {None}


async def test_a_proposal_is_shown_with_its_body(client, node):
    miner = MINERS[0]
    body = ParameterChange(name="heartbeat_ms", value="30000")
    opened = node.sign("param.change", body, miner, address_of(miner.public))
    await node.mine(opened)

    page = await get(client, "/v1/proposals?status=open")
    closed = await get(client, "/v1/proposals?status=enacted")
    proposal = await get(client, f"/v1/proposals/{opened.id.hex()}")

    assert page["items"] == [proposal]
    assert closed["items"] == []
    assert proposal["body"] == {"name": "heartbeat_ms", "value": "30000"}
    assert (proposal["kind"], proposal["status"]) == ("param.change", "open")


async def test_the_model_that_judges_is_active(client):
    page = await get(client, "/v1/models")

    [model] = page["items"]
    assert (model["id"], model["name"]) == (MODEL.hex(), "forest")
    assert (model["active"], model["active_from_height"]) == (True, 1)
    assert model["here"] is None, "this node judges nothing"


async def test_a_model_is_shown_as_it_stands_at_the_node(client, node):
    node.standings[MODEL] = ModelStanding(state="refused", reason="the size of the model is 7")

    [model] = (await get(client, "/v1/models"))["items"]

    assert model["here"] == {"state": "refused", "reason": "the size of the model is 7"}


async def test_verdicts_are_shown_with_their_scores(client, node):
    await node.mine(node.report(0, FLOW), node.report(1, FLOW))
    given = [node.verdict(2, (10, 900_000), miner=0), node.verdict(2, (20, 800_000), miner=1)]
    await node.mine(*given)

    verdicts, count = await pages(client, "/v1/verdicts", limit=1)

    assert [verdict["scores_ppm"] for verdict in verdicts] == [[10, 900_000], [20, 800_000]]
    assert [verdict["transaction_id"] for verdict in verdicts] == [tx.id.hex() for tx in given]
    first = verdicts[0]
    assert (first["height"], first["index"], first["judged_height"]) == (3, 0, 2)
    assert (first["model"], first["threshold_ppm"]) == (MODEL.hex(), 500_000)
    assert first["miner"] == address_of(MINERS[0].public).hex()
    assert first["reasons"] == ["normal", "model"]
    assert first["judged"] == node.chain.tip.recent.judged(2).hex()
    assert count == 3


async def quarantine(node):
    """Let a quorum find the first device's flow anomalous, under a policy of one flow."""
    body = PolicySet(policy=PolicyRecord(anomalous_min=1, window=10))
    await node.mine(node.sign("policy.set", body, REGISTRAR, ORGANISATION), node.report(0, FLOW))
    height = node.chain.height
    await node.mine(*[node.verdict(height, (900_000,), miner=number) for number in range(3)])


async def test_a_device_shows_its_tally_and_the_measure_against_it(client, node):
    path = f"/v1/devices/{node.device(0).hex()}"
    before = await get(client, path)

    await quarantine(node)

    after = await get(client, path)
    assert (before["tally"], before["measure"], before["limited"]) == (None, None, False)
    assert (after["active"], after["status"]) == (False, "quarantined")
    tally, measure = after["tally"], after["measure"]
    assert (tally["in_window"], tally["window"], tally["anomalous_min"]) == (0, 10, 1)
    assert (measure["action"], measure["until_ms"]) == ("quarantine", after["quarantined_until_ms"])
    assert len(measure["accusers"]) == 3


async def test_measures_are_listed_and_filtered_by_their_appeals(client, node):
    assert await get(client, "/v1/measures") == {"items": [], "cursor": None}
    await quarantine(node)
    [measure] = (await get(client, "/v1/measures"))["items"]
    assert measure["device"] == node.device(0).hex()
    assert (await get(client, "/v1/measures?appealed=true"))["items"] == []

    body = DeviceAppeal(text="why?")
    await node.mine(node.sign("device.appeal", body, DEVICES[0], node.device(0)))

    [appealed] = (await get(client, "/v1/measures?appealed=true"))["items"]
    assert appealed["appeal"]["text"] == "why?"
    assert (await get(client, "/v1/measures?appealed=false"))["items"] == []
    assert (await client.get("/v1/measures?appealed=perhaps")).status == 400


async def test_a_limited_device_has_the_limits_of_the_policy_in_its_budget(client, node):
    body = PolicySet(policy=PolicyRecord(action="limit", anomalous_min=1, window=1))
    await node.mine(node.sign("policy.set", body, REGISTRAR, ORGANISATION), node.report(0, FLOW))
    height = node.chain.height
    await node.mine(*[node.verdict(height, (900_000,), miner=number) for number in range(3)])

    device = await get(client, f"/v1/devices/{node.device(0).hex()}")
    budget = await get(client, f"/v1/devices/{node.device(0).hex()}/budget")

    assert (device["active"], device["limited"]) == (True, True)
    assert [(w["capacity"], w["seconds"]) for w in budget["windows"]][-1] == (6, 60)


async def test_a_devices_behaviour_is_shown_with_its_reason(client, node):
    path = f"/v1/devices/{node.device(0).hex()}/behaviour"
    assert (await client.get(path)).status == 404
    watch = Watch()
    for value in (100, 100, 4_000):
        rows = [{"src_bytes": value}] * WINDOW
        watch.take(node.device(0), ORGANISATION, time_ms=0, sent=WINDOW, values=rows)
    found = watch.report(node.device(0), ORGANISATION)
    node.watched = Watched(from_height=1, height=9, behaviour=found)

    shown = await get(client, path)

    assert (shown["from_height"], shown["height"]) == (1, 9)
    assert shown["reason"] == "src_bytes 40 × this device's normal"
    [quantity] = shown["quantities"]
    assert (quantity["mean"], quantity["latest_mean"]) == (100, 4_000)
    assert (await client.get(f"/v1/devices/{STRANGER}/behaviour")).status == 404

    nothing = watch.report(node.device(1), ORGANISATION)
    node.watched = Watched(from_height=1, height=9, behaviour=nothing)
    assert (await get(client, path))["quantities"] == []


async def test_a_miner_shows_how_its_detector_does(client, node):
    await node.mine(node.report(0, FLOW))
    said = [(900_000,), (1,), (1,)]
    await node.mine(*[node.verdict(2, scores, miner=i) for i, scores in enumerate(said)])

    miners = (await get(client, "/v1/miners"))["items"]

    found = {miner["id"]: miner["detector"] for miner in miners}
    alone = found[address_of(MINERS[0].public).hex()]
    assert (alone["judged"], alone["anomalous"], alone["overruled"]) == (1, 1, 1)
    assert found[address_of(MINERS[3].public).hex()] is None


async def test_a_convicted_miner_is_listed_with_what_proves_it(client, node):
    assert await get(client, "/v1/evidence") == {"items": [], "cursor": None}
    report = node.evidence(3, reporter=0)
    await node.mine(report)

    [item] = (await get(client, "/v1/evidence"))["items"]

    assert item["miner"] == address_of(MINERS[3].public).hex()
    assert item["reporter"] == address_of(MINERS[0].public).hex()
    assert item["transaction"] == report.id.hex()
    assert (item["type"], item["height"], item["round"]) == ("commit", 2, 0)
    assert (item["accepted_height"], item["pardoned_height"]) == (2, None)
    shown = await get(client, f"/v1/transactions/{item['transaction']}")
    assert shown["transaction"]["body"]["miner"] == item["miner"]
    assert shown["receipt"]["events"] == [
        {"name": "miner_demoted", "values": [item["miner"], "commit", "2", "0"]}
    ]


async def test_the_list_of_miners_says_who_is_demoted_and_why(client, node):
    await node.mine(node.evidence(3, reporter=0))

    miners = {miner["name"]: miner for miner in (await get(client, "/v1/miners"))["items"]}
    [item] = (await get(client, "/v1/evidence"))["items"]

    assert {name: miner["status"] for name, miner in miners.items()} == {
        "miner-0": "active",
        "miner-1": "active",
        "miner-2": "active",
        "miner-3": "demoted",
    }
    assert miners["miner-3"]["index"] is not None
    assert {"miner": miners["miner-3"]["id"], **miners["miner-3"]["evidence"]} == item
    assert miners["miner-0"]["evidence"] is None


@pytest.mark.parametrize(("number", "is_convicted"), [(3, True), (0, False)])
async def test_a_light_client_verifies_who_was_convicted_and_who_never_was(
    client, node, number, is_convicted
):
    await node.mine(node.evidence(3, reporter=0))

    answer = await get(client, f"/v1/evidence/{address_of(MINERS[number].public).hex()}/proof")

    value = None if answer["value"] is None else bytes.fromhex(answer["value"])
    proof = STATE_PROOF.parse(answer["proof"], "proof")
    verify_state(trusted(answer), bytes.fromhex(answer["key"]), value, proof)
    assert (value is not None, answer["evidence"] is not None) == (is_convicted, is_convicted)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=",
        "cursor=zz",
        "cursor=" + "a" * 200,
        "unknown=1",
        "limit=1&limit=2",
        "status=sleeping",
        "organisation=ab",
    ],
)
async def test_a_query_out_of_form_is_malformed(client, query):
    answer = await client.get(f"/v1/devices?{query}")

    assert (answer.status, (await answer.json())["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("path", "cursor"),
    [
        ("/v1/blocks", "-1"),
        ("/v1/blocks", str(2**60)),
        ("/v1/verdicts", "1"),
        ("/v1/verdicts", f"1:{2**32}"),
        ("/v1/verdicts", f"{2**60}:0"),
        ("/v1/miners", "1:2"),
    ],
)
async def test_a_cursor_of_another_form_is_malformed(client, path, cursor):
    answer = await client.get(path, params={"cursor": cursor})

    assert (answer.status, (await answer.json())["code"]) == (400, "malformed")

"""Federated rounds over HTTP."""

import pytest

from chain.federated.records import ROUND_TABLE, SHARE_HASH_SIZE, SHARES_TABLE
from chain.kinds.rounds import RoundAbort
from chain.light_client import verify_state
from chain.state_tree import STATE_PROOF
from tests.builders import digest_of
from tests.unit.node.rpc.a_round import SHARE, join, members, open_round, play_round
from tests.unit.node.rpc.chain_node import ORGANISATION, REGISTRAR
from tests.unit.node.rpc.test_chain_routes import pages
from tests.unit.node.rpc.test_state_routes import STRANGER, get


async def test_without_rounds_the_page_is_empty(client):
    assert await get(client, "/v1/rounds") == {"items": [], "cursor": None}


async def test_a_round_is_listed_with_its_phase_and_how_far_its_members_are(client, node):
    round_id = await open_round(node)
    await node.mine(join(node, round_id, members(node)[1]))

    [item] = (await get(client, "/v1/rounds?phase=join"))["items"]

    assert (item["id"], item["phase"], item["name"]) == (round_id.hex(), "join", "week-1")
    assert (item["coordinator"], item["groups"]) == (ORGANISATION.hex(), 0)
    assert item["statuses"]["invited"] == 2
    assert item["statuses"]["joined"] == 1
    assert item["deadline"] > item["opened_height"]
    assert (await get(client, "/v1/rounds?phase=finished"))["items"] == []


async def test_rounds_are_listed_page_by_page(client, node):
    round_ids = [await open_round(node)]
    await node.mine(
        node.sign("round.abort", RoundAbort(round=round_ids[0]), REGISTRAR, ORGANISATION)
    )
    round_ids.append(await open_round(node))

    found, count = await pages(client, "/v1/rounds", limit=1)

    assert [entry["id"] for entry in found] == sorted(id.hex() for id in round_ids)
    assert count == 2


async def test_a_round_says_whom_it_waits_for(client, node):
    round_id = await open_round(node)
    first, second, third = members(node)
    await node.mine(join(node, round_id, second))

    found = await get(client, f"/v1/rounds/{round_id.hex()}")

    assert found["awaited"] == [first.hex(), third.hex()]
    assert [member["status"] for member in found["members"]] == ["invited", "joined", "invited"]


async def test_a_round_is_proven_under_the_last_header(client, node):
    round_id = await open_round(node)

    answer = await get(client, f"/v1/rounds/{round_id.hex()}/proof")

    header = node.chain.tip.header
    proof = STATE_PROOF.parse(answer["proof"], "proof")
    value = bytes.fromhex(answer["value"])
    verify_state(header, ROUND_TABLE.key(round_id), value, proof)
    assert answer["header"]["hash"] == header.hash.hex()
    assert ROUND_TABLE.record.render(ROUND_TABLE.decode(value)) == answer["round"]


async def test_what_a_member_has_handed_over_is_proven_and_that_one_has_not(client, node):
    round_id = await play_round(node)
    device = members(node)[0]
    stranger = digest_of("a stranger")

    for key, has_shared in ((round_id + device, True), (round_id + stranger, False)):
        path = f"/v1/rounds/{round_id.hex()}/shares/{key[32:].hex()}/proof"
        answer = await get(client, path)

        value = None if answer["value"] is None else bytes.fromhex(answer["value"])
        proof = STATE_PROOF.parse(answer["proof"], "proof")
        verify_state(node.chain.tip.header, SHARES_TABLE.key(key), value, proof)
        assert (value is not None) == has_shared
        assert (answer["shares"] is not None) == has_shared


async def test_shares_and_what_is_revealed_are_read_member_by_member(client, node):
    round_id = await play_round(node)
    path = f"/v1/rounds/{round_id.hex()}"

    found = await get(client, path)
    shares, count = await pages(client, f"{path}/shares", limit=2)
    revealed = (await get(client, f"{path}/revealed"))["items"]

    first, *others = [device.hex() for device in members(node)]
    assert (found["phase"], found["groups"], found["awaited"]) == ("reveal", [0], [first, *others])
    assert [item["device"] for item in shares] == [first, *others]
    assert {len(item["hashes"]) for item in shares} == {2 * 2 * 3 * SHARE_HASH_SIZE}
    assert {item["boxes"] for item in shares} == {""}, "of three, both others have their pads"
    assert count == 2
    assert revealed == [{"device": first, "shares": [SHARE.hex(), None, SHARE.hex()]}]


async def test_a_closed_round_has_no_shares_any_more(client, node):
    round_id = await play_round(node)
    await node.mine(node.sign("round.abort", RoundAbort(round=round_id), REGISTRAR, ORGANISATION))
    path = f"/v1/rounds/{round_id.hex()}"

    found = await get(client, path)

    assert (found["phase"], found["deadline"], found["awaited"]) == ("aborted", None, [])
    assert (await get(client, f"{path}/shares"))["items"] == []
    assert (await get(client, f"{path}/revealed"))["items"] == []


@pytest.mark.parametrize(
    "path", ["/v1/rounds/{}", "/v1/rounds/{}/shares", "/v1/rounds/{}/revealed"]
)
async def test_an_unknown_round_is_not_found_and_what_is_no_id_is_malformed(client, path):
    unknown = await client.get(path.format(STRANGER))
    malformed = await client.get(path.format("AB" * 32))

    assert (unknown.status, (await unknown.json())["code"]) == (404, "not_found")
    assert (malformed.status, (await malformed.json())["code"]) == (400, "malformed")


async def test_a_phase_that_is_none_is_malformed(client):
    assert (await client.get("/v1/rounds?phase=open")).status == 400

"""Status, genesis, blocks, parameters and agreement over HTTP."""

from pathlib import Path

import pytest

from chain.crypto import address_of
from chain.genesis import parse_genesis
from node.errors import DamagedEntry
from tests.unit.node.rpc.chain_node import MINERS


async def test_status_says_how_the_node_is_doing(client, node):
    node.highest_seen = 5
    node.pool[node.report().id] = node.report()

    answer = await client.get("/v1/status")

    status = await answer.json()
    tip = node.chain.tip.header
    assert answer.status == 200
    assert status["chain_id"] == node.genesis.chain_id
    assert status["block_hash"] == tip.hash.hex()
    assert status["state_root"] == tip.state_root.hex()
    assert status["time_ms"] == tip.time_ms
    assert (status["height"], status["highest_seen"]) == (1, 5)
    assert (status["round"], status["syncing"]) == (0, False)
    assert (status["peers"], status["mempool"]) == (2, 1)
    assert status["node_id"] == "07" * 32


async def test_genesis_document_makes_the_same_chain(client, node):
    answer = await client.get("/v1/genesis")

    assert parse_genesis(await answer.json()).hash == node.genesis.hash


async def test_a_block_is_found_by_height_by_hash_and_as_the_latest(client, node):
    header = node.chain.tip.header

    found = [
        await (await client.get(f"/v1/blocks/{name}")).json()
        for name in ("1", header.hash.hex(), "latest")
    ]

    assert found[0] == found[1] == found[2]
    assert found[0]["header"]["hash"] == header.hash.hex()
    assert found[0]["transaction_ids"] == [
        transaction.id.hex() for transaction in node.chain.block(1).transactions
    ]
    assert found[0]["certificate"]["digest"] == header.hash.hex()


async def test_a_block_tells_what_its_end_brought_about(client, node):
    await node.mine(node.report(), round=1)

    blocks = [await (await client.get(f"/v1/blocks/{height}")).json() for height in (1, 2)]

    assert blocks[0]["events"] == []
    assert [event["name"] for event in blocks[1]["events"]] == ["miner_passed_over"]


@pytest.mark.parametrize("name", ["0", "2", "00" * 32])
async def test_a_block_without_receipts_has_no_proof(client, name):
    answer = await client.get(f"/v1/blocks/{name}/proof")

    assert (answer.status, (await answer.json())["code"]) == (404, "not_found")


async def test_block_0_has_no_certificate(client):
    block = await (await client.get("/v1/blocks/0")).json()

    assert block["certificate"] is None
    assert block["transaction_ids"] == []


@pytest.mark.parametrize("name", ["2", "281474976710656", "00" * 32])
async def test_a_block_that_is_not_there_is_not_found(client, name):
    answer = await client.get(f"/v1/blocks/{name}")

    assert (answer.status, (await answer.json())["code"]) == (404, "not_found")


async def test_a_damaged_block_is_named_and_the_operator_is_told_what_to_do(
    client, node, monkeypatch
):
    def fail(height):
        raise DamagedEntry(
            Path("/home/x"),
            entry=f"header of block {height}",
            key=b"h",
            cause="a checksum is wrong",
        )

    monkeypatch.setattr(node.chain, "header", fail)

    answer = await client.get("/v1/blocks/1")

    problem = await answer.json()
    assert (answer.status, problem["code"]) == (500, "damaged")
    assert "the header of block 1 is damaged" in problem["detail"]
    assert "securenet db verify" in problem["detail"]
    assert "/home" not in problem["detail"]
    metrics = node.metrics.render().decode()
    assert "securenet_storage_damaged_total 1.0" in metrics
    assert "securenet_rpc_internal_errors_total 0.0" in metrics
    assert (await client.get("/v1/status")).status == 200


@pytest.mark.parametrize("name", ["-1", "01", "x", "AB" * 32, "1.5", "9" * 16, "%00"])
async def test_a_name_that_is_no_block_is_malformed(client, name):
    answer = await client.get(f"/v1/blocks/{name}")

    assert (answer.status, (await answer.json())["code"]) == (400, "malformed")


async def pages(client, path, **query):
    """Return the items of all pages, and how many pages there were."""
    items, count = [], 0
    while True:
        answer = await client.get(path, params=query)
        assert answer.status == 200, await answer.text()
        page = await answer.json()
        items += page["items"]
        count += 1
        if page["cursor"] is None:
            return items, count
        query["cursor"] = page["cursor"]


@pytest.mark.parametrize(
    ("order", "expected"), [("desc", [4, 3, 2, 1, 0]), ("asc", [0, 1, 2, 3, 4])]
)
async def test_pages_of_blocks_hold_every_block_once(client, node, order, expected):
    for _ in range(3):
        await node.mine(node.report(0))

    blocks, count = await pages(client, "/v1/blocks", order=order, limit=2)

    assert [block["header"]["height"] for block in blocks] == expected
    assert count == 3


async def test_the_latest_blocks_come_first_unless_asked_otherwise(client):
    page = await (await client.get("/v1/blocks?limit=1")).json()

    assert [block["header"]["height"] for block in page["items"]] == [1]
    assert page["cursor"] == "0"


async def test_a_page_of_blocks_ends_early_where_it_holds_many_transactions(
    client, node, monkeypatch
):
    monkeypatch.setattr("node.rpc.handlers.blocks.PAGE_TRANSACTIONS_MAX", 3)
    await node.mine(node.report(0))

    first = await (await client.get("/v1/blocks?order=asc")).json()

    assert [block["header"]["height"] for block in first["items"]] == [0, 1]
    assert first["cursor"] == "2"


async def test_parameters_are_those_in_force(client):
    answer = await (await client.get("/v1/params")).json()

    assert answer["height"] == 1
    assert answer["parameters"]["transaction_lifetime_ms"] == 60_000


async def test_consensus_names_who_is_missing_and_for_how_long(client):
    answer = await (await client.get("/v1/consensus")).json()

    assert answer["missing"] == [address_of(MINERS[0].public).hex()]
    assert answer["members"][0]["missing_for_ms"] == 9
    assert (answer["height"], answer["phase"], answer["quorum"]) == (2, "prepare", 3)
    assert answer["deadline_in_ms"] == 5


async def test_consensus_is_not_ready_before_it_began(client, node, monkeypatch):
    monkeypatch.setattr(node, "consensus", lambda: None)

    answer = await client.get("/v1/consensus")

    assert (answer.status, (await answer.json())["code"]) == (503, "not_ready")

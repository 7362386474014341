"""What a node that has pruned answers: what it kept, and for the rest that it did not keep it."""

import pytest

from chain.merkle import verify_inclusion
from chain.transactions import full_digest
from node.storage import schema
from node.storage.pruning import PRUNED_CLASSES, TRANSACTION_CLASSES
from tests.unit.node.rpc.chain_node import FLOW
from tests.unit.node.storage.stored_chain import shrink_windows

HOUR_MS = 3_600_000


@pytest.fixture
async def pruned(node, monkeypatch):
    """Return a node with flows in block 2, a verdict with a flow in block 3, telemetry pruned."""
    shrink_windows(monkeypatch, undo=2, verdicts=1)
    await node.mine(node.report(0, FLOW), node.report(1, FLOW))
    await node.mine(node.verdict(2, [0, 0]), node.report(0))
    for _ in range(8):
        node.now_ms += HOUR_MS
        await node.mine(node.report(0))
    await prune(node, schema.TELEMETRY)
    return node


async def prune(node, what: bytes) -> None:
    below = node.chain.spared_from()
    while node.chain.first(what) < below:
        await node.chain.prune(what, below)


async def get(client, path: str):
    answer = await client.get(path)
    return answer.status, await answer.json()


async def test_status_says_from_where_on_what_is_kept(client, pruned):
    _, status = await get(client, "/v1/status")

    first = pruned.chain.spared_from()
    assert first > 3
    assert status["first_heights"] == {
        "headers": 0,
        "certificates": 0,
        "bodies": first,
        "receipts": 0,
        "telemetry": first,
        "verdicts": 0,
        "registry": 0,
    }


async def test_a_block_still_names_its_transactions_until_receipts_go(client, pruned):
    receipts = [receipt.transaction_id.hex() for receipt in pruned.chain.receipts(2)]

    status, block = await get(client, "/v1/blocks/2")
    assert (status, block["transaction_ids"]) == (200, receipts)

    for what in PRUNED_CLASSES:
        await prune(pruned, what)
    status, problem = await get(client, "/v1/blocks/2")
    assert (status, problem["code"]) == (410, "pruned")
    assert problem["first_height"] == pruned.chain.spared_from()


async def test_pages_of_blocks_end_where_the_next_one_says_why(client, pruned):
    for what in PRUNED_CLASSES:
        await prune(pruned, what)
    first = pruned.chain.spared_from()

    status, page = await get(client, "/v1/blocks?limit=100")

    assert status == 200
    assert page["items"][-1]["header"]["height"] == first
    status, problem = await get(client, f"/v1/blocks?cursor={page['cursor']}")
    assert (status, problem["code"]) == (410, "pruned")


async def test_what_is_kept_of_a_pruned_block_still_proves_itself(client, pruned):
    [(height, index, id)] = pruned.chain.verdict_transactions(after=None, limit=10)

    status, proof = await get(client, f"/v1/transactions/{id.hex()}/proof")

    assert (status, height) == (200, 3)
    verify_inclusion(
        root=bytes.fromhex(proof["header"]["transaction_root"]),
        leaf=full_digest(bytes.fromhex(proof["transaction"])),
        index=index,
        leaf_count=proof["leaf_count"],
        path=[bytes.fromhex(node) for node in proof["transaction_path"]],
    )


async def test_verdicts_of_pruned_blocks_are_listed_until_they_go(client, pruned):
    _, page = await get(client, "/v1/verdicts")
    assert [item["height"] for item in page["items"]] == [3]

    await prune(pruned, schema.VERDICTS)

    assert (await get(client, "/v1/verdicts"))[1]["items"] == []
    status, problem = await get(client, "/v1/verdicts?cursor=2:0")
    assert (status, problem["code"]) == (410, "pruned")


async def test_a_pruned_transaction_is_unknown_and_it_is_said_why_that_may_be(client, pruned):
    id = pruned.chain.receipts(2)[0].transaction_id.hex()

    _, document = await get(client, f"/v1/transactions/{id}")
    status, problem = await get(client, f"/v1/transactions/{id}/proof")

    assert document["status"] == "unknown"
    assert (status, problem["code"]) == (404, "not_found")
    assert f"below block {pruned.chain.whole_from}" in problem["detail"]


async def test_a_list_of_reports_skips_nothing_silently(client, pruned):
    device = pruned.device(0).hex()
    first = pruned.chain.first(schema.TELEMETRY)

    _, page = await get(client, f"/v1/devices/{device}/transactions")
    status, problem = await get(client, f"/v1/devices/{device}/transactions?cursor=2:0")

    assert page["items"][0]["height"] == first
    assert (status, problem["code"]) == (410, "pruned")
    assert problem["first_height"] == first


async def test_every_class_of_transactions_can_go(client, pruned):
    for what in TRANSACTION_CLASSES:
        await prune(pruned, what)

    assert (await get(client, "/v1/blocks/1"))[0] == 200
    assert (await get(client, "/v1/status"))[1]["first_heights"]["registry"] > 3

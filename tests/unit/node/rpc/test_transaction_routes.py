"""Handing in, following and proving transactions over HTTP."""

import asyncio
import json
import threading
from dataclasses import replace
from io import BytesIO

import msgpack
import pytest

from chain.blocks import BLOCK_RECEIPT, RECEIPT
from chain.crypto import P256_ORDER
from chain.light_client import (
    InclusionProof,
    verify_block_receipt,
    verify_receipt,
    verify_transaction,
)
from chain.transactions import TRANSACTION_SIZE_MAX, attach_signature, decode_transaction
from chain.types import Digest, Signature
from node.errors import MempoolFull, StorageFailed
from node.rpc.bodies import parse_transaction, render_transaction
from tests.unit.node.rpc.chain_node import FLOW, MINERS, ORGANISATION, refusal
from tests.unit.node.rpc.test_state_routes import get, trusted

MSGPACK = {"Content-Type": "application/msgpack"}
PATH = "/v1/transactions"


async def post(client, body, path=PATH, headers=MSGPACK):
    answer = await client.post(path, data=body, headers=headers)
    return answer, await answer.json()


async def post_json(client, document, path=PATH):
    return await post(client, json.dumps(document), path, {"Content-Type": "application/json"})


# Handing in


async def test_canonical_bytes_are_pooled(client, node):
    transaction = node.report()

    answer, document = await post(client, transaction.wire)

    assert answer.status == 202
    assert document == {"id": transaction.id.hex(), "status": "pending"}
    assert transaction.id in node.pool


async def test_the_json_form_gives_the_same_bytes(client, node):
    transaction = node.report()

    answer, document = await post_json(client, render_transaction(transaction))

    assert (answer.status, document["id"]) == (202, transaction.id.hex())
    assert node.pool[transaction.id].wire == transaction.wire


async def test_every_kind_has_a_json_form_that_gives_its_bytes_back(node):
    flow = node.report(0, FLOW)
    registration = node.registration(0)
    verdict = node.verdict(1, (1, 2, 3))

    for transaction in (flow, registration, verdict):
        form = json.loads(json.dumps(render_transaction(transaction)))
        assert parse_transaction(form).wire == transaction.wire


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"version": 2}, "transaction.version"),
        ({"kind": "device.dance"}, "transaction.kind"),
        ({"kind": ["device.data"]}, "transaction.kind"),
        ({"kind": None}, "transaction.kind"),
        ({"sender": "AB" * 32}, "transaction.sender"),
        ({"time_ms": 1.5}, "transaction.time_ms"),
        ({"time_ms": True}, "transaction.time_ms"),
        ({"time_ms": 2**70}, "transaction.time_ms"),
        ({"nonce": "00"}, "transaction.nonce"),
        ({"nonce": None}, "transaction.nonce"),
        ({"signature": "00"}, "transaction.signature"),
        ({"body": None}, "transaction.body"),
        ({"body": {"payload": {"type": "poem"}}}, "transaction.body.payload.type"),
        ({"body": {"payload": {"type": "flow", "x": 1}}}, "transaction.body.payload.x"),
        ({"more": 1}, "transaction.more"),
        ({"\ud800": 1}, "transaction."),
    ],
)
async def test_a_json_form_that_is_wrong_is_malformed_and_says_where(client, node, change, where):
    form = {**render_transaction(node.report()), **change}

    answer, problem = await post_json(client, form)

    assert (answer.status, problem["code"]) == (400, "malformed")
    assert problem["detail"].startswith(where)
    assert node.submitted == 0


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "1",
        "null",
        "NaN",
        '{"kind": Infinity}',
        "[" * 100_000,
        '{"a":' * 50_000,
        "1" * 10_000,
        '"\\ud800"',
        b"\xff\xfe",
    ],
)
async def test_json_that_is_none_or_a_bomb_is_malformed(client, body):
    answer, problem = await post(client, body, headers={"Content-Type": "application/json"})

    assert (answer.status, problem["code"]) == (400, "malformed")


@pytest.mark.parametrize("path", ["/v1/transactions", "/v1/transactions/batch"])
async def test_a_member_given_twice_is_malformed_wherever_it_stands(client, node, path):
    form = json.dumps(render_transaction(node.report(0, FLOW)))
    outer = form[:-1] + ', "nonce": "' + "00" * 8 + '"}'
    inner = form.replace('"payload": {', '"payload": {"type": "flow", ', 1)
    assert inner != form

    for twice in (outer, inner):
        body = f"[{twice}]" if path.endswith("batch") else twice
        answer, problem = await post(
            client, body, path=path, headers={"Content-Type": "application/json"}
        )

        assert (answer.status, problem["code"]) == (400, "malformed")
        assert "given twice" in problem["detail"]
    assert node.submitted == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\xc1",
        b"\x92\xc4\x01a\xc4\x01b",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 20_000,
        b"\x81\xa1a\x01",
    ],
)
async def test_bytes_that_are_no_transaction_are_malformed(client, body):
    answer, problem = await post(client, body)

    assert (answer.status, problem["code"]) == (400, "malformed")
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("unauthorised_miner", 422),
        ("unknown_device", 422),
        ("device_not_active", 422),
        ("expired", 422),
        ("bad_signature", 422),
        ("duplicate", 422),
        ("not_permitted", 422),
        ("wrong_chain", 422),
        ("unknown_kind", 422),
        ("not_found", 422),
        ("limit_reached", 422),
        ("malformed", 400),
    ],
)
async def test_a_refusal_has_its_code_and_names_the_transaction(client, node, code, status):
    node.refuse_all = refusal(code, "for a reason")
    transaction = node.report()

    answer, problem = await post(client, transaction.wire)

    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["detail"] == "for a reason"
    assert problem["id"] == transaction.id.hex()
    assert problem["title"]
    assert problem["type"] == f"/docs#{code}"


async def test_an_unknown_device_is_refused_by_the_chains_own_rules(client, node):
    stranger = node.sign("device.data", FLOW, MINERS[0], ORGANISATION)

    answer, problem = await post(client, stranger.wire)

    assert (answer.status, problem["code"]) == (422, "unknown_device")


async def test_an_expired_transaction_is_told_the_chains_time(client, node):
    answer, problem = await post(client, node.report(time_ms=node.now_ms - 60_001).wire)

    assert (answer.status, problem["code"]) == (422, "expired")
    assert problem["time_ms"] == node.chain.tip.header.time_ms + 1


async def test_a_rate_limit_says_in_whole_seconds_when_to_come_back(client, node):
    node.refuse_all = refusal("rate_limited", retry_after_ms=1_200)

    answer, problem = await post(client, node.report().wire)

    assert (answer.status, problem["code"]) == (429, "rate_limited")
    assert answer.headers["Retry-After"] == "2"


async def test_a_full_pool_is_unavailable_and_says_when_to_come_back(client, node):
    node.refuse_all = MempoolFull(retry_after_ms=1_000)

    answer, problem = await post(client, node.report().wire)

    assert (answer.status, problem["code"]) == (503, "mempool_full")
    assert answer.headers["Retry-After"] == "1"


async def test_a_failure_of_the_node_shows_nothing_of_its_inside(client, node, tmp_path):
    node.refuse_all = StorageFailed(tmp_path, "secret words")

    answer, problem = await post(client, node.report().wire)

    assert (answer.status, problem["code"]) == (500, "internal")
    assert "secret" not in json.dumps(problem)


async def test_an_exception_in_a_handler_is_counted_and_hidden(client, node, monkeypatch):
    async def fail(transactions):
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(node, "submit", fail)

    answer, problem = await post(client, node.report().wire)

    assert (answer.status, problem["code"]) == (500, "internal")
    assert "secret" not in json.dumps(problem)
    assert "securenet_rpc_internal_errors_total 1.0" in node.metrics.render().decode()


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "", "x" * 100])
async def test_another_media_type_is_unsupported(client, node, content_type):
    answer, problem = await post(client, node.report().wire, headers={"Content-Type": content_type})

    assert (answer.status, problem["code"]) == (415, "unsupported_media_type")


async def test_a_compressed_body_is_unsupported(client, node):
    headers = {**MSGPACK, "Content-Encoding": "br"}

    answer, problem = await post(client, b"x", headers=headers)

    assert (answer.status, problem["code"]) == (415, "unsupported_media_type")


async def test_a_body_too_large_is_refused_unread(client):
    answer, problem = await post(client, bytes(TRANSACTION_SIZE_MAX + 1))

    assert (answer.status, problem["code"]) == (413, "too_large")


async def test_a_body_of_unknown_length_is_cut_off_at_the_bound(client):
    async def chunks():
        for _ in range(100):
            yield bytes(1024)

    answer = await client.post(PATH, data=chunks(), headers=MSGPACK)

    assert (answer.status, (await answer.json())["code"]) == (413, "too_large")


# High S


def with_high_s(transaction):
    signature = transaction.signature
    s = int.from_bytes(signature[32:], "big")
    return attach_signature(
        transaction.payload, Signature(signature[:32] + (P256_ORDER - s).to_bytes(32, "big"))
    )


@pytest.mark.parametrize("form", ["bytes", "json", "batch"])
async def test_a_high_s_of_a_p256_device_is_taken_as_its_low_twin(client, node, form):
    low = node.report(1)
    high = with_high_s(low)

    if form == "bytes":
        await post(client, high.wire)
    elif form == "json":
        await post_json(client, render_transaction(high))
    else:
        await post(client, msgpack.packb([node.report(0).wire, high.wire]), PATH + "/batch")

    assert high.id == low.id
    assert node.pool[low.id].wire == low.wire


async def test_a_wrong_signature_stays_wrong(client, node):
    forged = attach_signature(node.report(1).payload, Signature(bytes(64)))

    answer, problem = await post(client, forged.wire)

    assert (answer.status, problem["code"]) == (422, "bad_signature")


# Waiting


async def test_waiting_for_the_commit_answers_with_the_receipt(client, node):
    transaction = node.report()

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(post(client, transaction.wire, PATH + "?wait=commit"))
        while transaction.id not in node.pool:
            await asyncio.sleep(0.001)
        await node.mine()

    answer, document = waiting.result()
    assert answer.status == 200
    assert (document["status"], document["height"], document["index"]) == ("committed", 2, 0)
    assert document["receipt"]["transaction_id"] == transaction.id.hex()


async def test_waiting_in_vain_answers_that_it_is_pending(client, node):
    answer, document = await post(client, node.report().wire, PATH + "?wait=commit")

    assert (answer.status, document["status"]) == (202, "pending")


async def test_a_rejection_after_pooling_ends_the_wait_with_its_problem(client, node):
    transaction = node.report()

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(post(client, transaction.wire, PATH + "?wait=commit"))
        while transaction.id not in node.pool:
            await asyncio.sleep(0.001)
        node.reject(transaction, "device_not_active")

    answer, problem = waiting.result()
    assert (answer.status, problem["code"]) == (422, "device_not_active")
    assert "device_not_active" in problem["detail"]
    assert problem["id"] == transaction.id.hex()


async def test_waiting_for_anything_else_is_malformed(client, node):
    answer, problem = await post(client, node.report().wire, PATH + "?wait=forever")

    assert (answer.status, problem["code"]) == (400, "malformed")


# Batches


async def test_a_batch_has_one_result_for_each_in_order(client, node):
    good, late = node.report(0), node.report(1, time_ms=1)

    answer, document = await post(
        client, msgpack.packb([good.wire, b"junk", late.wire]), PATH + "/batch"
    )

    first, second, third = document["results"]
    assert answer.status == 200
    assert first == {"id": good.id.hex(), "status": "pending"}
    assert (second["id"], second["status"], second["error"]["code"]) == (
        None,
        "rejected",
        "malformed",
    )
    assert (third["id"], third["error"]["code"]) == (late.id.hex(), "expired")
    assert third["error"]["status"] == 422


async def test_a_json_batch_has_one_result_for_each_in_order(client, node):
    good = node.report(0)
    forms = [{"kind": 1}, render_transaction(good), None]

    answer, document = await post_json(client, forms, PATH + "/batch")

    assert answer.status == 200
    assert [result["status"] for result in document["results"]] == [
        "rejected",
        "pending",
        "rejected",
    ]
    assert document["results"][1]["id"] == good.id.hex()


@pytest.mark.parametrize(
    "body",
    [
        msgpack.packb([]),
        msgpack.packb([1]),
        msgpack.packb(["text"]),
        msgpack.packb([b"x", [b"y"]]),
        msgpack.packb([b"x"] * 1_001),
        msgpack.packb({"a": b"x"}),
        msgpack.packb(b"x"),
        b"\xdd\xff\xff\xff\xff",
        b"",
    ],
)
async def test_a_batch_out_of_form_is_malformed_as_a_whole(client, node, body):
    answer, problem = await post(client, body, PATH + "/batch")

    assert (answer.status, problem["code"]) == (400, "malformed")
    assert node.submitted == 0


@pytest.mark.parametrize("document", [[], {}, 1, [None] * 1_001])
async def test_a_json_batch_out_of_form_is_malformed_as_a_whole(client, document):
    answer, problem = await post_json(client, document, PATH + "/batch")

    assert (answer.status, problem["code"]) == (400, "malformed")


@pytest.mark.attack("D17")
@pytest.mark.parametrize(
    ("media", "size"), [("msgpack", 4 * 1024 * 1024 + 1), ("json", 2 * 1024 * 1024 + 1)]
)
async def test_a_batch_too_large_is_refused(client, media, size):
    headers = {"Content-Type": f"application/{media}"}

    answer, problem = await post(client, BytesIO(bytes(size)), PATH + "/batch", headers)

    assert (answer.status, problem["code"]) == (413, "too_large")


# Following


async def test_a_pending_transaction_is_shown_in_its_json_form(client, node):
    transaction = node.report()
    await post(client, transaction.wire)

    document = await get(client, f"{PATH}/{transaction.id.hex()}")

    assert document["status"] == "pending"
    assert parse_transaction(document["transaction"]).wire == transaction.wire
    assert (document["receipt"], document["height"], document["index"]) == (None, None, None)


async def test_a_committed_transaction_has_its_place_and_its_events(client, node):
    id = node.chain.block(1).transactions[2].id.hex()

    document = await get(client, f"{PATH}/{id}")

    assert (document["status"], document["height"], document["index"]) == ("committed", 1, 2)
    assert [event["name"] for event in document["receipt"]["events"]] == ["device_registered"]


async def test_a_transaction_is_read_beside_the_event_loop(client, node, monkeypatch):
    readers = []
    read = node.transaction

    def noting(id):
        readers.append(threading.current_thread())
        return read(id)

    monkeypatch.setattr(node, "transaction", noting)

    await get(client, f"{PATH}/{node.chain.block(1).transactions[2].id.hex()}")

    assert readers
    assert threading.main_thread() not in readers


async def test_a_rejected_transaction_says_why(client, node):
    transaction = node.report()
    await post(client, transaction.wire)
    node.reject(transaction, "rate_limited")

    document = await get(client, f"{PATH}/{transaction.id.hex()}")

    assert (document["status"], document["code"]) == ("rejected", "rate_limited")


async def test_an_unknown_transaction_is_unknown(client):
    document = await get(client, f"{PATH}/{'00' * 32}")

    assert (document["status"], document["transaction"]) == ("unknown", None)


async def test_a_body_that_no_kind_reads_is_shown_as_hex(node):
    payload = node.payload("device.data", FLOW, node.device(0))
    odd = attach_signature(replace(payload, body=b"\xc0"), Signature(bytes(64)))
    strange = attach_signature(replace(payload, kind="poem"), Signature(bytes(64)))

    assert render_transaction(odd)["body"] == "c0"
    assert render_transaction(strange)["body"] == payload.body.hex()


@pytest.mark.parametrize("index", [0, 1, 2])
async def test_a_transactions_proof_convinces_a_light_client(client, node, index):
    transaction = node.chain.block(1).transactions[index]

    answer = await get(client, f"{PATH}/{transaction.id.hex()}/proof")

    header = trusted(answer)
    paths = [
        InclusionProof(
            index=answer["index"],
            leaf_count=answer[count],
            path=tuple(Digest(bytes.fromhex(node)) for node in answer[path]),
        )
        for count, path in (
            ("leaf_count", "transaction_path"),
            ("receipt_leaf_count", "receipt_path"),
        )
    ]
    verify_transaction(header, decode_transaction(bytes.fromhex(answer["transaction"])), paths[0])
    receipt = RECEIPT.parse(answer["receipt"], "receipt")
    verify_receipt(header, receipt, paths[1])
    assert RECEIPT.encode(receipt).hex() == answer["receipt_bytes"]
    assert answer["index"] == index


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_the_proof_of_a_blocks_end_convinces_a_light_client(client, node, count):
    block = await node.mine(*(node.report(index) for index in range(count)), round=1)

    answer = await get(client, f"/v1/blocks/{block.header.hash.hex()}/proof")

    receipt = BLOCK_RECEIPT.parse(answer["receipt"], "receipt")
    proof = InclusionProof(
        index=answer["index"],
        leaf_count=answer["receipt_leaf_count"],
        path=tuple(Digest(bytes.fromhex(item)) for item in answer["receipt_path"]),
    )
    verify_block_receipt(trusted(answer), receipt, proof)
    assert answer["index"] == count
    assert BLOCK_RECEIPT.encode(receipt).hex() == answer["receipt_bytes"]
    assert [event.name for event in receipt.events] == ["miner_passed_over"]


async def test_a_pending_transaction_has_no_proof(client, node):
    transaction = node.report()
    await post(client, transaction.wire)

    answer = await client.get(f"{PATH}/{transaction.id.hex()}/proof")

    assert answer.status == 404

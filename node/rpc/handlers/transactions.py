"""Transactions: to hand them in, to follow them, to prove them."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from chain.admission import expected_key
from chain.blocks import RECEIPT, receipt_leaves, render_header
from chain.crypto import P256_KEY_SIZE, normalise_p256
from chain.errors import DecodeError, Rejection, SecureNetError
from chain.merkle import inclusion_proof
from chain.transactions import (
    TRANSACTION_SIZE_MAX,
    Transaction,
    attach_signature,
    decode_transaction,
)
from node.api import Submission, TransactionStatus
from node.rpc import render
from node.rpc.bodies import (
    JSON,
    decode_batch,
    media_type,
    parse_json,
    parse_json_batch,
    parse_transaction,
    render_transaction,
)
from node.rpc.context import Rpc
from node.rpc.errors import NotFound
from node.rpc.limits import BATCH_JSON_SIZE_MAX, BATCH_SIZE_MAX, TRANSACTION_JSON_SIZE_MAX
from node.rpc.paging import Query, SubmitQuery, parse_id
from node.rpc.problems import problem_response
from node.storage.chain_store import ChainStore


async def submit(rpc: Rpc, request: web.Request, query: SubmitQuery) -> Any:
    """Take one transaction; with ``wait=commit`` answer once its fate is known."""
    is_json = media_type(request) == JSON
    size_max = TRANSACTION_JSON_SIZE_MAX if is_json else TRANSACTION_SIZE_MAX
    async with rpc.bodies.read(request, size_max) as body:
        wire = parse_transaction(parse_json(body, "transaction")).wire if is_json else body
        [result] = await _admit(rpc, [wire])
    if result.error is not None:
        return problem_response(rpc.problem(result.error, result.id))
    assert result.id is not None, "what is pooled has an id"
    if query.wait is None:
        return web.json_response({"id": result.id.hex(), "status": "pending"}, status=202)
    status = await rpc.node.wait_transaction(result.id, rpc.limits.commit_wait_ms)
    if status.status in ("rejected", "expired"):
        code = status.code or "expired"
        refusal = Rejection(code, status.detail or f"it was pooled, and found {code} later")
        return problem_response(rpc.problem(refusal, result.id))
    return web.json_response(
        render_status(result.id, status), status=200 if status.status == "committed" else 202
    )


async def submit_batch(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Take many transactions; one result each, in order."""
    is_json = media_type(request) == JSON
    async with rpc.bodies.read(request, BATCH_JSON_SIZE_MAX if is_json else BATCH_SIZE_MAX) as body:
        if not is_json:
            results = await _admit(rpc, decode_batch(body))
        else:
            results = await _admit_json(rpc, parse_json_batch(body))
    return {"results": [_render_result(rpc, result) for result in results]}


async def transaction(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer where a transaction is in its life."""
    id = parse_id(request.match_info["id"], "id")
    # Beside the event loop: one transaction of an old block costs reading the block.
    return render_status(id, await rpc.reader.run(rpc.node.transaction, id))


async def proof(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer what proves a committed transaction and its receipt."""
    id = parse_id(request.match_info["id"], "id")
    chain = rpc.node.chain
    place = chain.locate(id)
    header = None if place is None else chain.header(place[0])
    rendered = None if place is None else await rpc.reader.run(_prove, chain, *place)
    if header is None or rendered is None:
        raise NotFound(f"transaction {id.hex()} is not committed here{render.kept_from(chain)}")
    return {
        "header": render_header(header),
        "certificate": render.certificate(chain.certificate(header.height)),
        "miners": render.deciding_miners(chain, header),
        **rendered,
    }


def render_status(id: bytes, status: TransactionStatus) -> dict[str, Any]:
    """Return the document of ``GET /v1/transactions/{id}``."""
    receipt = status.receipt
    return {
        "id": id.hex(),
        "status": status.status,
        "height": status.height,
        "index": None if receipt is None else receipt.index,
        "transaction": (
            None if status.transaction is None else render_transaction(status.transaction)
        ),
        "receipt": None if receipt is None else RECEIPT.render(receipt),
        "code": status.code,
        "detail": status.detail,
    }


def _prove(chain: ChainStore, height: int, index: int) -> dict[str, Any] | None:
    """Return what proves a transaction; None where it was pruned since it was found."""
    remains = chain.remains(height)
    wire = None if remains is None else remains.wires[index]
    if remains is None or wire is None:
        return None
    receipts = chain.receipts(height)
    leaves = receipt_leaves(receipts, chain.block_receipt(height))
    digests = remains.digests
    return {
        "transaction": wire.hex(),
        "receipt": RECEIPT.render(receipts[index]),
        "receipt_bytes": leaves[index].hex(),
        "index": index,
        "leaf_count": len(digests),
        "transaction_path": [node.hex() for node in inclusion_proof(digests, index)],
        "receipt_leaf_count": len(leaves),
        "receipt_path": [node.hex() for node in inclusion_proof(leaves, index)],
    }


async def _admit(rpc: Rpc, wires: Sequence[bytes]) -> list[Submission]:
    """Hand transactions to the node; those refused for a high S once more with a low one."""
    results = list(await rpc.node.submit(wires))
    again = {
        index: twin
        for index, result in enumerate(results)
        if isinstance(result.error, Rejection)
        and result.error.code == "bad_signature"
        and (twin := _low_twin(rpc, wires[index])) is not None
    }
    if again:
        second = await rpc.node.submit([twin.wire for twin in again.values()])
        for index, result in zip(again, second, strict=True):
            results[index] = result
    return results


def _low_twin(rpc: Rpc, wire: bytes) -> Transaction | None:
    """Return the transaction with a low S, where its sender signs with P-256 and S is high."""
    high = decode_transaction(wire)
    key = expected_key(high, rpc.node.chain.state)
    if key is None or len(key) != P256_KEY_SIZE:
        return None
    low = normalise_p256(high.signature)
    return None if low == high.signature else attach_signature(high.payload, low)


async def _admit_json(rpc: Rpc, documents: Sequence[object]) -> list[Submission]:
    results: list[Submission | None] = []
    wires = []
    for document in documents:
        try:
            wires.append(parse_transaction(document).wire)
            results.append(None)
        except DecodeError as error:
            results.append(Submission(id=None, error=error))
    admitted = iter(await _admit(rpc, wires) if wires else ())
    return [next(admitted) if result is None else result for result in results]


def _render_result(rpc: Rpc, result: Submission) -> dict[str, Any]:
    id = None if result.id is None else result.id.hex()
    error: SecureNetError | None = result.error
    if error is None:
        return {"id": id, "status": "pending"}
    return {"id": id, "status": "rejected", "error": rpc.problem(error, result.id).render()}

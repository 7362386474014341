"""The chain itself: status, genesis, blocks, parameters, agreement."""

from typing import Any, Final

from aiohttp import web

from chain.blocks import BLOCK_RECEIPT, receipt_leaves, render_header
from chain.genesis import render_genesis
from chain.merkle import inclusion_proof
from chain.parameters import PARAMETERS
from chain.state import parameters_of
from node.errors import Pruned
from node.rpc import render
from node.rpc.context import Rpc
from node.rpc.errors import NotFound, NotReady
from node.rpc.limits import PAGE_TRANSACTIONS_MAX
from node.rpc.paging import BlockPageQuery, Query, page, parse_height, parse_id
from node.storage.chain_store import ChainStore

_HASH_DIGITS: Final = 64


async def status(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer how the node and its chain are doing."""
    return render.status(rpc.node)


async def genesis(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer the genesis document."""
    return render_genesis(rpc.node.genesis)


async def parameters(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer the parameters in force."""
    tip = rpc.node.chain.tip
    return {
        "height": tip.header.height,
        "parameters": PARAMETERS.render(parameters_of(tip.state)),
    }


async def consensus(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer what agreement waits for."""
    snapshot, diagnosis = rpc.node.consensus(), rpc.node.diagnosis()
    if snapshot is None or diagnosis is None:
        raise NotReady("agreement has not begun yet")
    return render.consensus(snapshot, diagnosis, now_ns=rpc.node.monotonic_ns())


async def latest(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer the last block."""
    return await rpc.reader.run(_block, rpc.node.chain, rpc.node.chain.height)


async def block(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer a block by height or hash."""
    height = _height(rpc, request)
    found = await rpc.reader.run(_block, rpc.node.chain, height)
    if found is None:
        raise NotFound(f"block {height} is not kept here")
    return found


async def proof(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer what proves the events of a block's end."""
    height = _height(rpc, request)
    chain = rpc.node.chain
    header = chain.header(height)
    if header is None or height == 0:
        raise NotFound(f"block {height} has no receipts here")
    return {
        "header": render_header(header),
        "certificate": render.certificate(chain.certificate(height)),
        "miners": render.deciding_miners(chain, header),
        **await rpc.reader.run(_prove, chain, height),
    }


async def blocks(rpc: Rpc, request: web.Request, query: BlockPageQuery) -> Any:
    """Answer a page of blocks, the latest or the oldest first."""
    tip = rpc.node.chain.height
    step = -1 if query.order == "desc" else 1
    start = tip if step < 0 else 0
    if query.cursor is not None:
        start = parse_height(query.cursor, "query.cursor")
    heights = range(min(start, tip), -1, -1) if step < 0 else range(start, tip + 1)
    return await rpc.reader.run(_page, rpc.node.chain, heights, query.limit)


def _height(rpc: Rpc, request: web.Request) -> int:
    name = request.match_info["block"]
    if len(name) == _HASH_DIGITS:
        height = rpc.node.chain.height_of(parse_id(name, "block"))
    else:
        height = parse_height(name, "block")
    if height is None or height > rpc.node.chain.height:
        raise NotFound(f"there is no block {name} here")
    return height


def _page(chain: ChainStore, heights: range, limit: int) -> dict[str, Any]:
    items: list[Any] = []
    ids = 0
    for height in heights:
        if len(items) == limit or ids >= PAGE_TRANSACTIONS_MAX:
            return page(items, str(height))
        try:
            found = _block(chain, height)
        except Pruned:
            # Whoever asks for more is told; what was found is right.
            if not items:
                raise
            return page(items, str(height))
        if found is None:
            break
        items.append(found)
        ids += len(found["transaction_ids"])
    return page(items, None)


def _block(chain: ChainStore, height: int) -> dict[str, Any] | None:
    header = chain.header(height)
    if header is None:
        return None
    ids = [receipt.transaction_id.hex() for receipt in chain.receipts(height)]
    return render.block(header, chain.certificate(height), ids, chain.block_receipt(height))


def _prove(chain: ChainStore, height: int) -> dict[str, Any]:
    receipts, receipt = chain.receipts(height), chain.block_receipt(height)
    leaves = receipt_leaves(receipts, receipt)
    return {
        "receipt": BLOCK_RECEIPT.render(receipt),
        "receipt_bytes": leaves[-1].hex(),
        "index": len(receipts),
        "receipt_leaf_count": len(leaves),
        "receipt_path": [node.hex() for node in inclusion_proof(leaves, len(receipts))],
    }

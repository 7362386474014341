"""Models and what their detectors said."""

from typing import Any

from aiohttp import web

from chain.records import ACTIVE_MODELS, MODEL_TABLE
from chain.state import active_model_at
from node.rpc import render
from node.rpc.context import Rpc
from node.rpc.limits import PAGE_TRANSACTIONS_MAX
from node.rpc.paging import PageQuery, page, page_of_table, parse_place, render_place


async def models(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of models."""
    tip = rpc.node.chain.tip
    history = tip.state.get(ACTIVE_MODELS)
    activations = () if history is None else history.activations
    active = {bytes(entry.model): int(entry.from_height) for entry in activations}
    now = active_model_at(tip.state, tip.next_height)
    return page_of_table(
        lambda after: tip.state.scan(MODEL_TABLE, after=after),
        query,
        lambda id, record: render.model(id, record, active, now),
    )


async def verdicts(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of verdicts, oldest first."""
    chain = rpc.node.chain
    after = None if query.cursor is None else parse_place(query.cursor, "query.cursor")
    found = chain.verdict_transactions(after=after, limit=query.limit)
    items: list[Any] = []
    seen = scores = 0
    for height, index, _ in found:
        if scores >= PAGE_TRANSACTIONS_MAX:
            break
        seen += 1
        block = await rpc.reader.block(height)
        if block is None:
            continue
        known = render.thresholds(chain.state, block)
        items.append(render.verdict(block.transactions[index], (height, index), known))
        scores += len(items[-1]["scores_ppm"])
    is_last = seen == len(found) < query.limit
    return page(items, None if is_last else render_place(found[seen - 1][:2]))


async def nothing_yet(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer an empty page."""
    return page([], None)

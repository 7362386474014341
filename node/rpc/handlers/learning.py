"""Models, what their detectors said, and federated rounds."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from aiohttp import web

from chain.federated.progress import round_ids
from chain.federated.records import REVEAL_TABLE, ROUND_TABLE, SHARES_TABLE, FederatedRound
from chain.kinds.verdict import KIND as VERDICT
from chain.kinds.verdict import OPINION_SIZE
from chain.records.models import ACTIVE_MODELS, MODEL_TABLE
from chain.state import active_model_at
from chain.table import Table
from chain.transactions import Transaction, decode_transaction
from chain.types import Digest
from node.rpc import render
from node.rpc.context import Rpc
from node.rpc.errors import NotFound
from node.rpc.limits import PAGE_ROUNDS_MAX, PAGE_SHARES_MAX, PAGE_TRANSACTIONS_MAX
from node.rpc.paging import (
    PageQuery,
    Query,
    RoundPageQuery,
    page,
    page_of_table,
    parse_address,
    parse_id,
    parse_place,
    render_place,
    require_kept,
)
from node.rpc.state_proof import state_proof
from node.storage.chain_store import ChainStore
from node.storage.schema import VERDICTS


async def models(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of models."""
    tip = rpc.node.chain.tip
    history = tip.state.get(ACTIVE_MODELS)
    activations = () if history is None else history.activations
    active = {bytes(entry.model): int(entry.from_height) for entry in activations}
    now = active_model_at(tip.state, tip.next_height)
    standings = rpc.node.models()
    return page_of_table(
        lambda after: tip.state.scan(MODEL_TABLE, after=after),
        query,
        lambda id, record: render.model(id, record, active, now, standings.get(Digest(id))),
    )


async def verdicts(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of verdicts, oldest first."""
    chain = rpc.node.chain
    after = None if query.cursor is None else parse_place(query.cursor, "query.cursor")
    require_kept(chain, after, "verdicts", VERDICTS)
    found = await rpc.reader.run(
        partial(chain.verdict_transactions, after=after, limit=query.limit)
    )
    loaded, seen = await rpc.reader.run(_load, chain, found)
    known = render.thresholds(chain.state, [transaction for _, transaction in loaded])
    items = [render.verdict(transaction, place, known) for place, transaction in loaded]
    is_last = seen == len(found) < query.limit
    return page(items, None if is_last else render_place(found[seen - 1][:2]))


def _load(
    chain: ChainStore, found: Sequence[tuple[int, int, Digest]]
) -> tuple[list[tuple[tuple[int, int], Transaction]], int]:
    """Return as many verdicts as fit on a page, and how many places were looked at for them."""
    loaded: list[tuple[tuple[int, int], Transaction]] = []
    seen = scores = 0
    for height, of_block in groupby(found, key=itemgetter(0)):
        remains = chain.remains(height)
        for _, index, _ in of_block:
            if scores >= PAGE_TRANSACTIONS_MAX:
                return loaded, seen
            seen += 1
            # None: pruned since it was found.
            if remains is not None and (wire := remains.wires[index]) is not None:
                transaction = decode_transaction(wire)
                loaded.append(((height, index), transaction))
                scores += len(VERDICT.decode(transaction).opinions) // OPINION_SIZE
    return loaded, seen


async def rounds(rpc: Rpc, request: web.Request, query: RoundPageQuery) -> Any:
    """Answer a page of federated rounds, without their members."""
    state = rpc.node.chain.state

    def scan(after: bytes) -> Iterator[tuple[bytes, FederatedRound]]:
        # One by one, for the state remembers records that were asked for, and these are large.
        for id in sorted(round_ids(state)):
            if id > after:
                found = state.get(ROUND_TABLE, id)
                assert found is not None, "the state has the rounds that it lists"
                yield id, found

    def keep(found: FederatedRound) -> bool:
        return query.phase is None or found.phase == query.phase

    short = query.model_copy(update={"limit": min(query.limit, PAGE_ROUNDS_MAX)})
    return page_of_table(scan, short, render.round_summary, keep)


async def round_(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer a federated round."""
    return render.federated_round(*_round(rpc, request))


async def round_proof(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer what proves a federated round, or that there is none."""
    return state_proof(rpc, ROUND_TABLE, parse_id(request.match_info["id"], "id"), "round")


async def shares(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of what the members of an open round have handed to each other."""
    return _page_of_members(rpc, request, query, SHARES_TABLE)


async def shares_proof(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer what proves what a member of an open round has handed to the others."""
    round_id = parse_id(request.match_info["id"], "id")
    device = parse_address(request.match_info["device"], "device")
    return state_proof(rpc, SHARES_TABLE, round_id + device, "shares")


async def revealed(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of the shares that the members of an open round have revealed."""
    return _page_of_members(rpc, request, query, REVEAL_TABLE)


def _round(rpc: Rpc, request: web.Request) -> tuple[Digest, FederatedRound]:
    id = parse_id(request.match_info["id"], "id")
    found = rpc.node.chain.state.get(ROUND_TABLE, id)
    if found is None:
        raise NotFound(f"there is no federated round {id.hex()}, or it is long over")
    return id, found


def _page_of_members(
    rpc: Rpc, request: web.Request, query: PageQuery, table: Table[Any]
) -> dict[str, Any]:
    """Return a page of what `table` has of a round's members, in order of their ids."""
    round_id, found = _round(rpc, request)
    state = rpc.node.chain.state

    def scan(after: bytes) -> Iterator[tuple[bytes, Any]]:
        for member in found.members:
            record = state.get(table, round_id + member.device)
            if member.device > after and record is not None:
                yield member.device, record

    short = query.model_copy(update={"limit": min(query.limit, PAGE_SHARES_MAX)})
    return page_of_table(
        scan, short, lambda device, record: {"device": device.hex(), **table.record.render(record)}
    )

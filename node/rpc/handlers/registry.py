"""The registry of devices and who stands behind them: organisations, policies, miners, votes."""

from functools import partial
from typing import Any

from aiohttp import web

from chain.records.devices import DEVICE_TABLE, DeviceRecord
from chain.records.measures import MEASURE_TABLE, MeasureRecord
from chain.records.miners import EVIDENCE_TABLE, MINER_TABLE
from chain.records.organisations import ORGANISATION_TABLE
from chain.records.policies import POLICY_TABLE
from chain.records.proposals import PROPOSAL_TABLE, ProposalRecord
from chain.state import miner_sets_of
from chain.types import Address
from node.rpc import render
from node.rpc.context import Rpc
from node.rpc.errors import NotFound
from node.rpc.paging import (
    DevicePageQuery,
    MeasurePageQuery,
    PageQuery,
    ProposalPageQuery,
    Query,
    page,
    page_of_table,
    parse_address,
    parse_id,
    parse_place,
    render_place,
    require_kept,
)
from node.rpc.state_proof import state_proof
from node.storage.schema import TELEMETRY


async def devices(rpc: Rpc, request: web.Request, query: DevicePageQuery) -> Any:
    """Answer a page of devices."""
    state = rpc.node.chain.state
    now = rpc.next_block_time_ms()
    owner = None if query.organisation is None else bytes.fromhex(query.organisation)

    def keep(record: DeviceRecord) -> bool:
        return (owner is None or record.organisation == owner) and (
            query.status is None or record.status == query.status
        )

    return page_of_table(
        lambda after: state.scan(DEVICE_TABLE, after=after),
        query,
        lambda id, record: render.device(state, id, record, time_ms=now),
        keep,
    )


async def device(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer a device."""
    id, record = _device(rpc, request)
    return render.device(rpc.node.chain.state, id, record, time_ms=rpc.next_block_time_ms())


async def device_transactions(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of what a device sent."""
    id, _ = _device(rpc, request)
    after = None if query.cursor is None else parse_place(query.cursor, "query.cursor")
    require_kept(rpc.node.chain, after, "reports", TELEMETRY)
    # Beside the event loop: what was pruned lately makes the way to what is kept long.
    found = await rpc.reader.run(
        partial(rpc.node.chain.transactions_of, id, after=after, limit=query.limit)
    )
    items = [{"id": sent.hex(), "height": height, "index": i} for height, i, sent in found]
    more = len(found) == query.limit
    return page(items, render_place(found[-1][:2]) if more else None)


async def device_budget(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer what a device may still send."""
    id, record = _device(rpc, request)
    return render.budget(rpc.node.chain.tip, id, record, time_ms=rpc.next_block_time_ms())


async def device_behaviour(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer how a device behaves, against its own past and its organisation's devices."""
    id, record = _device(rpc, request)
    watched = await rpc.node.behaviour(id, record.organisation)
    if watched is None:
        raise NotFound("this node does not watch how devices behave")
    return render.behaviour(id, watched)


async def device_proof(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer what proves a device's record, or that there is none."""
    device = parse_address(request.match_info["id"], "id")
    return state_proof(rpc, DEVICE_TABLE, device, "device")


async def organisations(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of organisations."""
    state = rpc.node.chain.state
    return page_of_table(
        lambda after: state.scan(ORGANISATION_TABLE, after=after), query, render.organisation
    )


async def organisation(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer an organisation."""
    id = parse_address(request.match_info["id"], "id")
    record = rpc.node.chain.state.get(ORGANISATION_TABLE, id)
    if record is None:
        raise NotFound(f"there is no organisation {id.hex()}")
    return render.organisation(id, record)


async def policy(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer an organisation's policy, or the default that holds for it."""
    id = parse_address(request.match_info["id"], "id")
    state = rpc.node.chain.state
    if state.get(ORGANISATION_TABLE, id) is None:
        raise NotFound(f"there is no organisation {id.hex()}")
    return render.policy(id, state.get(POLICY_TABLE, id))


async def miners(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of miners."""
    state = rpc.node.chain.state
    present = miner_sets_of(state)[0]
    return page_of_table(
        lambda after: state.scan(MINER_TABLE, after=after),
        query,
        lambda id, record: render.miner(state, id, record, present),
    )


async def measures(rpc: Rpc, request: web.Request, query: MeasurePageQuery) -> Any:
    """Answer a page of measures, each the last against its device."""
    state = rpc.node.chain.state

    def keep(record: MeasureRecord) -> bool:
        return query.appealed is None or record.is_appealed == query.appealed

    return page_of_table(
        lambda after: state.scan(MEASURE_TABLE, after=after), query, render.measure, keep
    )


async def evidence(rpc: Rpc, request: web.Request, query: PageQuery) -> Any:
    """Answer a page of what miners were convicted of, each of the last time."""
    state = rpc.node.chain.state
    return page_of_table(
        lambda after: state.scan(EVIDENCE_TABLE, after=after), query, render.evidence
    )


async def evidence_proof(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer what proves that a miner was convicted, or that it never was."""
    miner = parse_address(request.match_info["id"], "id")
    return state_proof(rpc, EVIDENCE_TABLE, miner, "evidence")


async def proposals(rpc: Rpc, request: web.Request, query: ProposalPageQuery) -> Any:
    """Answer a page of governance proposals."""
    state = rpc.node.chain.state

    def keep(record: ProposalRecord) -> bool:
        return query.status is None or record.status == query.status

    return page_of_table(
        lambda after: state.scan(PROPOSAL_TABLE, after=after), query, render.proposal, keep
    )


async def proposal(rpc: Rpc, request: web.Request, query: Query) -> Any:
    """Answer a governance proposal."""
    id = parse_id(request.match_info["id"], "id")
    record = rpc.node.chain.state.get(PROPOSAL_TABLE, id)
    if record is None:
        raise NotFound(f"there is no proposal {id.hex()}")
    return render.proposal(id, record)


def _device(rpc: Rpc, request: web.Request) -> tuple[Address, DeviceRecord]:
    id = parse_address(request.match_info["id"], "id")
    record = rpc.node.chain.state.get(DEVICE_TABLE, id)
    if record is None:
        raise NotFound(f"there is no device {id.hex()}")
    return id, record

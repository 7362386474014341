"""What proves a record of the state, or that there is none, to whoever trusts an earlier header."""

from typing import Any

from aiohttp import web

from chain.blocks import render_header
from chain.state_tree import STATE_PROOF
from chain.table import Table
from node.rpc import render
from node.rpc.context import Rpc
from node.rpc.paging import parse_address


def state_proof(rpc: Rpc, request: web.Request, table: Table[Any], name: str) -> dict[str, Any]:
    """Return the record of `table` whose id the address names, or its absence, with its proof.

    Parameters
    ----------
    name : str
        What the record is called.
    """
    id = parse_address(request.match_info["id"], "id")
    chain = rpc.node.chain
    tip = chain.tip
    record = tip.state.get(table, id)
    return {
        "header": render_header(tip.header),
        "certificate": render.certificate(chain.certificate(tip.header.height)),
        "miners": render.deciding_miners(chain, tip.header),
        "key": table.key(id).hex(),
        "value": None if record is None else table.encode(record).hex(),
        "proof": STATE_PROOF.render(tip.state.prove(table, id)),
        name: None if record is None else table.record.render(record),
    }

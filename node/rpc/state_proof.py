"""What proves a record of the state, or that there is none, to whoever trusts an earlier header."""

from typing import Any

from chain.blocks import render_header
from chain.state_tree import STATE_PROOF
from chain.table import Table
from node.rpc import render
from node.rpc.context import Rpc


def state_proof(rpc: Rpc, table: Table[Any], key: bytes, name: str) -> dict[str, Any]:
    """Return the record of `table` under `key`, or its absence, with its proof.

    Parameters
    ----------
    name : str
        What the record is called.
    """
    chain = rpc.node.chain
    tip = chain.tip
    record = tip.state.get(table, key)
    return {
        "header": render_header(tip.header),
        "certificate": render.certificate(chain.certificate(tip.header.height)),
        "miners": render.deciding_miners(chain, tip.header),
        "key": table.key(key).hex(),
        "value": None if record is None else table.encode(record).hex(),
        "proof": STATE_PROOF.render(tip.state.prove(table, key)),
        name: None if record is None else table.record.render(record),
    }

"""``securenet light``: believing a node no more than its proofs."""

import asyncio
from functools import partial
from typing import Annotated, Any

import typer

from chain.blocks import HEADER, RECEIPT, Header
from chain.certificate import CERTIFICATE
from chain.errors import DecodeError, InvalidCertificate, InvalidProof, UntrustedHeader
from chain.genesis import genesis_header, genesis_state
from chain.light_client import InclusionProof, LightClient, verify_receipt, verify_transaction
from chain.merkle import LEAVES_MAX
from chain.miners import MINERS, MinerSet
from chain.schema import Blob, Integer, ListOf
from chain.state import MemorySource, State
from chain.transactions import TRANSACTION_SIZE_MAX, decode_transaction
from chain.types import DIGEST_SIZE, Digest
from cli.arguments import parse_digest
from cli.client import Client, Document, connect
from cli.errors import Missed
from cli.options import DEFAULT_RPC, AsJson, Rpc
from cli.render import show_fields, show_json
from node.clock import SystemClock
from node.light_walk import Decided, walk

app = typer.Typer(help="Check a node's answers by proofs alone.", no_args_is_help=True)

_PATH = ListOf(Blob(DIGEST_SIZE), 64)
_COUNT = Integer(0, LEAVES_MAX)


@app.callback()
def _light() -> None:
    """Check a node's answers by proofs alone."""


@app.command()
def verify(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a committed transaction.")],
    trust: Annotated[
        str,
        typer.Option(
            "--trust",
            metavar="HASH",
            help="Hash of a block, or of the genesis document, from somebody you trust.",
        ),
    ],
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Verify that a transaction is committed, believing nothing but the trusted hash.

    Example: securenet light verify 9f3c… --trust 04ab…
    """
    digest = parse_digest(trust, "hash")
    transaction_id = parse_digest(id, "transaction id")
    try:
        document = asyncio.run(_verify(rpc, transaction_id, digest))
    except (DecodeError, InvalidProof, InvalidCertificate, UntrustedHeader, KeyError) as error:
        raise Missed(
            f"the node's proof does not hold: {error}", "ask another node and compare what they say"
        ) from error
    if as_json:
        show_json(document)
    else:
        show_fields(document)


async def _verify(rpc: str, id: Digest, trust: Digest) -> Document:
    async with connect(rpc, attempts=3) as client:
        trusted = await _trusted_header(client, trust)
        proof = await client.get(f"/v1/transactions/{id.hex()}/proof")
        header = _header(proof["header"])
        if header != trusted:
            await walk(
                LightClient(trusted),
                _decided(proof),
                decided=partial(_ask_decided, client),
                now_ms=SystemClock().wall_ms(),
            )
    wire = Blob(1, TRANSACTION_SIZE_MAX).parse(proof["transaction"], "transaction")
    transaction = decode_transaction(wire)
    if transaction.id != id:
        raise InvalidProof("the proof is of another transaction")
    verify_transaction(header, transaction, _inclusion(proof, "leaf_count", "transaction_path"))
    receipt = RECEIPT.parse(proof["receipt"], "receipt")
    verify_receipt(header, receipt, _inclusion(proof, "receipt_leaf_count", "receipt_path"))
    return {
        "id": id.hex(),
        "verified": True,
        "height": header.height,
        "index": proof["index"],
        "block_hash": header.hash.hex(),
        "trusted_height": trusted.height,
    }


async def _trusted_header(client: Client, trust: Digest) -> Header:
    """Return the header that the trusted hash is of; whatever the node says is checked by it."""
    genesis = await client.genesis()
    if genesis.hash == trust:
        return genesis_header(genesis, State(MemorySource(genesis_state(genesis))).root)
    header = _header((await client.block(trust.hex()))["header"])
    if header.hash != trust:
        raise UntrustedHeader("the node gives another header for the trusted hash")
    return header


async def _ask_decided(client: Client, height: int) -> Decided:
    return _decided(await client.get(f"/v1/blocks/{height}/proof"))


def _decided(proof: Document) -> Decided:
    if proof["miners"] is None:
        raise UntrustedHeader("the node does not keep who decided that height")
    return Decided(
        header=_header(proof["header"]),
        certificate=CERTIFICATE.parse(proof["certificate"], "certificate"),
        miners=MinerSet(MINERS.parse(proof["miners"], "miners")),
    )


def _header(document: Any) -> Header:
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if name != "hash"}
    return HEADER.parse(document, "header")


def _inclusion(proof: Document, count: str, path: str) -> InclusionProof:
    return InclusionProof(
        index=_COUNT.parse(proof["index"], "index"),
        leaf_count=_COUNT.parse(proof[count], count),
        path=tuple(Digest(item) for item in _PATH.parse(proof[path], path)),
    )

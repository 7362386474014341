"""``securenet light``: believing a node no more than its proofs."""

from typing import Annotated

import typer

from cli.arguments import parse_digest
from cli.client import Client, ask
from cli.options import DEFAULT_RPC, AsJson, Rpc
from cli.proofs import Proven, proofs_hold, prove_transaction
from cli.render import show_fields, show_json

app = typer.Typer(help="Check a node's answers by proofs alone.", no_args_is_help=True)


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

    async def question(client: Client) -> Proven:
        return await prove_transaction(client, transaction_id, trust=digest)

    with proofs_hold():
        proven = ask(rpc, question)
    assert proven.trusted is not None, "a hash was given"
    document = {
        "id": transaction_id.hex(),
        "verified": True,
        "height": proven.header.height,
        "index": proven.index,
        "block_hash": proven.header.hash.hex(),
        "trusted_height": proven.trusted.height,
    }
    if as_json:
        show_json(document)
    else:
        show_fields(document)

"""What all commands that send a transaction have in common."""

from collections.abc import Callable

from chain.genesis import Genesis
from chain.transactions import Transaction
from cli.client import Client, Document, ask
from cli.render import show_fields, show_json
from cli.signing import submit


def send(rpc: str, sign: Callable[[Genesis], Transaction], *, wait: bool, as_json: bool) -> None:
    """Sign a transaction for the chain of the node at `rpc`, send it and print what became of it.

    Parameters
    ----------
    sign : callable
        Makes the transaction, given the chain's genesis document.
    """

    async def question(client: Client) -> Document:
        genesis = await client.genesis()
        return await submit(client, sign(genesis), wait=wait)

    show_outcome(ask(rpc, question), as_json=as_json)


def show_outcome(answer: Document, *, as_json: bool) -> None:
    """Print what became of a transaction."""
    if as_json:
        show_json(answer)
        return
    receipt = answer.get("receipt") or {}
    events = [" ".join([event["name"], *event["values"]]) for event in receipt.get("events", [])]
    show_fields(
        {
            "id": answer["id"],
            "status": answer["status"],
            "height": answer.get("height"),
            "index": answer.get("index"),
            "events": events or None,
        }
    )

"""What all commands that send a transaction have in common."""

from collections.abc import Callable
from typing import Any, Final

from chain.crypto import SigningKey
from chain.genesis import Genesis
from chain.transactions import Transaction
from cli.client import Client, Document, ask
from cli.errors import Refused
from cli.proposals import require_not_open, standing
from cli.render import show_fields, show_json
from cli.signing import find_miner_sender, registrar_sender, submit

NO_MINER_ADVICE: Final = (
    "sign with the key of an active miner (securenet miner list), which its node has in "
    "HOME/keys/miner.json"
)


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


def send_as_miner(
    rpc: str, key: SigningKey, kind: str, body: Any, *, wait: bool, as_json: bool
) -> None:
    """Send a transaction of the miner that signs with `key`, and print what became of it.

    A proposal that is open already is refused, and of one the votes are told; see `cli.proposals`.
    """

    async def question(client: Client) -> tuple[Document, str | None]:
        sender = await find_miner_sender(client, await client.genesis(), key)
        await require_not_open(client, kind, body, sender.address)
        try:
            answer = await submit(client, sender.sign(kind, body), wait=wait)
        except Refused as refusal:
            if refusal.code == "not_permitted":
                refusal.advice = NO_MINER_ADVICE
            raise
        return answer, None if as_json else await standing(client, kind, body, answer)

    answer, votes = ask(rpc, question)
    show_outcome(answer, as_json=as_json, votes=votes)


def send_as_registrar(
    rpc: str,
    key: SigningKey,
    organisation: str | None,
    kind: str,
    body: Any,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Send a transaction of an organisation, whose registrar signs with `key`, and print the same.

    `organisation` is as for `cli.signing.registrar_sender`.
    """
    send(
        rpc,
        lambda genesis: registrar_sender(genesis, key, organisation).sign(kind, body),
        wait=wait,
        as_json=as_json,
    )


def show_outcome(
    answer: Document, *, as_json: bool, id_name: str = "id", votes: str | None = None
) -> None:
    """Print what became of a transaction.

    Parameters
    ----------
    id_name : str
        Name of its id, for where another id stands above it.
    votes : str, optional
        How the proposal stands that it is about.
    """
    if as_json:
        show_json(answer)
        return
    receipt = answer.get("receipt") or {}
    events = [" ".join([event["name"], *event["values"]]) for event in receipt.get("events", [])]
    show_fields(
        {
            id_name: answer["id"],
            "status": answer["status"],
            "height": answer.get("height"),
            "index": answer.get("index"),
            "events": events or None,
            "proposal": votes,
        }
    )

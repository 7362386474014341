"""``securenet policy``: what happens to devices whose flows are anomalous too often."""

from enum import StrEnum
from typing import Annotated

import typer

from chain.kinds.organisations import organisation_id
from chain.kinds.policy import PolicySet
from chain.limits import render_limits
from chain.records.policies import RING_BITS, PolicyRecord
from cli.arguments import parse_rate_limits
from cli.client import Client, Document, ask
from cli.errors import BadInput, NotFound, Refused
from cli.key_files import open_key
from cli.options import (
    DEFAULT_RPC,
    AsJson,
    Organisation,
    PassphraseFile,
    RegistrarKey,
    Rpc,
    Wait,
)
from cli.render import show_fields, show_json
from cli.sending import send_as_registrar

app = typer.Typer(
    help="What happens to devices whose flows are anomalous too often.", no_args_is_help=True
)


class Action(StrEnum):
    """What follows when a device crosses the line."""

    OBSERVE = "observe"
    LIMIT = "limit"
    QUARANTINE = "quarantine"
    REVOKE = "revoke"


@app.command()
def show(
    organisation: Organisation = None, rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False
) -> None:
    """Show the policy of an organisation.

    Example: securenet policy show --organisation demo
    """

    async def question(client: Client) -> Document:
        name = organisation
        if name is None:
            names = [o.name for o in (await client.genesis()).organisations]
            if len(names) != 1:
                raise BadInput("there are several organisations", "name one with --organisation")
            (name,) = names
        try:
            return await client.get(f"/v1/policies/{organisation_id(name).hex()}")
        except Refused as refusal:
            if refusal.status != 404:
                raise
            raise NotFound(
                f"there is no organisation called {name[:80]!r}",
                "securenet organisation list has the names",
            ) from refusal

    document = ask(rpc, question)
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command("set")
def set_policy(
    key: RegistrarKey,
    action: Annotated[
        Action,
        typer.Option(
            "--action",
            help="Only record it, limit the device, quarantine it, or revoke it for good.",
        ),
    ] = Action.QUARANTINE,
    anomalous_min: Annotated[
        int, typer.Option("--anomalous-min", min=1, max=RING_BITS, help="So many anomalous …")
    ] = PolicyRecord().anomalous_min,
    window: Annotated[
        int, typer.Option("--window", min=1, max=RING_BITS, help="… of so many judged flows.")
    ] = PolicyRecord().window,
    duration_ms: Annotated[
        int, typer.Option("--duration-ms", min=1_000, help="How long a limit or quarantine lasts.")
    ] = PolicyRecord().duration_ms,
    limits: Annotated[
        str,
        typer.Option("--limits", metavar="LIMITS", help="What limited devices may send, as 6:60."),
    ] = render_limits(PolicyRecord().limits),
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Set the policy of the organisation whose registrar signs.

    Example: securenet policy set --key registrar.json --anomalous-min 10 --window 50
    """
    if anomalous_min > window:
        raise BadInput(
            f"{anomalous_min} of the last {window} flows can never be anomalous",
            "give an --anomalous-min of at most --window",
        )
    policy = PolicyRecord(
        action=action.value,
        anomalous_min=anomalous_min,
        window=window,
        duration_ms=duration_ms,
        limits=parse_rate_limits(limits),
    )
    if action is Action.LIMIT and not policy.limits:
        raise BadInput("a policy that limits devices names the limits", "give --limits, as 6:60")
    signing = open_key(key, passphrase_file)
    body = PolicySet(policy=policy)
    send_as_registrar(rpc, signing, organisation, "policy.set", body, wait=wait, as_json=as_json)

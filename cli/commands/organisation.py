"""``securenet organisation``: whose devices there are."""

from operator import itemgetter
from typing import Annotated

import typer

from chain.kinds.organisations import OrganisationChange
from cli.arguments import parse_public_key, parse_rate_limits
from cli.key_files import open_key
from cli.listing import Columns, show_list
from cli.options import DEFAULT_RPC, AsJson, Limit, MinerKey, PassphraseFile, Rpc, Wait
from cli.sending import send_as_miner

app = typer.Typer(help="The organisations that own devices.", no_args_is_help=True)


@app.command("list")
def list_organisations(limit: Limit = 100, rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """List the organisations.

    Example: securenet organisation list
    """
    columns: Columns = {
        "id": itemgetter("id"),
        "name": itemgetter("name"),
        "active": itemgetter("active"),
        "devices": itemgetter("device_count"),
        "limits": itemgetter("limits"),
    }
    show_list(
        rpc, "/v1/organisations", columns, limit=limit, as_json=as_json, empty="no organisations"
    )


@app.command()
def propose(
    name: Annotated[str, typer.Option("--name", help="Its name; a new one is a new organisation.")],
    registrar_key: Annotated[
        str, typer.Option("--registrar-key", metavar="HEX", help="Public key of its registrar.")
    ],
    key: MinerKey,
    limits: Annotated[
        str, typer.Option("--limits", metavar="LIMITS", help="What all its devices may send.")
    ] = "",
    active: Annotated[
        bool, typer.Option("--active/--closed", help="Whether its devices may send.")
    ] = True,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Propose an organisation, or a change of one; the miners vote with miner vote.

    Example: securenet organisation propose --key miner.json --name acme --registrar-key 3b6a…
    """
    body = OrganisationChange(
        name=name,
        registrar_key=parse_public_key(registrar_key),
        limits=parse_rate_limits(limits),
        active=active,
    )
    signing = open_key(key, passphrase_file)
    send_as_miner(rpc, signing, "organisation.change", body, wait=wait, as_json=as_json)

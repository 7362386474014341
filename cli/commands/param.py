"""``securenet param``: the parameters of the chain."""

from typing import Annotated

import typer

from chain.errors import Rejection
from chain.kinds.parameter_change import ParameterChange, changed
from chain.parameters import Parameters
from cli.client import ask
from cli.errors import BadInput
from cli.key_files import open_key
from cli.options import DEFAULT_RPC, AsJson, MinerKey, PassphraseFile, Rpc, Wait
from cli.render import show_fields, show_json
from cli.sending import send_as_miner

app = typer.Typer(help="The chain's parameters.", no_args_is_help=True)


@app.command()
def show(rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """Show the parameters in force.

    Example: securenet param show --json
    """
    document = ask(rpc, lambda client: client.get("/v1/params"))
    if as_json:
        show_json(document)
    else:
        show_fields(document["parameters"])


@app.command()
def propose(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the parameter.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="An integer, or rate limits.")],
    key: MinerKey,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Propose another value for a parameter; the miners vote with miner vote.

    Example: securenet param propose heartbeat_ms 30000 --key miner.json
    """
    try:
        changed(Parameters(), name, value)
    except Rejection as error:
        raise BadInput(str(error), "securenet param show lists names and values") from error
    signing = open_key(key, passphrase_file)
    body = ParameterChange(name=name, value=value)
    send_as_miner(rpc, signing, "param.change", body, wait=wait, as_json=as_json)

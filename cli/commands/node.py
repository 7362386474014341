"""``securenet node``: one node on this machine."""

import asyncio
from pathlib import Path
from typing import Any

import typer

from cli.arguments import expand_home
from cli.client import ask
from cli.errors import BadInput
from cli.options import DEFAULT_HOME, DEFAULT_RPC, AsJson, Home, PassphraseFile, Rpc
from cli.render import show_fields, show_json

app = typer.Typer(help="One node on this machine.", no_args_is_help=True)


@app.command()
def run(
    home: Home = Path(DEFAULT_HOME),
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Run a node until Ctrl-C or SIGTERM; its log goes to stderr.

    With --json the log is one JSON object a line, whatever config.toml says.

    Example: securenet node run --home node0
    """
    from cli.key_files import read_passphrase
    from node.home import Home as NodeHome
    from node.logs import configure_logs
    from node.process import run_node

    path = expand_home(home)
    settings = NodeHome(path).load_config().log
    configure_logs(settings.model_copy(update={"format": "json"}) if as_json else settings)
    asyncio.run(run_node(path, passphrase=read_passphrase(passphrase_file)))


@app.command()
def status(rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """Show how a running node is doing.

    Example: securenet node status --rpc http://127.0.0.1:26767
    """
    document = ask(rpc, lambda client: client.status())
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command()
def inspect(home: Home = Path(DEFAULT_HOME), as_json: AsJson = False) -> None:
    """Show what lies in the home of a node that does not run: chain, height, keys.

    Example: securenet node inspect --home node0 --json
    """
    document = _inspect(expand_home(home))
    if as_json:
        show_json(document)
    else:
        show_fields(document)


def _inspect(path: Path) -> dict[str, Any]:
    from chain.crypto import address_of
    from node.home import Home as NodeHome
    from node.keys import read_key_info

    home = NodeHome(path)
    if not path.is_dir():
        raise BadInput(f"there is no node's home in {path}", "make one: securenet init")
    config, genesis = home.load_config(), home.load_genesis()
    miner, node = read_key_info(home.miner_key), read_key_info(home.node_key)
    miner_id = address_of(miner.public)
    return {
        "home": str(path),
        "role": config.role,
        "chain_id": genesis.chain_id,
        "genesis_hash": genesis.hash.hex(),
        "miner_id": miner_id.hex(),
        "first_miner": any(first.key == miner.public for first in genesis.miners),
        "node_id": address_of(node.public).hex(),
        "keys_encrypted": miner.is_encrypted,
        "p2p": f"{config.p2p.host}:{config.p2p.port}",
        "rpc": f"{config.rpc.host}:{config.rpc.port}",
    }

"""``securenet init``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.arguments import home_directory
from cli.options import DEFAULT_HOME, AsJson, Home, PassphraseFile
from cli.render import show_fields, show_json, show_line

app = typer.Typer()


class Role(StrEnum):
    """What a node may be."""

    MINER = "miner"
    JOINER = "joiner"
    OBSERVER = "observer"


@app.command()
def init(
    home: Home = Path(DEFAULT_HOME),
    genesis: Annotated[
        Path | None,
        typer.Option("--genesis", metavar="FILE", help="The chain's genesis document."),
    ] = None,
    role: Annotated[
        Role | None,
        typer.Option(
            "--role",
            help="Vote on blocks as a founder, once voted in, or never; by default a miner without "
            "--genesis and a joiner with it.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address on which peers are met.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65_535, help="Port on which peers are met.")
    ] = 26_756,
    rpc_host: Annotated[
        str, typer.Option("--rpc-host", help="Address of the RPC; off loopback it needs TLS.")
    ] = "127.0.0.1",
    rpc_port: Annotated[
        int, typer.Option("--rpc-port", min=1, max=65_535, help="Port of the RPC.")
    ] = 26_757,
    tls_certificate: Annotated[
        Path | None,
        typer.Option("--tls-certificate", metavar="FILE", help="Certificate of the RPC, PEM."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key, PEM.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let the RPC be off loopback without TLS.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the home of one node: its keys, its configuration, and the genesis it is given.

    Without --genesis the keys come first: the chain's founders put them into the document, and
    everybody copies it to HOME/genesis.json. A genesis that is there already cannot name the new
    keys, so with --genesis the node joins and is to be voted in.

    Example: securenet init --home node0 --genesis genesis.json
    """
    from chain.crypto import address_of
    from cli.key_files import read_passphrase
    from node.config import parse_config
    from node.home import init_home, load_genesis
    from node.keys import read_key_info
    from node.random_source import SystemRandom

    document = None if genesis is None else load_genesis(genesis)
    passphrase = read_passphrase(passphrase_file)
    if role is None:
        role = Role.MINER if document is None else Role.JOINER
    config = parse_config(
        {
            "role": role.value,
            "p2p": {"host": host, "port": port},
            "rpc": {
                "host": rpc_host,
                "port": rpc_port,
                "tls_certificate": None if tls_certificate is None else tls_certificate.resolve(),
                "tls_key": None if tls_key is None else tls_key.resolve(),
                "insecure": insecure,
            },
        }
    )
    made = init_home(
        home_directory(home), config, SystemRandom(), genesis=document, passphrase=passphrase
    )
    miner_key = read_key_info(made.miner_key).public
    node_key = read_key_info(made.node_key).public
    fields = {
        "home": str(made.path),
        "chain": None if document is None else document.chain_id,
        "miner_id": address_of(miner_key).hex(),
        "miner_key": miner_key.hex(),
        "node_id": address_of(node_key).hex(),
        "node_key": node_key.hex(),
    }
    if as_json:
        show_json(fields)
        return
    show_fields(fields)
    if document is None:
        show_line(f"once there is a genesis.json with these keys, copy it to {made.genesis}")
    show_line(f"start it: securenet node run --home {made.path}")

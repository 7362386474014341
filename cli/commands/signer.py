"""``securenet signer``: a process of its own that has a miner's key."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from chain.types import HEIGHT_MAX, Height, PublicKey
from cli.arguments import home_directory
from cli.errors import BadInput
from cli.options import AsJson, PassphraseFile
from cli.render import show_fields, show_json, show_line

app = typer.Typer(help="A process of its own that has a miner's key.", no_args_is_help=True)

SignerDir = Annotated[Path, typer.Option("--home", metavar="DIR", help="Directory of the signer.")]


@app.command()
def run(home: SignerDir, passphrase_file: PassphraseFile = None, as_json: AsJson = False) -> None:
    """Run a signer until Ctrl-C or SIGTERM; its log goes to stderr.

    With --json the log is one JSON object a line, whatever signer.toml says.

    Example: securenet signer run --home signer0
    """
    from cli.key_files import read_passphrase
    from node.logs import configure_logs
    from node.signer.home import SignerHome
    from node.signer.process import run_signer

    path = home_directory(home)
    settings = SignerHome(path).load_settings().log
    configure_logs(settings.model_copy(update={"format": "json"}) if as_json else settings)
    asyncio.run(run_signer(path, passphrase=read_passphrase(passphrase_file)))


@app.command()
def init(
    home: SignerDir,
    node: Annotated[
        Path, typer.Option("--from", metavar="DIR", help="Home of the miner's node, stopped.")
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address on which nodes are met; keep it private.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65_535, help="Port on which nodes are met.")
    ] = 26_758,
    also: Annotated[
        list[str] | None,
        typer.Option("--node", metavar="KEY", help="Public key of a further node that may ask."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the directory of a signer from the home of a miner's node; removes nothing there.

    It gets copies of the miner's keys, and what the node remembers to have signed.

    Example: securenet signer init --home signer0 --from node0
    """
    from cli.key_files import read_passphrase
    from node.home import Home as NodeHome
    from node.keys import read_key_info
    from node.random_source import SystemRandom
    from node.signer.home import init_signer

    source = NodeHome(home_directory(node))
    passphrase = read_passphrase(passphrase_file)
    first = read_key_info(source.node_key).public
    path = home_directory(home)
    key = init_signer(
        path,
        source,
        SystemRandom(),
        host=host,
        port=port,
        nodes=[first, *map(_parse_key, also or [])],
        passphrase=passphrase,
    )
    fields = {"home": str(path), "signer_key": key.hex(), "remote": f"{host}:{port}"}
    if as_json:
        show_json(fields)
        return
    show_fields(fields)
    show_line(f"start it: securenet signer run --home {path}")
    show_line(
        f'then put remote = "{host}:{port}" and remote_key = "{key.hex()}" under [signer] in '
        f"{source.config}, and move {source.miner_key} away: the node refuses to have both"
    )


@app.command()
def floor(
    home: SignerDir,
    height: Annotated[
        int, typer.Option("--height", min=0, max=HEIGHT_MAX, help="Nothing is signed below it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Let a stopped signer that has lost its memory sign again, where no node can tell it a floor.

    docs/operating.md, section Recovery, says when, and what it risks.

    Example: securenet signer floor --home signer0 --height 1201
    """
    from node.random_source import SystemRandom
    from node.signer.home import set_floor

    if not set_floor(home_directory(home), Height(height), SystemRandom()):
        raise BadInput(
            "this signer remembers what it signed", "run it; it needs no floor, and takes none"
        )
    document = {"home": str(home_directory(home)), "floor": height}
    if as_json:
        show_json(document)
    else:
        show_fields(document)


def _parse_key(text: str) -> PublicKey:
    from chain.crypto import check_public_key
    from chain.errors import InvalidKey

    try:
        return check_public_key(PublicKey(bytes.fromhex(text)))
    except (InvalidKey, ValueError) as error:
        raise BadInput(f"{text}: {error}", "give a public node key, 64 hex digits") from error

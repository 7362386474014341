"""``securenet node``: one node on this machine."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.types import HEIGHT_MAX, Address
from cli.arguments import expand_home, home_directory, parse_digest, require_home
from cli.client import ask
from cli.errors import AlreadyThere, BadInput
from cli.options import DEFAULT_HOME, DEFAULT_RPC, AsJson, Home, PassphraseFile, Rpc
from cli.progress import Progress
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
    from node.numpy_threads import NUMPY_THREADS

    # Before anything below loads numpy.
    os.environ.update(NUMPY_THREADS)

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
    """Show what lies in the home of a node that does not run: chain, height, keys, signer.

    Example: securenet node inspect --home node0 --json
    """
    document = _inspect(home_directory(home))
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command()
def rollback(
    to: Annotated[
        int, typer.Option("--to", min=0, max=HEIGHT_MAX, metavar="HEIGHT", help="The last block.")
    ],
    home: Home = Path(DEFAULT_HOME),
    as_json: AsJson = False,
) -> None:
    """Take the last blocks of a stopped node back; it fetches them again when it runs.

    What the node has signed is not taken back: it signs nothing until its peers have brought it to
    where it was. Interrupted, it goes on when called again.

    Example: securenet node rollback --home node0 --to 1200
    """
    from node.stopped import open_stopped
    from node.storage.rollback import roll_back

    path = home_directory(home)
    require_home(path)
    with open_stopped(path) as node:
        chain = node.chain()
        before = chain.height
        if to > before:
            raise BadInput(f"there is no block {to}; the last one is {before}", "give a lower one")
        with Progress().bar("rollback", before - to) as bar:
            roll_back(node.store, chain, to, progress=lambda height: bar.advance())
        header = node.chain().tip.header
        document = {
            "home": str(path),
            "from_height": before,
            "height": header.height,
            "block_hash": header.hash.hex(),
            "state_root": header.state_root.hex(),
        }
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command()
def snapshot(
    home: Home = Path(DEFAULT_HOME),
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default snapshots are listed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the state of a stopped node, with what a node needs to start from it, into a file.

    Without --out it lists the snapshots which the node has made for its peers.

    Example: securenet node snapshot --home node0 --out node0.snapshot
    """
    from node.snapshot_file import write_snapshot
    from node.stopped import open_stopped
    from node.storage.snapshots import SnapshotStore

    path = home_directory(home)
    require_home(path)
    with open_stopped(path) as node:
        chain = node.chain()
        heights = SnapshotStore(node.store, keep=1).heights()
        document: dict[str, Any] = {"home": str(path), "snapshots": list(heights)}
        if out is not None:
            if not chain.height:
                raise BadInput("there is no block yet to make a snapshot of", "run the node first")
            document = {
                "file": str(out),
                "size_bytes": write_snapshot(chain, out),
                "height": chain.height,
                "block_hash": chain.tip.header.hash.hex(),
            }
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command()
def restore(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Written by securenet node snapshot."),
    ],
    trust: Annotated[
        str, typer.Option(metavar="HASH", help="The hash of its block, from somebody you trust.")
    ],
    home: Home = Path(DEFAULT_HOME),
    as_json: AsJson = False,
) -> None:
    """Start an empty node from a snapshot in a file; every part of it is verified.

    Example: securenet node restore node0.snapshot --trust 9f… --home node1
    """
    from node.home import Home as NodeHome
    from node.snapshot_file import check_snapshot, restore_snapshot
    from node.stopped import open_stopped

    path = home_directory(home)
    require_home(path)
    trusted = parse_digest(trust, "hash")
    genesis = NodeHome(path).load_genesis()
    height = check_snapshot(file, genesis=genesis, trusted=trusted)
    with open_stopped(path, create=True) as node:
        if node.chain().height > 0:
            raise AlreadyThere(NodeHome(path).chain)
        restore_snapshot(file, node.store, genesis, trusted=trusted)
        chain = node.chain()
        document = {
            "home": str(path),
            "height": height,
            "block_hash": chain.tip.header.hash.hex(),
            "state_root": chain.tip.header.state_root.hex(),
            "first_block": chain.first_block(),
        }
    if as_json:
        show_json(document)
    else:
        show_fields(document)


@app.command()
def reset(
    home: Home = Path(DEFAULT_HOME),
    signer_floor: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=HEIGHT_MAX - 1,
            metavar="HEIGHT",
            help="Sign above this height at once; see docs/operating.md for what it risks.",
        ),
    ] = None,
    keep_chain: Annotated[
        bool, typer.Option("--keep-chain", help="Remove the signer's memory alone.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the chain and the signer's memory of a stopped node; keys and configuration stay.

    It fetches the chain from its peers when it runs. A miner then signs nothing until two heights
    above what they tell, unless a floor is given.

    Example: securenet node reset --home node0 --yes
    """
    from node.home import Home as NodeHome
    from node.random_source import SystemRandom
    from node.reset import reset_home

    path = home_directory(home)
    require_home(path)
    NodeHome(path).load_config()
    what = "the signer's memory" if keep_chain else "the chain"
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise BadInput(f"{what} in {path} would be removed", "say so with --yes")
        typer.confirm(f"remove {what} in {path}?", abort=True, err=True)
    reset_home(path, signer_floor=signer_floor, keeps_chain=keep_chain, random=SystemRandom())
    document = {"home": str(path), "signer_floor": signer_floor}
    if as_json:
        show_json(document)
    else:
        show_fields(document)


def _inspect(path: Path) -> dict[str, Any]:
    from chain.crypto import address_of
    from node.home import Home as NodeHome
    from node.keys import read_key_info

    home = NodeHome(path)
    require_home(path)
    config, genesis = home.load_config(), home.load_genesis()
    node = read_key_info(home.node_key)
    is_encrypted = node.is_encrypted
    if config.signer.remote is None:
        miner = read_key_info(home.miner_key)
        miner_id: Address | None = address_of(miner.public)
        is_encrypted = miner.is_encrypted
        is_founder = any(first.key == miner.public for first in genesis.miners)
    else:
        miner_id = config.miner_of(node.public, genesis)
        is_founder = any(address_of(first.key) == miner_id for first in genesis.miners)
    return {
        "home": str(path),
        "role": config.role,
        "chain_id": genesis.chain_id,
        "genesis_hash": genesis.hash.hex(),
        "miner_id": None if miner_id is None else miner_id.hex(),
        "first_miner": is_founder,
        "node_id": address_of(node.public).hex(),
        "keys_encrypted": is_encrypted,
        "remote_signer": config.signer.remote,
        "p2p": f"{config.p2p.host}:{config.p2p.port}",
        "rpc": f"{config.rpc.host}:{config.rpc.port}",
        **_inspect_chain(path),
        **_inspect_signer(home.log),
    }


def _inspect_chain(path: Path) -> dict[str, Any]:
    from node.home import Home as NodeHome
    from node.stopped import open_stopped
    from node.storage.rollback import lowest_height
    from node.storage.schema import KEPT_APART

    if not NodeHome(path).chain.is_dir():
        return {"height": None, "block_hash": None, "first_heights": None, "lowest_rollback": None}
    with open_stopped(path) as node:
        chain = node.chain()
        return {
            "height": chain.height,
            "block_hash": chain.tip.header.hash.hex(),
            "first_heights": {name: chain.first(what) for name, what in KEPT_APART.items()},
            "lowest_rollback": lowest_height(chain),
        }


def _inspect_signer(log: Path) -> dict[str, Any]:
    """Return what the consensus log remembers: above what this miner may sign."""
    from node.stopped import signer_state

    state = signer_state(log)
    if state is None:
        return {"signer": "no log: this miner has lost its memory"}
    if state.floor is None:
        return {"signer": f"memory lost, signatures seen up to height {state.lost_height}"}
    last = state.messages[-1] if state.messages else None
    return {
        "signer": "whole",
        "signer_floor": state.floor,
        "signer_last": None
        if last is None
        else {"height": last.height, "round": last.round, "message": last.name},
    }

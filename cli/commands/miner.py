"""``securenet miner``: who decides, and how that is changed."""

from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from chain.crypto import SigningKey
from chain.errors import DecodeError
from chain.genesis import Genesis
from chain.kinds.miners import (
    CHANGE,
    AddMiner,
    MembershipChange,
    MinerPropose,
    MoveMiner,
    RemoveMiner,
    ReplaceKeys,
    RestoreMiner,
    anchor_height,
    sign_acceptance,
    sign_replacement,
)
from chain.kinds.vote import MinerVote
from chain.schema import Record
from chain.types import Digest, Height, Signature
from cli.arguments import parse_address, parse_digest, read_json
from cli.client import Client, Document, ask
from cli.errors import BadInput, NotInSync
from cli.key_files import open_key
from cli.listing import Columns, show_list
from cli.options import DEFAULT_RPC, AsJson, Limit, MinerKey, PassphraseFile, Rpc, Wait
from cli.render import show_json
from cli.sending import send_as_miner
from cli.signing import find_miner
from node.clock import SystemClock

app = typer.Typer(help="The miners, their proposals and votes.", no_args_is_help=True)

_ADD: Final = CHANGE.records["add"]
_REPLACE: Final = CHANGE.records["replace_keys"]
_DAY_MS: Final = 24 * 3_600_000


@app.command("list")
def list_miners(limit: Limit = 100, rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """List the miners with their state and where their nodes are reached; why, if one is demoted.

    Example: securenet miner list
    """
    columns: Columns = {
        "index": itemgetter("index"),
        "id": itemgetter("id"),
        "name": itemgetter("name"),
        "status": itemgetter("status"),
        "address": lambda m: f"{m['host']}:{m['port']}",
        "false alarms": _false_alarms_of,
        "why": _reason_of,
    }
    show_list(rpc, "/v1/miners", columns, limit=limit, as_json=as_json, empty="no miners")


@app.command()
def accept(
    key: MinerKey,
    node_key: Annotated[
        Path, typer.Option("--node-key", metavar="FILE", help="Key file of the candidate's node.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the miner, for people.")],
    host: Annotated[str, typer.Option("--host", help="Where its node is reached.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port of its P2P.")],
    valid_days: Annotated[
        int,
        typer.Option(
            "--valid-days", min=1, max=3_650, help="How long from now it may be voted on and used."
        ),
    ] = 30,
    passphrase_file: PassphraseFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Print the acceptance by which a candidate agrees to become a miner, for miner propose --add.

    Ask the candidate's own node: it has to be in sync, and the acceptance shows how far it is.
    It ends after --valid-days: a miner that leaves later is not added back by it.

    Example: securenet miner accept --key miner.json --node-key node.json --name m5 \
--host 10.0.0.5 --port 26756 > m5.json
    """
    del as_json  # it is JSON in any case
    candidate = open_key(key, passphrase_file)
    node = open_key(node_key, passphrase_file)
    genesis, shown, block_hash = ask(rpc, _shown_block)
    valid_until_ms = SystemClock().wall_ms() + valid_days * _DAY_MS
    change = AddMiner(
        name=name,
        key=candidate.public,
        node_key=node.public,
        host=host,
        port=port,
        height=shown,
        block_hash=block_hash,
        valid_until_ms=valid_until_ms,
        acceptance=sign_acceptance(
            genesis.hash,
            candidate,
            node.public,
            height=shown,
            block_hash=block_hash,
            valid_until_ms=valid_until_ms,
        ),
    )
    rendered = _ADD.render(change)
    _ADD.parse(rendered, "acceptance")  # what no node would take is told to the candidate
    show_json(rendered)


@app.command("replace-keys")
def replace_keys(
    key: MinerKey,
    node_key: Annotated[
        Path, typer.Option("--node-key", metavar="FILE", help="Key file of the node as it will be.")
    ],
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", metavar="FILE", help="The new key; else --key stays."),
    ] = None,
    valid_days: Annotated[
        int, typer.Option("--valid-days", min=1, max=3_650, help="How long it may be voted on.")
    ] = 30,
    passphrase_file: PassphraseFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Print what a miner signs, with old and new keys, to have its keys replaced by a vote.

    The miner keeps its id and its past. Hand the file to miner propose --replace-keys.

    Example: securenet miner replace-keys --key miner.json --new-key miner.next.json \
--node-key node.json > replacement.json
    """
    del as_json  # it is JSON in any case
    old = open_key(key, passphrase_file)
    new = old if new_key is None else open_key(new_key, passphrase_file)
    node = open_key(node_key, passphrase_file)

    async def question(client: Client) -> tuple[Genesis, Document | None]:
        return await client.genesis(), await find_miner(client, old.public)

    genesis, known = ask(rpc, question)
    if known is None:
        raise BadInput(f"{key} is not the key of a miner", "see securenet miner list")
    miner = parse_address(known["id"], "miner id")
    valid_until_ms = SystemClock().wall_ms() + valid_days * _DAY_MS

    def sign(signer: SigningKey) -> Signature:
        return sign_replacement(
            genesis.hash,
            miner,
            signer,
            key=new.public,
            node_key=node.public,
            valid_until_ms=valid_until_ms,
        )

    change = ReplaceKeys(
        miner=miner,
        key=new.public,
        node_key=node.public,
        valid_until_ms=valid_until_ms,
        by_old=sign(old),
        by_new=sign(new),
        by_node=sign(node),
    )
    show_json(_REPLACE.render(change))


@app.command()
def propose(
    key: MinerKey,
    add: Annotated[
        Path | None,
        typer.Option("--add", metavar="FILE", help="Add the candidate of this acceptance."),
    ] = None,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="ID", help="Remove this miner.")
    ] = None,
    restore: Annotated[
        str | None, typer.Option("--restore", metavar="ID", help="Restore this demoted miner.")
    ] = None,
    move: Annotated[
        str | None,
        typer.Option("--move", metavar="ID", help="Change where this miner's node is reached."),
    ] = None,
    replacement: Annotated[
        Path | None,
        typer.Option("--replace-keys", metavar="FILE", help="Replace a miner's keys as it signed."),
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="With --move: the new host.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65_535, help="With --move: the new port.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Propose a change of the miners; the proposal's id is that of this transaction.

    Example: securenet miner propose --key miner.json --add m5.json
    """
    changes: list[MembershipChange] = []
    if add is not None:
        changes.append(_read_signed(_ADD, add, "securenet miner accept"))
    if replacement is not None:
        changes.append(_read_signed(_REPLACE, replacement, "securenet miner replace-keys"))
    if remove is not None:
        changes.append(RemoveMiner(miner=parse_address(remove, "miner id")))
    if restore is not None:
        changes.append(RestoreMiner(miner=parse_address(restore, "miner id")))
    if move is not None:
        if host is None or port is None:
            raise BadInput("--move needs the new address", "give --host and --port")
        changes.append(MoveMiner(miner=parse_address(move, "miner id"), host=host, port=port))
    if len(changes) != 1:
        raise BadInput(
            "a proposal holds one change",
            "give one of --add, --remove, --restore, --move and --replace-keys",
        )
    (change,) = changes
    signing = open_key(key, passphrase_file)
    body = MinerPropose(change=change)
    send_as_miner(rpc, signing, "miner.propose", body, wait=wait, as_json=as_json)


@app.command()
def vote(
    proposal: Annotated[str, typer.Argument(metavar="PROPOSAL", help="Id of the proposal.")],
    key: MinerKey,
    approve: Annotated[bool, typer.Option("--approve/--refuse", help="What to vote.")] = True,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Vote on a proposal; a quorum of the miners decides it.

    Example: securenet miner vote 7d20… --key miner.json --approve
    """
    body = MinerVote(proposal=parse_digest(proposal, "proposal id"), approve=approve)
    signing = open_key(key, passphrase_file)
    send_as_miner(rpc, signing, "miner.vote", body, wait=wait, as_json=as_json)


def _false_alarms_of(miner: Document) -> str:
    detector = miner["detector"]
    if detector is None:
        return ""
    return f"{detector['overruled'] + detector['released']} of {detector['judged']} flows"


def _reason_of(miner: Document) -> str:
    evidence = miner["evidence"]
    if miner["status"] != "demoted" or evidence is None:
        return ""
    return (
        f"signed two {evidence['type']}s at height {evidence['height']} round {evidence['round']}"
    )


async def _shown_block(client: Client) -> tuple[Genesis, Height, Digest]:
    """Return the chain and the block by which a candidate shows that its node is in sync.

    Raises
    ------
    NotInSync
        The node is not.
    """
    if not await client.is_ready():
        raise NotInSync(client.url)
    status = await client.status()
    height = anchor_height(status["height"])
    block = await client.block(height)
    return await client.genesis(), height, parse_digest(block["header"]["hash"], "block hash")


def _read_signed(form: Record[Any], path: Path, command: str) -> MembershipChange:
    try:
        change: MembershipChange = form.parse(read_json(path), "signed")
    except DecodeError as error:
        raise BadInput(f"{path}: {error}", f"the file is made with {command}") from error
    return change

"""``securenet fl join``: a participant of federated rounds."""

from math import inf
from pathlib import Path
from typing import Annotated

import typer

from chain.federated.records import FederatedRound, Member
from chain.types import Digest
from cli.arguments import expand_home, parse_digest
from cli.client import Client, ask
from cli.errors import BadInput, Missed
from cli.key_files import open_key
from cli.options import (
    DEFAULT_HOME,
    DEFAULT_RPC,
    AsJson,
    Home,
    Organisation,
    PassphraseFile,
    Rpc,
    SchemaFile,
    Trust,
)
from cli.progress import Progress
from cli.render import show_fields, show_json, show_json_line

app = typer.Typer()


@app.command()
def join(
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Key file of the device.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="PATH", help="Own rows: NSL-KDD, or with --schema a CSV file."
        ),
    ],
    home: Home = Path(DEFAULT_HOME),
    round_id: Annotated[
        str | None,
        typer.Option("--round", metavar="ROUND", help="This round; by default the next one."),
    ] = None,
    forever: Annotated[
        bool, typer.Option("--all", help="Take part in every round, until it is stopped.")
    ] = False,
    schema: SchemaFile = None,
    trust: Trust = None,
    rate: Annotated[
        float, typer.Option("--rate", min=1e-6, max=1e3, help="Step size of local training.")
    ] = 2.0,
    unmasked: Annotated[
        bool,
        typer.Option(
            "--unmasked", help="Take part where others can see the own update: the audit mode."
        ),
    ] = False,
    complain: Annotated[
        bool,
        typer.Option(
            "--complain", help="Name a member that hands out false shares; ends the own part."
        ),
    ] = False,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            metavar="SIGMA",
            min=0.01,
            max=1e6,
            help="Differential privacy: add noise of SIGMA times the length of the own update.",
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option("--delta", help="Chance with which the privacy may fail; for --noise."),
    ] = None,
    epsilon_max: Annotated[
        float | None,
        typer.Option(
            "--epsilon-max", min=0.0, help="What all rounds together may tell; for --noise."
        ),
    ] = None,
    noise_members: Annotated[
        int,
        typer.Option(
            "--noise-members", min=1, help="How many of a group you believe to add as much."
        ),
    ] = 1,
    organisation: Organisation = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="ID", help="Needed once its key was replaced."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Train on own data in a federated round; nothing leaves but a masked update.

    Rounds that mask no updates, or weigh one participant more than four times another, or start
    from a base from which the device has sent an update, are passed over without --unmasked. With
    --noise a ledger in --home counts what all rounds together have told of the own rows; securenet
    fl status --home shows it.

    May be killed and started again at any moment, with the same --home. Ends with 0 when the round
    is finished. Without --trust the node is believed: ask one of your own organisation.

    Example: securenet fl join --key gateway.json --data flows.txt
    """
    from cli.federated.follow import Gateway
    from cli.federated.memory import MemoryStore
    from cli.federated.participant import member_of
    from cli.federated.privacy import Privacy, ledger_path
    from cli.federated.shard import Shard
    from cli.signing import find_device_sender
    from node.random_source import SystemRandom
    from node.storage.lock import FileLock

    if forever and round_id is not None:
        raise BadInput("--all and --round are two things", "give one of them")
    chosen = None if round_id is None else parse_digest(round_id, "round id")
    trusted = None if trust is None else parse_digest(trust, "hash")
    if not data.exists():
        raise BadInput(f"there is no {data}", "name the file of your rows with --data")
    if noise is None and (delta, epsilon_max, noise_members) != (None, None, 1):
        raise BadInput("privacy is asked for and no noise is given", "say how much with --noise")
    if noise is not None and (delta is None or not 0 < delta < 1):
        raise BadInput(
            "--noise needs a --delta between 0 and 1",
            "take 0.00001, or less with many participants",
        )
    signing = open_key(key, passphrase_file)
    store = MemoryStore(expand_home(home))

    async def question(client: Client) -> FederatedRound:
        sender = await find_device_sender(client, signing, organisation, device)
        path = ledger_path(store.folder, sender.address)
        privacy = None
        if noise is not None and delta is not None:
            privacy = Privacy(
                store=store,
                device=sender.address,
                multiplier=noise,
                members=noise_members,
                delta=delta,
                epsilon_max=inf if epsilon_max is None else epsilon_max,
            )
        elif path.exists():
            raise BadInput(
                f"{path} counts what was told of these rows, and without noise all would be told",
                "give --noise and --delta as before, or move the ledger away",
            )

        def tell(id: Digest, over: FederatedRound) -> None:
            outcome = _outcome(id, over, member_of(over, sender.address))
            if not as_json:
                show_fields(outcome)
            elif forever:
                show_json_line(outcome)
            else:
                show_json(outcome)

        gateway = Gateway(
            client,
            sender,
            trust=trusted,
            shard=Shard(data, schema, client=client, rate=rate, random=SystemRandom()),
            store=store,
            progress=Progress(),
            tell=tell,
            complains=complain,
            shows=unmasked,
            privacy=privacy,
        )
        return await gateway.run(chosen, forever=forever)

    with FileLock(store.folder / "lock", guards=store.folder):
        over = ask(rpc, question)
    if over.phase != "finished":
        raise Missed(
            f"the federated round is {over.phase}: {over.reason or 'by its opener'}",
            "wait for another, or ask its opener",
        )


def _outcome(id: Digest, over: FederatedRound, member: Member) -> dict[str, str | None]:
    return {
        "round": id.hex(),
        "phase": over.phase,
        "device": member.device.hex(),
        "part": "void group" if member.group in over.void else member.status,
        "update": None if member.update is None else member.update.hex(),
        "aggregate": None if over.aggregate is None else over.aggregate.hex(),
        "reason": over.reason,
    }

"""``securenet fl join``: a participant of federated rounds."""

from math import inf
from pathlib import Path
from typing import Annotated

import typer

from chain.federated.records import FederatedRound, Member
from chain.types import Digest
from cli.arguments import home_directory, parse_digest
from cli.client import Client, ask
from cli.errors import BadInput, HomeTaken, Missed
from cli.key_files import open_key
from cli.options import (
    DEFAULT_HOME,
    DEFAULT_RPC,
    AsJson,
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
    home: Annotated[
        Path,
        typer.Option(
            "--home",
            envvar="SECURENET_HOME",
            metavar="DIR",
            help="Where the participant keeps its part in rounds, in federated/.",
        ),
    ] = Path(DEFAULT_HOME),
    round_id: Annotated[
        str | None,
        typer.Option("--round", metavar="ROUND", help="This round; by default the next."),
    ] = None,
    forever: Annotated[
        bool, typer.Option("--all", help="Take part in all rounds that come, until stopped.")
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

    Sees one round through, and ends with 0 when it is finished: that of --round, or the one that it
    began and did not end, or the next that invites the device. Others are left alone.

    Rounds that mask no updates, or weigh one participant more than four times another, or start
    from a base from which the device has sent an update, are passed over without --unmasked. With
    --noise a ledger in --home counts what all rounds together have told of the own rows; securenet
    fl status --home shows it.

    May be killed and started again at any moment, with the same --home; the noise of a round stays
    as it was joined. Without --trust the node is believed: ask one of your own organisation.

    Example: securenet fl join --key gateway.json --data flows.txt
    """
    from cli.federated.follow import Gateway
    from cli.federated.memory import MemoryStore, Promise
    from cli.federated.participant import member_of
    from cli.federated.privacy import check_asked
    from cli.federated.shard import Shard, check_rows
    from cli.signing import find_device_sender
    from node.errors import StoreLocked
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
    promise = None
    if noise is not None:
        if delta is None or not 0 < delta < 1:
            raise BadInput(
                "--noise needs a --delta between 0 and 1",
                "take 0.00001, or less with many participants",
            )
        promise = Promise(
            noise=noise,
            members=noise_members,
            delta=delta,
            epsilon_max=None if epsilon_max == inf else epsilon_max,
        )
    signing = open_key(key, passphrase_file)
    check_rows(data, schema)
    store = MemoryStore(home_directory(home))

    async def question(client: Client) -> FederatedRound:
        sender = await find_device_sender(client, signing, organisation, device)
        if not store.unfinished(sender.address):
            check_asked(store, sender.address, promise)

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
            promise=promise,
        )
        return await gateway.run(chosen, forever=forever)

    try:
        lock = FileLock(store.folder / "lock")
    except StoreLocked as error:
        raise HomeTaken(store.folder, error.holder) from error
    with lock:
        over = ask(rpc, question)
    if over.phase != "finished":
        raise Missed(
            f"the federated round is {over.phase}: {over.reason or 'by its opener'}",
            "nothing of it is used; start fl join again, without --round, to wait for the next",
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

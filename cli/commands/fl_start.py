"""``securenet fl start`` and ``abort``: the coordinator's part in a federated round."""

from typing import Annotated

import typer

from chain.federated.records import ROUND_PARAMETERS_MAX
from chain.kinds.rounds import RoundAbort
from chain.types import Digest
from cli.arguments import parse_digest
from cli.client import Client, Document, ask
from cli.commands.fl_status import follow_round, waits
from cli.errors import CliError, Refused
from cli.federated.opening import (
    CLIP,
    DEADLINES,
    SCALE_BITS,
    STEPS,
    RoundPlan,
    opening,
    used_before,
)
from cli.federated.waits import UNNAMED
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
from cli.render import show_fields, show_json, show_line, show_warning
from cli.sending import send_as_registrar
from cli.signing import registrar_sender, submit

app = typer.Typer()


@app.command()
def start(
    key: RegistrarKey,
    base: Annotated[
        str,
        typer.Option(
            "--base", metavar="MODEL", help="The linear model to go on from: a name, digest, file."
        ),
    ],
    participants: Annotated[
        str | None,
        typer.Option(
            "--participants",
            metavar="ID[:WEIGHT[:STEPS]],…",
            help="Whom to invite; by default all active devices with the role participant.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the round, for people.")] = UNNAMED,
    group_size: Annotated[
        int | None,
        typer.Option(
            "--group-size",
            min=1,
            help="Of masked groups, 3 or more; 1 is the audit mode, which hides nothing.",
        ),
    ] = None,
    groups_min: Annotated[
        int | None, typer.Option("--groups-min", min=1, help="With fewer groups left it fails.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option("--rule", metavar="WORD", help="mean, median, trimmed_mean, multi_krum."),
    ] = None,
    tolerated: Annotated[
        int | None, typer.Option("--tolerated", min=0, help="Spoiled groups to withstand.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Local steps of each.")] = STEPS,
    clip: Annotated[
        float, typer.Option("--clip", min=0.0, help="Bound on the norm of an update of one step.")
    ] = CLIP,
    scale_bits: Annotated[
        int, typer.Option("--scale-bits", min=0, max=48, help="Bits behind the point.")
    ] = SCALE_BITS,
    deadlines: Annotated[
        str,
        typer.Option(
            "--deadlines",
            metavar="N,N,N,N,N,N",
            help="Heights for join, share, commit, attest, reveal and aggregate, each at most.",
        ),
    ] = DEADLINES,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show how it goes until it is over.")
    ] = False,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Open a federated round: invite participants to train a model on data that stay with them.

    The id of the round is that of its transaction. From 3 groups on the default rule is the median,
    which withstands one spoiled group; with fewer it is the mean, which withstands none.

    A base that is not bundled is handed in once the round is open; --no-wait waits for that then.

    Example: securenet fl start --key registrar.json --base nsl-kdd-linear --follow
    """
    from cli.federated.shard import linear_of
    from cli.models import find_model
    from ml_validator.bundled import bundled_name
    from ml_validator.federated.linear_update import parameter_count

    artifact = find_model(base, rpc=rpc)[1]
    count = parameter_count(linear_of(artifact))
    plan = RoundPlan(
        name=name,
        participants=participants,
        group_size=group_size,
        groups_min=groups_min,
        rule=rule,
        tolerated=tolerated,
        steps=steps,
        clip=clip,
        scale_bits=scale_bits,
        deadlines=deadlines,
    )
    signing = open_key(key, passphrase_file)
    # What the chain names is taken from any machine and fetched by all, so it goes in behind that.
    hands_in = bundled_name(artifact.digest) is None

    async def question(client: Client) -> Document:
        body = await opening(client, plan, base=artifact.digest, parameter_count=count)
        if body.terms.is_masked and (used := await used_before(client, body)):
            show_warning(
                f"{used} of {len(body.participants)} invited have sent an update from this base, "
                "or are in a round that asks for one, and pass this one over without --unmasked "
                "or --noise: publish the outcome (securenet fl publish) and start from that"
            )
        sender = registrar_sender(await client.genesis(), signing, organisation)
        try:
            return await submit(client, sender.sign("round.open", body), wait=wait or hands_in)
        except Refused as refusal:
            updates = count * len(body.participants)
            if refusal.code == "limit_reached" and updates <= ROUND_PARAMETERS_MAX:
                refusal.advice = (
                    "wait until one is over (securenet fl status), or end one of your own: "
                    "securenet fl abort ROUND"
                )
            raise

    answer = ask(rpc, question)
    round_id = Digest(bytes.fromhex(answer["id"]))
    is_document = as_json and not follow
    if is_document:
        show_json(answer)
    else:
        shown = {"round": answer["id"], "status": answer["status"], "height": answer.get("height")}
        show_fields(shown)
    if hands_in:
        _hand_in(rpc, artifact.digest, artifact.data)
    if wait and not is_document:
        show_line(waits(ask(rpc, lambda client: client.get(f"/v1/rounds/{answer['id']}"))))
    if follow:
        follow_round(rpc, round_id, as_json=as_json)


def _hand_in(rpc: str, base: Digest, data: bytes) -> None:
    """Hand the base of a round in that is open already; raises `CliError`, which says so."""
    try:
        ask(rpc, lambda client: client.put_blob(base.hex(), data))
    except CliError as error:
        error.advice = "the round is open and waits for its base: securenet blob put FILE"
        raise


@app.command()
def abort(
    round_id: Annotated[str, typer.Argument(metavar="ROUND", help="An open federated round.")],
    key: RegistrarKey,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """End a federated round that the organisation has opened; nothing of it is used.

    Example: securenet fl abort 5c1d… --key registrar.json
    """
    body = RoundAbort(round=parse_digest(round_id, "round id"))
    signing = open_key(key, passphrase_file)
    send_as_registrar(rpc, signing, organisation, "round.abort", body, wait=wait, as_json=as_json)

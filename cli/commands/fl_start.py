"""``securenet fl start`` and ``abort``: the coordinator's part in a federated round."""

from collections.abc import Sequence
from math import ldexp
from typing import Annotated, Final

import typer

from chain.federated.records import (
    MASKED_GROUP_SIZE_MIN,
    OPEN_PHASES,
    PARTICIPANTS_MAX,
    Deadlines,
    Terms,
)
from chain.kinds.participation import PARTICIPANT
from chain.kinds.rounds import Invitation, RoundAbort, RoundOpen, groups_needed
from chain.types import Digest, Height
from cli.arguments import parse_address, parse_digest
from cli.client import Client, Document, ask
from cli.commands.fl_status import follow_round, waits_for
from cli.errors import BadInput
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
from cli.render import show_fields, show_json, show_line
from cli.sending import send
from cli.signing import registrar_sender, submit

app = typer.Typer()

GROUP_SIZE: Final = 10
"""Of masked groups, where there are so many participants: 7 of them have to collude."""
STEPS: Final = 40
DEADLINES: Final = "300,60,600,120,120,120"
"""Heights for each phase; an idle chain makes one a second while a round is open."""
DEVICES_MAX: Final = 10_000
SUM_MAX: Final = 2**62

_PHASES: Final = [phase for phase in OPEN_PHASES if phase != "draw"]


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
    name: Annotated[str, typer.Option("--name", help="Name of the round, for people.")] = "round",
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
    ] = 1.0,
    scale_bits: Annotated[
        int, typer.Option("--scale-bits", min=0, max=48, help="Bits behind the point.")
    ] = 32,
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

    Example: securenet fl start --key registrar.json --base nsl-kdd-linear --follow
    """
    from cli.federated.shard import linear_of
    from cli.models import find_model
    from ml_validator.federated.linear_update import parameter_count

    artifact = find_model(base, rpc=rpc)[1]
    model = linear_of(artifact)
    phases = _heights(deadlines)
    signing = open_key(key, passphrase_file)

    async def question(client: Client) -> Document:
        invited = (
            await _all_participants(client, steps)
            if participants is None
            else _invitations(participants, steps)
        )
        size = _group_size(group_size, len(invited))
        chosen, withstands = _rule(rule, tolerated, len(invited) // size)
        terms = Terms(
            name=name,
            base=artifact.digest,
            parameter_count=parameter_count(model),
            scale_bits=scale_bits,
            clip=_fixed_clip(clip, scale_bits, invited),
            group_size=size,
            groups_min=groups_min or groups_needed(chosen, withstands),
            rule=chosen,
            tolerated=withstands,
            deadlines=_deadlines((await client.status())["height"], phases),
        )
        sender = registrar_sender(await client.genesis(), signing, organisation)
        body = RoundOpen(terms=terms, participants=invited)
        return await submit(client, sender.sign("round.open", body), wait=wait)

    answer = ask(rpc, question)
    if as_json and not follow:
        show_json(answer)
        return
    round_id = Digest(bytes.fromhex(answer["id"]))
    show_fields({"round": answer["id"], "status": answer["status"], "height": answer.get("height")})
    if wait:
        show_line(waits_for(ask(rpc, lambda client: client.get(f"/v1/rounds/{answer['id']}"))))
    if follow:
        follow_round(rpc, round_id, as_json=as_json)


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
    send(
        rpc,
        lambda genesis: registrar_sender(genesis, signing, organisation).sign("round.abort", body),
        wait=wait,
        as_json=as_json,
    )


async def _all_participants(client: Client, steps: int) -> tuple[Invitation, ...]:
    devices = await client.pages("/v1/devices", limit=DEVICES_MAX, status="active")
    ids = [device["id"] for device in devices if PARTICIPANT in device["roles"]]
    return _invitations(",".join(ids), steps)


def _invitations(text: str, steps: int) -> tuple[Invitation, ...]:
    """Read ``ID[:WEIGHT[:STEPS]],…``, in the order that the chain asks for."""
    invited = {}
    for part in [part for part in text.split(",") if part]:
        id, *numbers = part.split(":")
        device = parse_address(id, "device id")
        try:
            weight, own_steps = [int(number) for number in numbers] + [1, steps][len(numbers) :]
        except ValueError as error:
            raise BadInput(f"{part[:100]!r} is no participant", "give ID:WEIGHT:STEPS") from error
        if device in invited:
            raise BadInput(f"participant {id} is given twice", "name each once")
        invited[device] = Invitation(device=device, weight=weight, steps=own_steps)
    if not 1 <= len(invited) <= PARTICIPANTS_MAX:
        raise BadInput(
            f"{len(invited)} participants, not 1 to {PARTICIPANTS_MAX}",
            "give devices the role: securenet device register --role participant",
        )
    return tuple(invited[device] for device in sorted(invited))


def _group_size(asked: int | None, count: int) -> int:
    if asked is not None:
        return asked
    if count < MASKED_GROUP_SIZE_MIN:
        raise BadInput(
            f"{count} participants hide nothing from each other",
            f"invite {MASKED_GROUP_SIZE_MIN} or more, or take --group-size 1, which hides nothing",
        )
    return min(GROUP_SIZE, count)


def _rule(rule: str | None, tolerated: int | None, groups: int) -> tuple[str, int]:
    """Return the rule and what it withstands: where nothing is said, what the groups allow."""
    chosen = rule or ("median" if groups >= groups_needed("median", 1) else "mean")
    if tolerated is not None:
        return chosen, tolerated
    is_enough = chosen != "mean" and groups >= groups_needed(chosen, 1)
    return chosen, 1 if is_enough else 0


def _fixed_clip(clip: float, scale_bits: int, invited: Sequence[Invitation]) -> int:
    """Return the bound in fixed point, where a sum of all updates stays within 62 bits."""
    fixed = round(ldexp(clip, scale_bits))
    weights = sum([invitation.weight for invitation in invited])
    if not 1 <= fixed <= SUM_MAX // max(weights, 1):
        raise BadInput(
            f"--clip {clip:g} with {scale_bits} bits and weights of {weights} leaves 62 bits",
            "take fewer --scale-bits, a smaller --clip or smaller weights",
        )
    return fixed


def _heights(text: str) -> list[int]:
    try:
        heights = [int(part) for part in text.split(",")]
    except ValueError:
        heights = []
    if len(heights) != len(_PHASES) or min(heights) < 1:
        raise BadInput(
            f"{text[:80]!r} are no deadlines",
            f"give heights for {', '.join(_PHASES)}, as {DEADLINES}",
        )
    return heights


def _deadlines(height: int, phases: Sequence[int]) -> Deadlines:
    """Return the last height of each phase, behind the block that will open the round."""
    last = height + 1
    found = {}
    for name, heights in zip(_PHASES, phases, strict=True):
        # The draw takes a block of its own, behind joining.
        last += heights + (name == "share")
        found[name] = Height(last)
    return Deadlines(**found)

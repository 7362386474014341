"""``securenet fl publish``: the outcome of a federated round as a model."""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import typer

from chain.federated.records import FederatedRound
from chain.types import Digest
from cli.arguments import parse_digest
from cli.client import Client, Document, ask
from cli.errors import BadInput, Missed
from cli.key_files import open_key
from cli.options import (
    DEFAULT_RPC,
    AsJson,
    Organisation,
    PassphraseFile,
    RegistrarKey,
    Rpc,
    SchemaFile,
    Trust,
    Wait,
)
from cli.progress import Progress
from cli.render import show_fields, show_json
from cli.sending import show_outcome

app = typer.Typer()

FALSE_ALARMS_PPM: Final = 20_000
EARLIER_MAX: Final = 64
"""The chain keeps no more closed rounds."""


class Optimiser(StrEnum):
    """How an aggregate moves the model."""

    FEDAVG = "fedavg"
    FEDADAM = "fedadam"


RATES: Final = {Optimiser.FEDAVG: 1.0, Optimiser.FEDADAM: 0.1}


@app.command()
def publish(
    round_id: Annotated[
        str, typer.Argument(metavar="ROUND", help="A federated round that is finished.")
    ],
    key: RegistrarKey,
    data: Annotated[
        Path,
        typer.Option("--data", metavar="PATH", help="Own rows, for the threshold: as for fl join."),
    ],
    schema: SchemaFile = None,
    optimiser: Annotated[
        Optimiser,
        typer.Option("--optimiser", help="fedadam also minds where --earlier rounds went."),
    ] = Optimiser.FEDAVG,
    earlier: Annotated[
        list[str] | None,
        typer.Option(
            "--earlier",
            metavar="ROUND",
            help="For fedadam, once for each: a round that made the base model, oldest first.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", min=0.0, help="How far to go; 1 with fedavg, 0.1 with fedadam by default."
        ),
    ] = None,
    false_alarms: Annotated[
        int,
        typer.Option(
            "--false-alarms", min=0, max=999_999, help="Of a million normal rows, so many at most."
        ),
    ] = FALSE_ALARMS_PPM,
    trust: Trust = None,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Add the aggregate to the base model, choose its threshold on own rows, and publish it.

    The aggregate is checked against the digest that the node shows, and with --trust proves. What
    --optimiser fedadam remembers of --earlier rounds comes from their aggregates, so anybody can do
    the same. Go on with securenet model activate.

    Example: securenet fl publish 5c1d… --key registrar.json --data flows.txt
    """
    from cli.federated.chain_port import RoundReader
    from cli.federated.shard import linear_of, read_labelled, rows_file
    from cli.models import fetch_blob, fetch_model
    from cli.publishing import publish_model
    from ml_validator import Artifact
    from ml_validator.errors import MalformedArtifact, NoThreshold
    from ml_validator.federated.outcome import Finished, calibrated, described, moved
    from ml_validator.federated.server_optimisers import FedAdam, FedAvg
    from ml_validator.nsl_kdd import file_digest

    ids = [parse_digest(text, "round id") for text in [*(earlier or []), round_id]]
    if optimiser is Optimiser.FEDAVG and len(ids) > 1:
        raise BadInput("fedavg minds no --earlier rounds", "leave them away, or take fedadam")
    if len(set(ids)) < len(ids) or len(ids) > EARLIER_MAX:
        raise BadInput(
            "a round is given twice, or more than the chain keeps",
            "give --earlier rounds once each",
        )
    trusted = None if trust is None else parse_digest(trust, "hash")
    signing = open_key(key, passphrase_file)

    async def fetch(client: Client) -> tuple[list[FederatedRound], Artifact, list[bytes]]:
        reader = RoundReader(client, trusted)
        rounds, aggregates = [], []
        for id in ids:
            found = await reader.find(id)
            if found.aggregate is None:
                raise _nothing_to_publish(id, found)
            rounds.append(found)
            size_max = found.terms.update_size
            aggregates.append(await fetch_blob(client, found.aggregate, size_max=size_max))
        return rounds, await fetch_model(client, rounds[-1].terms.base), aggregates

    rounds, base, aggregates = ask(rpc, fetch)
    if any(first.opened_height >= then.opened_height for first, then in pairwise(rounds)):
        raise BadInput(
            "the rounds are not in the order in which they were opened",
            "give --earlier rounds oldest first, and the one to publish last",
        )
    chosen = RATES[optimiser] if rate is None else rate
    id, found = ids[-1], rounds[-1]
    Progress().phase(f"reading {data}, choosing the threshold")
    records = list(read_labelled(data, schema, base))
    try:
        model = moved(
            linear_of(base),
            [
                Finished(
                    aggregate=aggregate, fraction_bits=found.terms.scale_bits, steps=_steps(found)
                )
                for found, aggregate in zip(rounds, aggregates, strict=True)
            ],
            optimiser=FedAvg(rate=chosen)
            if optimiser is Optimiser.FEDAVG
            else FedAdam(rate=chosen),
        )
        artifact = calibrated(model, base, records, false_alarms_ppm=false_alarms)
    except MalformedArtifact as error:
        raise _useless(
            f"the outcome is no model, its numbers are too large ({error})", chosen
        ) from error
    except NoThreshold as error:
        raise _useless(
            f"the model does not tell the rows of {data} apart: {error}", chosen
        ) from error
    file = rows_file(data)
    manifest = described(
        artifact,
        records,
        name=f"{found.terms.name}-{id.hex()[:8]}",
        command=_command(ids, optimiser, chosen),
        settings={"members": len(_steps(found)), "opened_height": found.opened_height},
        false_alarms_ppm=false_alarms,
        data={file.name: file_digest(file)},
    )

    async def question(client: Client) -> Document:
        return await publish_model(
            client, artifact, manifest, key=signing, organisation=organisation, wait=wait
        )

    answer = ask(rpc, question)
    _show(artifact.digest, manifest.measured["publisher's rows"], answer, as_json=as_json)


def _nothing_to_publish(id: Digest, found: FederatedRound) -> Missed:
    if found.is_open:
        advice = "wait until it is finished: securenet fl status ROUND --follow"
    else:
        advice = "nothing will come of it: open another (securenet fl start)"
    return Missed(f"federated round {id.hex()} is {found.phase}: there is no aggregate", advice)


def _useless(what: str, rate: float) -> BadInput:
    return BadInput(
        what, f"--rate {rate / 10:g}, higher --false-alarms, or another round with less noise"
    )


def _steps(found: FederatedRound) -> list[int]:
    """Return what the members whose updates count were asked for."""
    return [
        member.steps
        for member in found.members
        if member.status == "included" and member.group in found.groups
    ]


def _command(ids: Sequence[Digest], optimiser: Optimiser, rate: float) -> str:
    """Return how whoever has the chain makes the same model, but for the threshold."""
    earlier = "".join([f" --earlier {id.hex()}" for id in ids[:-1]])
    return (
        f"securenet fl publish {ids[-1].hex()} --optimiser {optimiser}{earlier} --rate {rate!r}"
        " --data DATA"
    )


def _show(model: Digest, measured: dict[str, int], answer: Document, *, as_json: bool) -> None:
    if as_json:
        show_json({"model": model.hex(), "measured": measured, "transaction": answer})
        return
    shown = {name: measured[f"{name}_ppm"] / 10_000 for name in ("accuracy", "precision", "recall")}
    percent = {f"{name}, own rows": f"{share:.2f} %" for name, share in shown.items()}
    show_fields({"model": model.hex()} | percent)
    show_outcome(answer, as_json=False, id_name="transaction")

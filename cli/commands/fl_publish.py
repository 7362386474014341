"""``securenet fl publish``: the outcome of a federated round as a model."""

from pathlib import Path
from typing import Annotated, Final

import typer

from chain.federated.records import FederatedRound
from chain.types import Digest
from cli.arguments import parse_digest
from cli.client import Client, Document, ask
from cli.errors import Missed
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
COMMAND: Final = "securenet fl publish ROUND --data DATA"


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
    rate: Annotated[
        float, typer.Option("--rate", min=0.0, help="How far to go where the participants went.")
    ] = 1.0,
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

    The aggregate is checked against the digest that the node shows, and with --trust proves. Go on
    with securenet model activate.

    Example: securenet fl publish 5c1d… --key registrar.json --data flows.txt
    """
    from cli.federated.follow import RoundReader
    from cli.federated.shard import linear_of, read_labelled
    from cli.models import fetch_blob, fetch_model
    from cli.publishing import publish_model
    from ml_validator import Artifact
    from ml_validator.federated.outcome import calibrated, described, moved
    from ml_validator.nsl_kdd import TRAIN_FILE, file_digest

    id = parse_digest(round_id, "round id")
    trusted = None if trust is None else parse_digest(trust, "hash")
    signing = open_key(key, passphrase_file)

    async def fetch(client: Client) -> tuple[FederatedRound, Artifact, bytes]:
        found = await RoundReader(client, trusted).find(id)
        if found.aggregate is None:
            raise Missed(
                f"federated round {id.hex()} is {found.phase}: there is no aggregate",
                "wait until it is finished: securenet fl status ROUND --follow",
            )
        base = await fetch_model(client, found.terms.base)
        aggregate = await fetch_blob(client, found.aggregate, size_max=found.terms.update_size)
        return found, base, aggregate

    found, base, aggregate = ask(rpc, fetch)
    steps = _steps(found)
    model = moved(
        linear_of(base),
        aggregate,
        fraction_bits=found.terms.scale_bits,
        steps=steps,
        rate=rate,
    )
    Progress().phase(f"reading {data}, choosing the threshold")
    records = list(read_labelled(data, schema, base))
    artifact = calibrated(model, base, records, false_alarms_ppm=false_alarms)
    file = data / TRAIN_FILE if data.is_dir() else data
    manifest = described(
        artifact,
        records,
        name=f"{found.terms.name}-{id.hex()[:8]}",
        command=COMMAND,
        settings={"members": len(steps), "opened_height": found.opened_height},
        false_alarms_ppm=false_alarms,
        data={file.name: file_digest(file)},
    )

    async def question(client: Client) -> Document:
        return await publish_model(
            client, artifact, manifest, key=signing, organisation=organisation, wait=wait
        )

    answer = ask(rpc, question)
    _show(artifact.digest, manifest.measured["publisher's rows"], answer, as_json=as_json)


def _steps(found: FederatedRound) -> list[int]:
    """Return what the members whose updates count were asked for."""
    return [
        member.steps
        for member in found.members
        if member.status == "included" and member.group in found.groups
    ]


def _show(model: Digest, measured: dict[str, int], answer: Document, *, as_json: bool) -> None:
    if as_json:
        show_json({"model": model.hex(), "measured": measured, "transaction": answer})
        return
    shown = {name: measured[f"{name}_ppm"] / 10_000 for name in ("accuracy", "precision", "recall")}
    percent = {f"{name}, own rows": f"{share:.2f} %" for name, share in shown.items()}
    show_fields({"model": model.hex()} | percent)
    show_outcome(answer, as_json=False)

"""``securenet model``: which model judges."""

from pathlib import Path
from typing import Annotated

import typer

from chain.kinds.models import ModelActivate
from cli.arguments import parse_digest, read_bytes
from cli.client import Client, Document, ask
from cli.commands import (
    model_adversary,
    model_bench,
    model_data,
    model_evaluate,
    model_export,
    model_features,
    model_report,
    model_sizes,
    model_train,
)
from cli.key_files import open_key
from cli.options import (
    DEFAULT_RPC,
    AsJson,
    Limit,
    MinerKey,
    Organisation,
    PassphraseFile,
    RegistrarKey,
    Rpc,
    Wait,
)
from cli.render import show_json, show_table
from cli.sending import send_as_miner, show_outcome

app = typer.Typer(help="The models that judge flows.", no_args_is_help=True)
app.add_typer(model_data.app, name="data")
app.add_typer(model_features.app)
app.add_typer(model_report.app)
app.add_typer(model_train.app)
app.add_typer(model_evaluate.app)
app.add_typer(model_bench.app)
app.add_typer(model_export.app)
app.add_typer(model_sizes.app)
app.add_typer(model_adversary.app)


@app.command("list")
def list_models(limit: Limit = 100, rpc: Rpc = DEFAULT_RPC, as_json: AsJson = False) -> None:
    """List the registered models: which judges, and how it stands at the node that is asked.

    Example: securenet model list
    """

    async def question(client: Client) -> tuple[list[Document], int]:
        models = await client.pages("/v1/models", limit=limit)
        return models, (await client.status())["height"]

    items, height = ask(rpc, question)
    if as_json:
        show_json(items)
        return
    rows = [[m["id"], m["name"], m["threshold_ppm"], _active(m, height), _here(m)] for m in items]
    show_table(["model", "name", "threshold ppm", "active", "here"], rows, empty="no models")


@app.command()
def publish(
    artifact: Annotated[Path, typer.Argument(metavar="FILE", help="The model, as safetensors.")],
    manifest: Annotated[
        Path, typer.Option("--manifest", metavar="FILE", help="The model's manifest.")
    ],
    key: RegistrarKey,
    organisation: Organisation = None,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Register a model and hand it in, so that every miner can fetch it by its digest.

    What is registered already is only handed in; so it is safe to publish again.

    Example: securenet model publish forest.safetensors --manifest forest.json --key registrar.json
    """
    from cli.publishing import publish_model
    from ml_validator import load_artifact, load_manifest

    model = load_artifact(read_bytes(artifact))
    described = load_manifest(read_bytes(manifest))
    described.check(model)
    signing = open_key(key, passphrase_file)

    async def question(client: Client) -> Document:
        return await publish_model(
            client, model, described, key=signing, organisation=organisation, wait=wait
        )

    show_outcome(ask(rpc, question), as_json=as_json)


@app.command()
def activate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Digest of a registered model.")],
    key: MinerKey,
    passphrase_file: PassphraseFile = None,
    wait: Wait = True,
    rpc: Rpc = DEFAULT_RPC,
    as_json: AsJson = False,
) -> None:
    """Propose that a registered model judges; the miners vote with miner vote.

    An earlier model is taken back to in the same way.

    Example: securenet model activate 5c1d… --key miner.json
    """
    body = ModelActivate(model=parse_digest(model, "model digest"))
    signing = open_key(key, passphrase_file)
    send_as_miner(rpc, signing, "model.activate", body, wait=wait, as_json=as_json)


def _active(model: Document, height: int) -> str:
    """Say whether a model judges the next block, or which will be its first."""
    if model["active"]:
        return "yes"
    from_height = model["active_from_height"]
    return f"from height {from_height}" if (from_height or 0) > height + 1 else "no"


def _here(model: Document) -> str:
    standing = model["here"]
    if standing is None:
        return "-"
    return f"{standing['state']}: {standing['reason']}" if standing["reason"] else standing["state"]

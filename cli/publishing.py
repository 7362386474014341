"""Publishing a model: registered on the chain, and handed in for every miner to fetch."""

from typing import Final

from chain.crypto import SigningKey
from chain.kinds.models import ModelRegister
from chain.types import Digest
from cli.client import Client, Document
from cli.errors import Missed, Refused
from cli.signing import registrar_sender, submit
from ml_validator import Artifact, Manifest
from ml_validator.errors import MisregisteredModel
from ml_validator.registration import Registration

MODELS_MAX: Final = 10_000


async def publish_model(
    client: Client,
    model: Artifact,
    manifest: Manifest,
    *,
    key: SigningKey,
    organisation: str | None,
    wait: bool,
) -> Document:
    """Register a model and hand it in with its manifest; one that is registered is handed in."""
    from cli.testnet.create import manifest_digest

    body = ModelRegister(
        model=model.digest,
        name=manifest.name,
        schema=model.schema.digest,
        threshold_ppm=model.threshold_ppm,
        size_bytes=len(model.data),
        manifest=manifest_digest(manifest),
    )
    sender = registrar_sender(await client.genesis(), key, organisation)
    try:
        outcome = await submit(client, sender.sign("model.register", body), wait=wait)
    except Refused as refusal:
        if refusal.code != "already_exists":
            raise
        await _check_same(client, model)
        # That transaction may be long forgotten, and another organisation's.
        outcome = {"id": None, "status": "registered before"}
    # Behind the registration: what the chain names is taken from any machine.
    await client.put_blob(body.model.hex(), model.data)
    await client.put_blob(body.manifest.hex(), manifest.to_json().encode())
    return outcome


async def _check_same(client: Client, model: Artifact) -> None:
    """Refuse to hand a model in that somebody has registered as what it is not."""
    known = await client.pages("/v1/models", limit=MODELS_MAX)
    for entry in known:
        if entry["id"] != model.digest.hex():
            continue
        try:
            Registration(
                model=model.digest,
                schema=Digest(bytes.fromhex(entry["schema"])),
                threshold_ppm=entry["threshold_ppm"],
                size_bytes=entry["size_bytes"],
            ).check(model)
        except MisregisteredModel as error:
            raise Missed(
                f"model {entry['id']} is registered as what it is not: {error}",
                "do not vote for it; publish a model with another digest",
            ) from error

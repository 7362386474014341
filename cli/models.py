"""Finding the model that an argument means."""

import re
from pathlib import Path

from chain.blobs import blob_digest
from chain.types import Digest
from cli.arguments import parse_digest, read_bytes
from cli.client import Client, ask
from cli.errors import BadInput, Missed
from ml_validator import Artifact, load_artifact
from ml_validator.artifact import ARTIFACT_SIZE_MAX
from ml_validator.bundled import BUNDLED_NAMES, bundled_model, bundled_name

_DIGEST = re.compile(r"[0-9a-f]{64}")


def find_model(text: str, *, rpc: str) -> tuple[str, Artifact]:
    """Return name and model for the name of a bundled one, a digest, or a file.

    A digest that is not bundled is asked of the node at `rpc`.

    Raises
    ------
    ModelError, CliError
        There is none, or what is there is no model.
    """
    if text in BUNDLED_NAMES:
        return text, bundled_model(text)[0]
    if not _DIGEST.fullmatch(text):
        path = Path(text)
        if text != "-" and not path.exists():
            raise BadInput(
                f"there is no model and no file {text[:80]!r}",
                f"give a file, a digest, or one of {', '.join(BUNDLED_NAMES)}",
            )
        return path.stem, load_artifact(read_bytes(path))
    digest = parse_digest(text, "model digest")
    name = bundled_name(digest)
    if name is not None:
        return name, bundled_model(name)[0]
    return f"model-{text[:8]}", ask(rpc, lambda client: fetch_model(client, digest))


async def fetch_model(client: Client, digest: Digest) -> Artifact:
    """Return the model with a digest: a bundled one, or one that the node has.

    Raises
    ------
    ModelError, CliError
        There is none, or what is there is no model.
    """
    name = bundled_name(digest)
    if name is not None:
        return bundled_model(name)[0]
    data = await fetch_blob(client, digest, size_max=ARTIFACT_SIZE_MAX)
    return load_artifact(data)


async def fetch_blob(client: Client, digest: Digest, *, size_max: int) -> bytes:
    """Return a blob of up to `size_max` bytes; raises `Missed` where the node sends another."""
    data = b""
    async for part in client.blob(digest.hex()):
        data += part
        if len(data) > size_max:
            break
    if not data or blob_digest(data) != digest:
        raise Missed("the node sent other bytes than those of the digest", "ask another node")
    return data

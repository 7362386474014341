"""Finding the model that an argument means."""

import re
from pathlib import Path

from cli.arguments import parse_digest, read_bytes
from cli.client import Client, ask
from cli.errors import Missed
from ml_validator import Artifact, load_artifact, model_digest
from ml_validator.artifact import ARTIFACT_SIZE_MAX
from ml_validator.bundled import BUNDLED_NAMES, bundled_model

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
        return path.stem, load_artifact(read_bytes(path))
    for name in BUNDLED_NAMES:
        artifact, _ = bundled_model(name)
        if artifact.digest.hex() == text:
            return name, artifact
    return f"model-{text[:8]}", load_artifact(_fetch(text, rpc))


def _fetch(digest: str, rpc: str) -> bytes:
    async def question(client: Client) -> bytes:
        data = b""
        async for part in client.blob(digest):
            data += part
            if len(data) > ARTIFACT_SIZE_MAX:
                break
        return data

    data = ask(rpc, question)
    if model_digest(data) != parse_digest(digest, "model digest"):
        raise Missed("the node sent other bytes than those of the digest", "ask another node")
    return data

"""The model that comes with the package.

A forest trained on NSL-KDD's KDDTrain+; its manifest beside it says how.
"""

from importlib.resources import files
from typing import Final

from ml_validator.artifact import Artifact, load_artifact
from ml_validator.manifest import Manifest, load_manifest

BUNDLED_NAME: Final = "nsl-kdd-forest"


def bundled_model() -> tuple[Artifact, Manifest]:
    """Load the model of the package and its manifest.

    Raises
    ------
    MalformedArtifact, MalformedManifest
        The installation is damaged: the two files do not belong together.
    """
    folder = files("ml_validator") / "models"
    artifact = load_artifact((folder / f"{BUNDLED_NAME}.safetensors").read_bytes())
    manifest = load_manifest((folder / f"{BUNDLED_NAME}.json").read_bytes())
    manifest.check(artifact)
    return artifact, manifest

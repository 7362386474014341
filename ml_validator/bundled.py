"""The models that come with the package.

All are trained on NSL-KDD's KDDTrain+; the manifest beside each says how.
"""

from functools import cache
from importlib.resources import files
from typing import Final

from chain.types import Digest
from ml_validator.artifact import Artifact, load_artifact
from ml_validator.manifest import Manifest, load_manifest

BUNDLED_NAME: Final = "nsl-kdd-forest-low-false-alarm"
"""A forest with few false alarms: what new networks start with, since verdicts lock devices out."""

DETECT_NAME: Final = "nsl-kdd-forest"
"""A forest that finds the most."""

SMALL_NAME: Final = "nsl-kdd-forest-small"
"""A forest for devices, in no more than 32 kB: docs/adr/0024-small-forest.md."""

LINEAR_NAME: Final = "nsl-kdd-linear"
"""A logistic regression."""

BUNDLED_NAMES: Final = (BUNDLED_NAME, DETECT_NAME, SMALL_NAME, LINEAR_NAME)


def bundled_model(name: str = BUNDLED_NAME) -> tuple[Artifact, Manifest]:
    """Load a model of the package and its manifest.

    Raises
    ------
    MalformedArtifact, MalformedManifest
        The installation is damaged: the two files do not belong together.
    """
    assert name in BUNDLED_NAMES, "the package has the model it is asked for"
    folder = files("ml_validator") / "models"
    artifact = load_artifact((folder / f"{name}.safetensors").read_bytes())
    manifest = load_manifest((folder / f"{name}.json").read_bytes())
    manifest.check(artifact)
    return artifact, manifest


def bundled_name(digest: Digest) -> str | None:
    """Return the name under which the package has a model; None where it does not have it."""
    return _names().get(digest)


@cache
def _names() -> dict[Digest, str]:
    return {bundled_model(name)[0].digest: name for name in BUNDLED_NAMES}

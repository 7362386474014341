"""What people should know of a model: a JSON document beside its artefact.

The artefact alone decides what the model says; the manifest tells where it comes from and what was
measured. All its figures are integers, so that it means the same to every reader.
"""

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from ml_validator.artifact import Artifact
from ml_validator.errors import MalformedManifest

FORMAT: Final = 1
MANIFEST_SIZE_MAX: Final = 64 * 1024

Figures = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Origin and figures of a model.

    Parameters
    ----------
    format : int
        Version of this document, 1.
    name : str
        For people.
    model, schema : str
        Digests in hex, of the artefact and of its feature schema.
    features : list of str
        Names of the columns of a row, in order.
    threshold_ppm : int
        The artefact's.
    calibration : dict of str
        ``rule`` says how the threshold was found, the rest what it was found from.
    command : str
        What made the model; ``DATA`` stands for the folder of the data set.
    settings : dict of int
        Seed and sizes asked for.
    data : dict of str
        SHA-256 in hex of each file that was read.
    versions : dict of str
        Python and the libraries that took part.
    size : dict of int
        ``bytes``, and what there is to say of a model of its family.
    measured : dict of dict of int
        For each set of rows, counts and rates in parts per million.
    """

    format: int
    name: str
    model: str
    schema: str
    features: list[str]
    threshold_ppm: int
    calibration: dict[str, str | int]
    command: str
    settings: Figures
    data: dict[str, str]
    versions: dict[str, str]
    size: Figures
    measured: dict[str, Figures]

    def to_json(self) -> str:
        """Return the document; equal manifests give equal text."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def check(self, artifact: Artifact) -> None:
        """Make sure that this is the manifest of `artifact`.

        Raises
        ------
        MalformedManifest
            It names another model, schema, threshold, size or other features.
        """
        facts = {
            "model": artifact.digest.hex(),
            "schema": artifact.schema.digest.hex(),
            "features": list(artifact.schema.column_names),
            "threshold_ppm": artifact.threshold_ppm,
            "size": _size_of(artifact),
        }
        for where, fact in facts.items():
            if getattr(self, where) != fact:
                raise MalformedManifest(where, "is not that of the model")


def manifest_of(
    artifact: Artifact,
    *,
    name: str,
    rule: str,
    false_alarms_ppm: int,
    command: str,
    settings: Mapping[str, int],
    data: Mapping[str, str],
    libraries: Mapping[str, str],
    measured: Mapping[str, Figures],
) -> Manifest:
    """Return the manifest of an artefact.

    Parameters
    ----------
    rule : str
        How its threshold was found, from at most `false_alarms_ppm`.
    libraries : mapping of str to str
        Versions of those that took part besides numpy.
    """
    return Manifest(
        format=FORMAT,
        name=name,
        model=artifact.digest.hex(),
        schema=artifact.schema.digest.hex(),
        features=list(artifact.schema.column_names),
        threshold_ppm=artifact.threshold_ppm,
        calibration={"rule": rule, "false_alarms_max_ppm": false_alarms_ppm},
        command=command,
        settings=dict(settings),
        data=dict(data),
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            **libraries,
        },
        size=_size_of(artifact),
        measured=dict(measured),
    )


def _size_of(artifact: Artifact) -> Figures:
    """Return the figures of `Manifest.size`."""
    return {"bytes": len(artifact.data)} | artifact.model.figures()


def load_manifest(text: bytes) -> Manifest:
    """Read a manifest.

    Raises
    ------
    MalformedManifest
        Not JSON, a field too many, too few or of another type, or another format.
    """
    if len(text) > MANIFEST_SIZE_MAX:
        raise MalformedManifest("size", f"{len(text)} bytes, at most {MANIFEST_SIZE_MAX}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedManifest("document", "no JSON") from error
    if type(document) is not dict or set(document) != set(_CHECKS):
        raise MalformedManifest("document", f"not an object of {', '.join(_CHECKS)}")
    for where, accepts in _CHECKS.items():
        if not accepts(document[where]):
            raise MalformedManifest(where, "of the wrong type")
    if document["format"] != FORMAT:
        raise MalformedManifest("format", f"{document['format']}, not {FORMAT}")
    return Manifest(**document)


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_figures(value: Any) -> bool:
    return type(value) is dict and all(map(_is_int, value.values()))


def _is_texts(value: Any) -> bool:
    return type(value) is dict and all(map(_is_text, value.values()))


_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "format": _is_int,
    "name": _is_text,
    "model": _is_text,
    "schema": _is_text,
    "features": lambda value: type(value) is list and all(map(_is_text, value)),
    "threshold_ppm": _is_int,
    "calibration": lambda value: (
        type(value) is dict and all(_is_int(item) or _is_text(item) for item in value.values())
    ),
    "command": _is_text,
    "settings": _is_figures,
    "data": _is_texts,
    "versions": _is_texts,
    "size": _is_figures,
    "measured": lambda value: type(value) is dict and all(map(_is_figures, value.values())),
}

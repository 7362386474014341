"""The model that comes of a federated round: its aggregate on the base, and a threshold."""

from collections.abc import Mapping, Sequence

import numpy as np

from ml_validator.artifact import Artifact
from ml_validator.calibration import choose_threshold
from ml_validator.errors import UntrainableData
from ml_validator.evaluation import evaluate
from ml_validator.federated.fixed_point import decode_words, to_floats
from ml_validator.federated.linear_update import parameter_count, to_model, to_parameters
from ml_validator.federated.server_optimisers import FedAvg
from ml_validator.labelled import Labelled
from ml_validator.linear import Linear
from ml_validator.manifest import Manifest, manifest_of

RULE = (
    "smallest threshold at which at most false_alarms_max_ppm of the publisher's normal rows score"
    " anomalous; then the middle of the gap to the next smaller such score, or the nearest value"
    " that none of its rows scores"
)


def moved(
    base: Linear, aggregate: bytes, *, fraction_bits: int, steps: Sequence[int], rate: float
) -> Linear:
    """Return the base model, moved by an aggregate: a step of `FedAvg`.

    Parameters
    ----------
    aggregate : bytes
        The blob.
    steps : sequence of int
        What the included members were asked for: updates are those of one step.

    Raises
    ------
    InvalidUpdate, MalformedArtifact
        It has another size, or leads to numbers that no model holds.
    """
    words = decode_words(aggregate, parameters=parameter_count(base))
    change = to_floats(words.view(np.int64), fraction_bits=fraction_bits)
    mean_steps = sum(steps) / len(steps)
    optimiser = FedAvg(rate=rate)
    return to_model(optimiser.step(to_parameters(base), change * mean_steps), base=base)


def calibrated(
    model: Linear, base: Artifact, records: Sequence[Labelled], *, false_alarms_ppm: int
) -> Artifact:
    """Return the artefact of a model, with a threshold from rows that are known.

    Raises
    ------
    UntrainableData
        None of them is normal, or no threshold has so few false alarms.
    """
    scores = model.scores_ppm(base.schema.rows([record.flow for record in records]))
    normal = ~np.array([record.is_attack for record in records], np.bool_)
    if not normal.any():
        raise UntrainableData("a threshold needs normal rows")
    threshold = choose_threshold(scores[normal], avoid=scores, false_alarms_ppm=false_alarms_ppm)
    return Artifact(model=model, schema=base.schema, threshold_ppm=threshold)


def described(
    artifact: Artifact,
    records: Sequence[Labelled],
    *,
    name: str,
    command: str,
    settings: Mapping[str, int],
    false_alarms_ppm: int,
    data: Mapping[str, str],
) -> Manifest:
    """Return the manifest; `data` are the digests of the files with the publisher's rows."""
    scores = artifact.model.scores_ppm(artifact.schema.rows([record.flow for record in records]))
    found = evaluate(records, scores.tolist(), threshold_ppm=artifact.threshold_ppm)
    return manifest_of(
        artifact,
        name=name,
        rule=RULE,
        false_alarms_ppm=false_alarms_ppm,
        command=command,
        settings=settings,
        data=data,
        libraries={},
        measured={"publisher's rows": found.figures()},
    )

"""The model that comes of a federated round: its aggregate on the base, and a threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml_validator.artifact import Artifact
from ml_validator.calibration import choose_threshold
from ml_validator.errors import UntrainableData
from ml_validator.evaluation import evaluate
from ml_validator.federated.fixed_point import decode_words, to_floats
from ml_validator.federated.linear_update import parameter_count, to_model, to_parameters
from ml_validator.federated.server_optimisers import ServerOptimiser
from ml_validator.labelled import Labelled
from ml_validator.linear import Linear
from ml_validator.manifest import Manifest, manifest_of

RULE = (
    "smallest threshold at which at most false_alarms_max_ppm of the publisher's normal rows score"
    " anomalous; then the middle of the gap to the next smaller such score, or the nearest value"
    " that none of its rows scores"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a federated round has come to.

    Parameters
    ----------
    aggregate : bytes
        The blob.
    steps : sequence of int
        What the included members were asked for: updates are those of one step.
    """

    aggregate: bytes
    fraction_bits: int
    steps: Sequence[int]


def moved(base: Linear, rounds: Sequence[Finished], *, optimiser: ServerOptimiser) -> Linear:
    """Return the base model of the last of `rounds`, moved by its aggregate.

    Parameters
    ----------
    rounds : sequence of Finished
        One or more, oldest first: those before the last give an optimiser its memory, which so is
        in nothing but the chain.

    Raises
    ------
    InvalidUpdate, MalformedArtifact
        An aggregate has another size, or leads to numbers that no model holds.
    """
    start = to_parameters(base)
    found = start
    for finished in rounds:
        words = decode_words(finished.aggregate, parameters=parameter_count(base))
        change = to_floats(words.view(np.int64), fraction_bits=finished.fraction_bits)
        mean_steps = sum(finished.steps) / len(finished.steps)
        found = optimiser.step(start, change * mean_steps)
    return to_model(found, base=base)


def calibrated(
    model: Linear, base: Artifact, records: Sequence[Labelled], *, false_alarms_ppm: int
) -> Artifact:
    """Return the artefact of a model, with a threshold from rows that are known.

    Raises
    ------
    UntrainableData
        None of them is normal; `NoThreshold`: no threshold has so few false alarms.
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

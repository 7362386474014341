"""The paper's figure 3 against its figure 4: the same rows, learned from in three ways.

*Federated* over organisations that keep their rows, *central* by a server that gets them all, and
*alone*, each organisation by itself. All are measured on the same hold-out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from chain.federated.records import PARAMETER_BYTES
from ml_validator.artifact import Artifact
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.federated.federation import Plan, learn
from ml_validator.federated.forests import (
    TREES,
    calibrated,
    grow_forest,
    merge,
    submitted,
)
from ml_validator.federated.local_training import BATCH, Floats, Network, train
from ml_validator.federated.scores import Score, score
from ml_validator.federated.task import FAMILY_NAMES, Part, Task, make_task
from ml_validator.nsl_kdd import Record

Way = Literal["central", "federated", "alone"]
ModelName = Literal["linear", "network", "forest"]
Clock = Callable[[], int]

MODELS: Final[tuple[ModelName, ...]] = ("linear", "network", "forest")
HIDDEN: Final[Mapping[ModelName, int]] = MappingProxyType({"linear": 0, "network": 32})
CENTRAL_RATES: Final = (0.3, 0.1, 0.03)
CENTRAL_EPOCHS: Final = 8
"""Passes over all rows at each of the rates."""

SEES: Final[Mapping[Way, Mapping[str, str]]] = MappingProxyType(
    {
        "central": MappingProxyType(
            {
                "the server": "every row of every organisation",
                "other organisations": "the model",
                "miners": "nothing",
            }
        ),
        "federated": MappingProxyType(
            {
                "the server": "there is none",
                "other organisations": "the model; the sum over a group, no single update",
                "miners": "masked updates and the sum over a group, no single update, no row",
            }
        ),
        "alone": MappingProxyType(
            {
                "the server": "there is none",
                "other organisations": "nothing",
                "miners": "nothing",
            }
        ),
    }
)
SEES_FORESTS: Final = "every tree of every organisation, with the thresholds it took from its rows"
"""Of the union: trees travel as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one way gave with one family of models and one seed.

    Parameters
    ----------
    accuracy, macro_f1 : float
        On the hold-out, as fractions of 1: over normal and four families of attacks, of forests
        over normal and attack. Of organisations alone, the mean over them.
    bytes_moved : int
        Between organisations and everybody else.
    by_round : tuple of float
        Accuracy after each federated round; empty for the other ways.
    """

    model: ModelName
    way: Way
    seed: int
    accuracy: float
    macro_f1: float
    bytes_moved: int
    seconds: float
    by_round: tuple[float, ...] = ()


class Settings(NamedTuple):
    """Who takes part, and how long."""

    clients: int
    alpha: float
    rounds: int
    seeds: tuple[int, ...]
    group_size: int


def compare(
    records: Sequence[Record],
    settings: Settings,
    *,
    clock: Clock,
    on_done: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Learn in three ways, with three families of models, once for each seed.

    Parameters
    ----------
    clock : callable
        Monotonic nanoseconds.
    on_done : callable, optional
        Told of each of the `results_of` results when it is there.

    Raises
    ------
    UntrainableData
        Too few rows for that many organisations.
    """
    results = []
    for seed in settings.seeds:
        task = make_task(records, clients=settings.clients, alpha=settings.alpha, seed=seed)
        for model in MODELS:
            for way in SEES:
                before = clock()
                learned = _learn(model, way, task, settings, np.random.default_rng(seed))
                results.append(
                    Result(
                        model=model,
                        way=way,
                        seed=seed,
                        accuracy=fmean(found.accuracy for found in learned.scores),
                        macro_f1=fmean(found.macro_f1 for found in learned.scores),
                        bytes_moved=learned.bytes_moved,
                        seconds=(clock() - before) / 1e9,
                        by_round=learned.by_round,
                    )
                )
                on_done()
    return results


def results_of(settings: Settings) -> int:
    """Return how many results `compare` gives."""
    return len(MODELS) * len(SEES) * len(settings.seeds)


def train_centrally(network: Network, part: Part, *, random: np.random.Generator) -> Floats:
    """Return what a server learns that has all rows."""
    model = network.start(random)
    for rate in CENTRAL_RATES:
        steps = max(CENTRAL_EPOCHS * len(part) // BATCH, 1)
        model = train(
            network, model, part.scaled, part.classes, steps=steps, rate=rate, random=random
        )
    return model


def network_of(name: ModelName, task: Task) -> Network:
    """Return the shape of a family of models."""
    return Network(
        inputs=task.hold_out.scaled.shape[1], classes=len(FAMILY_NAMES), hidden=HIDDEN[name]
    )


def score_of(network: Network, model: Floats, part: Part) -> Score:
    """Measure a model on rows."""
    return score(network.predict(model, part.scaled), part.classes)


def summary(results: Sequence[Result], settings: Settings) -> dict[str, Any]:
    """Return means and spreads over the seeds, and what each party could see."""
    rows = []
    for model in MODELS:
        for way in SEES:
            runs = [r for r in results if (r.model, r.way) == (model, way)]
            sees = dict(SEES[way])
            if model == "forest" and way == "federated":
                sees |= dict.fromkeys(("other organisations", "miners"), SEES_FORESTS)
            rows.append(
                {
                    "model": model,
                    "way": way,
                    **_statistics("accuracy", [run.accuracy for run in runs]),
                    **_statistics("macro_f1", [run.macro_f1 for run in runs]),
                    "bytes_moved": round(fmean(run.bytes_moved for run in runs)),
                    "seconds": round(fmean(run.seconds for run in runs), 2),
                    "sees": sees,
                }
            )
    return {
        "settings": settings._asdict(),
        "results": rows,
        "runs": [asdict(result) for result in results],
    }


def _statistics(name: str, values: Sequence[float]) -> dict[str, float]:
    spread = stdev(values) if len(values) > 1 else 0.0
    return {name: round(fmean(values), 6), f"{name}_spread": round(spread, 6)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """Scores of the model, or of each organisation's own."""

    scores: Sequence[Score]
    bytes_moved: int = 0
    by_round: tuple[float, ...] = ()


def _learn(
    model: ModelName, way: Way, task: Task, settings: Settings, random: np.random.Generator
) -> _Learned:
    if model == "forest":
        return _learn_forest(way, task, random)
    network = network_of(model, task)
    plan = Plan(network=network, rounds=settings.rounds, group_size=settings.group_size, masks=True)
    match way:
        case "central":
            trained = train_centrally(network, task.everything, random=random)
            return _Learned(
                scores=[score_of(network, trained, task.hold_out)], bytes_moved=_row_bytes(task)
            )
        case "federated":
            outcome = learn(task.clients, plan, random=random)
            course = [score_of(network, common, task.hold_out) for common in outcome.models]
            return _Learned(
                scores=course[-1:],
                bytes_moved=outcome.bytes_moved,
                by_round=tuple(found.accuracy for found in course),
            )
        case "alone":
            own = [
                train(
                    network,
                    network.start(random),
                    part.scaled,
                    part.classes,
                    steps=plan.rounds * plan.steps,
                    rate=plan.rate,
                    random=random,
                )
                for part in task.clients
            ]
            return _Learned(scores=[score_of(network, each, task.hold_out) for each in own])


def _learn_forest(way: Way, task: Task, random: np.random.Generator) -> _Learned:
    seeds = random.integers(2**32, size=len(task.clients)).tolist()
    if way == "central":
        trees = TREES * len(task.clients)
        forest = grow_forest(task.everything, trees=trees, seed=seeds[0])
        return _Learned(
            scores=[score_forest(calibrated(forest, task.public), task.hold_out)],
            bytes_moved=_row_bytes(task),
        )
    forests = [
        grow_forest(part, trees=TREES, seed=seed)
        for part, seed in zip(task.clients, seeds, strict=True)
    ]
    if way == "alone":
        return _Learned(
            scores=[
                score_forest(calibrated(forest, task.public), task.hold_out) for forest in forests
            ]
        )
    merged, _ = merge(forests, task.public)
    sent = sum(len(submitted(forest).data) for forest in forests)
    return _Learned(
        scores=[score_forest(merged, task.hold_out)],
        bytes_moved=sent + len(merged.data) * len(task.clients),
    )


def score_forest(artifact: Artifact, part: Part) -> Score:
    """Measure whether a forest tells attacks from normal rows at its threshold."""
    scores = artifact.model.scores_ppm(part.integers)
    said = (scores >= artifact.threshold_ppm).astype(np.intp)
    return score(said, part.attacks.astype(np.intp))


def _row_bytes(task: Task) -> int:
    """Return what the rows of all organisations are as flows: an integer each, and three names."""
    flow = PARAMETER_BYTES * len(NSL_KDD_SCHEMA.integers) + len(NSL_KDD_SCHEMA.categories)
    return flow * sum(map(len, task.clients))

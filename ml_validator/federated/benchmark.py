"""What federated learning is held to, measured: accuracy, attackers, uneven speed, a miner's work.

Each figure stands beside its target; what misses it is said to. Central training is done in the
same run, on the same rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Final, Literal

import numpy as np

from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.federated.aggregation import (
    Rule,
    aggregate,
    contribution,
    group_size_max,
)
from ml_validator.federated.comparison import (
    Clock,
    ModelName,
    network_of,
    score_of,
    train_centrally,
)
from ml_validator.federated.federation import Plan, Poison, learn, masked_group
from ml_validator.federated.fixed_point import UpdateRules, prepared
from ml_validator.federated.forests import TREES, grow_forest, merge
from ml_validator.federated.group_sum import GroupInput, group_mean
from ml_validator.federated.heterogeneity import adaptive_ms, draw_participants, synchronous_ms
from ml_validator.federated.partition import dirichlet_shards
from ml_validator.federated.scores import Score
from ml_validator.federated.server_optimisers import FedAvg, Scaffold
from ml_validator.federated.task import Task, make_task
from ml_validator.nsl_kdd import Record

CLIENTS: Final = 10
ALPHA: Final = 0.5
UNEVEN_CLIENTS: Final = 30
UNEVEN_TARGET: Final = 0.98
CHECKED: Final = (100, 30_000, 10)
"""Participants, parameters and size of the groups of the round that a miner checks."""

_REPEATS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure and what is asked of it.

    Parameters
    ----------
    name : str
    value : float
        In the unit that the name gives; nan where it was not reached at all.
    at_least, at_most : float or None
        The target; without one the figure is there to be seen.
    over_seeds : str
        What becomes of several.
    """

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    over_seeds: Literal["mean", "median", "least"] = "mean"

    @property
    def missed(self) -> bool:
        """Whether there is a target and it was not reached."""
        return not (
            (self.at_least is None or self.value >= self.at_least)
            and (self.at_most is None or self.value <= self.at_most)
        )

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"


def measure(
    training: Sequence[Record],
    test: Sequence[Record],
    *,
    seeds: Sequence[int],
    clock: Clock,
    on_done: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Measure everything once for each seed.

    Parameters
    ----------
    training, test : sequence of Record
        KDDTrain+ and KDDTest+.
    clock : callable
        Monotonic nanoseconds.
    on_done : callable, optional
        Told when one of the parts of a seed (`PARTS`) is done.
    """
    found: list[list[Measured]] = []
    for seed in seeds:
        task = make_task(training, clients=CLIENTS, alpha=ALPHA, seed=seed)
        figures = []
        for part in PARTS:
            figures += part(task, test, seed, clock)
            on_done()
        found.append(figures)
    return [_over_seeds(same) for same in zip(*found, strict=True)]


def _over_seeds(same: Sequence[Measured]) -> Measured:
    values = [figure.value for figure in same]
    match same[0].over_seeds:
        case "mean":
            return replace(same[0], value=fmean(values))
        case "median":
            return replace(same[0], value=median(values))
        case "least":
            return replace(same[0], value=min(values))


def _against_central(task: Task, test: Sequence[Record], seed: int, clock: Clock) -> list[Measured]:
    del test, clock
    figures = []
    targets: dict[ModelName, float] = {"linear": 0.5, "network": 0.3}
    for name, target in targets.items():
        network = network_of(name, task)
        random = np.random.default_rng(seed)
        central = score_of(
            network, train_centrally(network, task.everything, random=random), task.hold_out
        )
        federated = _learn(Plan(network=network, group_size=CLIENTS, masks=True), task, seed)
        points = 100 * (central.accuracy - federated.accuracy)
        figures += [
            Measured(name=f"{name}, central: accuracy, %", value=100 * central.accuracy),
            Measured(name=f"{name}, central: macro F1, %", value=100 * central.macro_f1),
            Measured(name=f"{name}, federated: accuracy, %", value=100 * federated.accuracy),
            Measured(name=f"{name}, federated: macro F1, %", value=100 * federated.macro_f1),
            Measured(
                name=f"{name}, federated: points behind central", value=points, at_most=target
            ),
        ]
    linear = network_of("linear", task)
    for label, plan in (
        ("FedAvg", Plan(network=linear, optimiser=FedAvg, rate=0.3)),
        (
            "SCAFFOLD",
            Plan(
                network=linear,
                optimiser=lambda: Scaffold(parameters=linear.parameters),
                rate=0.3,
            ),
        ),
    ):
        accuracy = 100 * _learn(plan, task, seed).accuracy
        figures.append(Measured(name=f"linear, federated, {label}: accuracy, %", value=accuracy))
    return figures


def _attacked_in_audit_mode(
    task: Task, test: Sequence[Record], seed: int, clock: Clock
) -> list[Measured]:
    del test, clock
    attackers = 3 * CLIENTS // 10
    network = network_of("linear", task)
    figures = []
    asked = (Poison.SIGN_FLIP, Poison.LABEL_FLIP)
    for poison in Poison:
        for rule in (Rule.MULTI_KRUM, Rule.MEDIAN, Rule.MEAN):
            target = 97.5 if rule is Rule.MULTI_KRUM and poison in asked else None
            # A mean withstands nobody, and says so if it is asked to.
            withstood = 0 if rule is Rule.MEAN else attackers
            plan = Plan(network=network, rule=rule, attackers=withstood)
            accuracy = 100 * _learn(plan, task, seed, poison=poison, attackers=attackers).accuracy
            name = f"audit mode, 30 % {poison}, {rule}: accuracy, %"
            figures.append(Measured(name=name, value=accuracy, at_least=target))
    return figures


def _attacked_in_groups(
    task: Task, test: Sequence[Record], seed: int, clock: Clock
) -> list[Measured]:
    del test, clock
    attackers = CLIENTS // 10
    size = group_size_max(CLIENTS, attackers=attackers)
    network = network_of("linear", task)
    plan = Plan(network=network, rule=Rule.MEDIAN, attackers=attackers, group_size=size)
    clean = 100 * _learn(plan, task, seed).accuracy
    figures = [Measured(name=f"groups of {size}, clean: accuracy, %", value=clean)]
    for poison in (Poison.SIGN_FLIP, Poison.LABEL_FLIP):
        within = 100 * _learn(plan, task, seed, poison=poison, attackers=attackers).accuracy
        beyond = 100 * _learn(plan, task, seed, poison=poison, attackers=3 * attackers).accuracy
        figures += [
            Measured(
                name=f"groups of {size}, 10 % {poison}: points behind clean",
                value=clean - within,
                at_most=1.0,
            ),
            Measured(
                name=f"groups of {size}, 30 % {poison}, past the bound: points behind clean",
                value=clean - beyond,
            ),
        ]
    return figures


def _forests(task: Task, test: Sequence[Record], seed: int, clock: Clock) -> list[Measured]:
    del clock
    rows = NSL_KDD_SCHEMA.rows([record.flow for record in test])
    attacks = np.array([record.is_attack for record in test])
    flipped = set(_attackers(seed, 3 * CLIENTS // 10))
    figures = []
    for label, spoiled, target in (("", set[int](), 86.0), (", 30 % label_flip", flipped, None)):
        forests = [
            grow_forest(part, trees=TREES, seed=seed + index, flipped=index in spoiled)
            for index, part in enumerate(task.clients)
        ]
        union, kept = merge(forests, task.public)
        said = union.model.scores_ppm(rows) >= union.threshold_ppm
        figures += [
            Measured(
                name=f"union of forests{label}, KDDTest+: accuracy, %",
                value=100 * float((said == attacks).mean()),
                at_least=target,
            ),
            Measured(
                name=f"union of forests{label}, KDDTest+: false alarms, %",
                value=100 * float(said[~attacks].mean()),
            ),
            Measured(name=f"union of forests{label}: forests kept of 10", value=len(kept)),
        ]
    return figures


def _uneven_speed(task: Task, test: Sequence[Record], seed: int, clock: Clock) -> list[Measured]:
    del test, clock
    random = np.random.default_rng(seed)
    everything = task.everything
    shards = dirichlet_shards(
        everything.classes, clients=UNEVEN_CLIENTS, alpha=ALPHA, random=random
    )
    clients = [everything.take(shard) for shard in shards]
    participants = draw_participants(UNEVEN_CLIENTS, random=random)
    times = [
        run(
            clients,
            participants,
            network_of("linear", task),
            task.hold_out,
            target=UNEVEN_TARGET,
            random=np.random.default_rng(seed),
        )
        for run in (synchronous_ms, adaptive_ms)
    ]
    synchronous, adaptive = (np.nan if time is None else time / 1e3 for time in times)
    return [
        Measured(
            name="uneven speed, synchronous: simulated s to 98 %",
            value=synchronous,
            over_seeds="median",
        ),
        Measured(
            name="uneven speed, adaptive: simulated s to 98 %",
            value=adaptive,
            over_seeds="median",
        ),
        Measured(
            name="uneven speed: adaptive is faster by a factor of",
            value=synchronous / adaptive,
            at_least=1.8,
            over_seeds="median",
        ),
    ]


def _checked_round(task: Task, test: Sequence[Record], seed: int, clock: Clock) -> list[Measured]:
    """Time what a miner does with the blobs of a large round, one of 25 participants dropped."""
    del task, test
    participants, parameters, size = CHECKED
    random = np.random.default_rng(seed)
    rules = UpdateRules(
        parameters=parameters, fraction_bits=24, norm_max=2**40, weight_total=participants
    )
    updates = {
        number: prepared(random.normal(scale=0.01, size=parameters), rules=rules)
        for number in range(participants)
        if number % 25
    }
    groups = [
        masked_group(
            updates, range(start, start + size), index=start // size, number=0, random=random
        )
        for start in range(0, participants, size)
    ]
    times = []
    for _ in range(_REPEATS):
        before = clock()
        _check(groups, rules)
        times.append((clock() - before) / 1e6)
    name = f"a miner checks {participants} × {parameters} in groups of {size}: ms, best of several"
    # What else the machine does adds to a time; the least is what the work takes.
    return [Measured(name=name, value=min(times), at_most=100.0, over_seeds="least")]


def _check(groups: Sequence[GroupInput], rules: UpdateRules) -> None:
    means = [
        group_mean(given, weights=dict.fromkeys(given.group.members, 1), rules=rules)
        for given in groups
    ]
    contribution(aggregate([contribution(mean) for mean in means], rule=Rule.MEDIAN, attackers=4))


def _learn(
    plan: Plan, task: Task, seed: int, *, poison: Poison | None = None, attackers: int = 0
) -> Score:
    spoiled = {} if poison is None else dict.fromkeys(_attackers(seed, attackers), poison)
    outcome = learn(task.clients, plan, random=np.random.default_rng(seed), poison=spoiled)
    return score_of(plan.network, outcome.model, task.hold_out)


def _attackers(seed: int, count: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).permutation(CLIENTS)[:count].tolist()
    return drawn


PARTS: Final = (
    _against_central,
    _attacked_in_audit_mode,
    _attacked_in_groups,
    _forests,
    _uneven_speed,
    _checked_round,
)

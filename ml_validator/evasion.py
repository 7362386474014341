"""How many attacks a detector still finds when the attacker changes his traffic to hide them.

An attacker can let a flow last longer, send more bytes and open more connections (*padding*); one
who also sends honest connections in between, or takes his time, moves what is counted over windows
of connections (*mixing*). He cannot take back what the attack needs. So the flows of a test file
are changed in the columns of an `Attacker` alone, in whole steps: a *budget* of k lets each column
change by up to k of its steps. An attack counts as found under a budget if no flow that was tried
within it is called normal. That is a bound from one side only: a better attacker finds more.
docs/spec/ml.md, section "Evasion".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ml_validator.artifact import Artifact
from ml_validator.errors import UntrainableData
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.nsl_kdd import Record

BUDGETS: Final = (1, 10, 100)
TRIES: Final = 256
"""Changes tried for one flow within each budget."""

Matrix = npt.NDArray[np.int64]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A column that an attacker can change.

    Parameters
    ----------
    name : str
        Of the schema.
    step : int
        By how much, for each unit of budget.
    value_max : int
        What the column cannot exceed, as the features are defined.
    both_ways : bool
        Whether it can be lowered, too.
    """

    name: str
    step: int
    value_max: int
    both_ways: bool = False

    @property
    def column(self) -> int:
        """Its place in a row."""
        return [column.name for column in NSL_KDD_SCHEMA.integers].index(self.name)


_ANY: Final = 2**31 - 1
_RATES: Final = (
    "serror_rate srv_serror_rate rerror_rate srv_rerror_rate same_srv_rate diff_srv_rate"
    " srv_diff_host_rate dst_host_same_srv_rate dst_host_diff_srv_rate dst_host_same_src_port_rate"
    " dst_host_srv_diff_host_rate dst_host_serror_rate dst_host_srv_serror_rate"
    " dst_host_rerror_rate dst_host_srv_rerror_rate"
)
_OWN: Final = (
    Change(name="duration", step=1, value_max=_ANY),
    Change(name="src_bytes", step=100, value_max=_ANY),
)

PADDING: Final = (
    *_OWN,
    Change(name="count", step=5, value_max=511),
    Change(name="srv_count", step=5, value_max=511),
)
"""Seconds, bytes, and connections to the same host and service within two seconds."""

MIXING: Final = (
    *_OWN,
    Change(name="dst_bytes", step=100, value_max=_ANY),
    Change(name="count", step=5, value_max=511, both_ways=True),
    Change(name="srv_count", step=5, value_max=511, both_ways=True),
    Change(name="dst_host_count", step=3, value_max=255, both_ways=True),
    Change(name="dst_host_srv_count", step=3, value_max=255, both_ways=True),
    *(Change(name=name, step=1, value_max=100, both_ways=True) for name in _RATES.split()),
)
"""Also bytes of the answers, and all counts and rates over windows of connections, in hundredths.
Generous to the attacker: they change each for itself, which real traffic does not allow."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A flow of an attack, and the detector it should not be found by.

    Parameters
    ----------
    row : ndarray of shape (column_count,), int64
    changes : sequence of Change
        What the attacker can do.
    detects : callable
        The detector.
    """

    row: Matrix
    changes: Sequence[Change]
    detects: "Detects"

    @property
    def steps(self) -> Matrix:
        """The step of each change."""
        return np.array([change.step for change in self.changes], np.int64)

    def changed(self, added: Matrix) -> Matrix:
        """Return the row with each line of `added`, of shape (n, len(changes)), put on top."""
        rows = np.repeat(self.row[np.newaxis], len(added), axis=0)
        for change, column in zip(self.changes, added.T, strict=True):
            own = self.row[change.column]
            lowest = 0 if change.both_ways else own
            # What is above its limit already may stay as it is.
            highest = max(own, change.value_max)
            rows[:, change.column] = np.clip(own + column, lowest, highest)
        return rows

    def effective(self, added: Matrix) -> Matrix:
        """Return what is left of each line of `added` where every column stays in its range."""
        columns = [change.column for change in self.changes]
        left: Matrix = self.changed(added)[:, columns] - self.row[columns]
        return left

    def is_found(self, added: Matrix) -> Labels:
        """Return whether the detector calls each changed row anomalous."""
        return self.detects(self.changed(added))

    def budget_of(self, added: Matrix) -> float:
        """Return the least budget that allows one line of changes."""
        return float((np.abs(added) / self.steps).max())


Detects = Callable[[Matrix], Labels]
"""Says of each row, encoded by NSL-KDD's schema, whether it is anomalous."""

Search = Callable[[Target, Matrix], Matrix]
"""Given a target and changes that evade: returns changes that do within a smaller budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """What a detector still finds; fractions of the attacks tried.

    Parameters
    ----------
    attacks : int
        How many were tried.
    recall : float
        Found as they are.
    false_alarms : float
        Share of the honest flows called anomalous.
    by_chance : dict of int to float
        Found under each budget, against changes drawn at random or taken from honest flows.
    by_search : dict of int to float
        The same against an attacker who goes on from there along the boundary between the labels;
        empty where none was asked for.
    """

    attacks: int
    recall: float
    false_alarms: float
    by_chance: dict[int, float]
    by_search: dict[int, float]


def sample(records: Sequence[Record], *, attacks: bool, count: int, seed: int) -> Matrix:
    """Return the rows of at most `count` attacks, or normal flows, drawn without a look at types.

    Raises
    ------
    UntrainableData
        There are none.
    """
    flows = [record.flow for record in records if record.is_attack == attacks]
    if not flows:
        raise UntrainableData(f"there are no {'attacks' if attacks else 'normal rows'}")
    drawn = np.random.default_rng(seed).permutation(len(flows))[:count]
    return NSL_KDD_SCHEMA.rows([flows[index] for index in sorted(drawn.tolist())])


def detector_of(artifact: Artifact) -> Detects:
    """Return what a model says."""

    def detects(rows: Matrix) -> Labels:
        labels: Labels = artifact.model.scores_ppm(rows) >= artifact.threshold_ppm
        return labels

    return detects


def any_of(detectors: Sequence[Detects]) -> Detects:
    """Return a detector that calls anomalous what one of several does."""
    return lambda rows: np.any([detects(rows) for detects in detectors], axis=0)


def measure(
    detects: Detects,
    attacks: Matrix,
    honest: Matrix,
    *,
    changes: Sequence[Change],
    seed: int,
    search: Search | None = None,
) -> Robustness:
    """Let an attacker hide each of `attacks` from a detector.

    Parameters
    ----------
    attacks : ndarray of shape (n_attacks, column_count), int64
        At least one.
    honest : ndarray of shape (n_honest, column_count), int64
        Normal flows that the attacker has seen, and imitates.
    search : callable, optional
        What goes on from the changes that chance has found.
    """
    random = np.random.default_rng(seed)
    found = detects(attacks)
    by_chance, by_search = [], []
    for row in attacks[found]:
        target = Target(row=row, changes=changes, detects=detects)
        tried = (_try_at_random(target, random), _imitate(target, honest))
        hidden = [added for added in tried if added is not None]
        added = min(hidden, key=target.budget_of, default=None)
        by_chance.append(float("inf") if added is None else target.budget_of(added))
        if added is not None and search is not None:
            added = search(target, added)
        by_search.append(float("inf") if added is None else target.budget_of(added))

    def robust(needed: Sequence[float]) -> dict[int, float]:
        return {budget: sum(n > budget for n in needed) / len(attacks) for budget in BUDGETS}

    return Robustness(
        attacks=len(attacks),
        recall=len(by_chance) / len(attacks),
        false_alarms=float(detects(honest).mean()),
        by_chance=robust(by_chance),
        by_search=robust(by_search) if search is not None else {},
    )


def _try_at_random(target: Target, random: np.random.Generator) -> Matrix | None:
    """Return changes that evade, within the smallest budget under which any were found."""
    for budget in BUDGETS:
        tried = _draw(target, budget, random)
        best = _best(target, tried)
        if best is not None:
            return best
    return None


def _imitate(target: Target, honest: Matrix) -> Matrix | None:
    """Return changes, of any size, after which the columns are those of an honest flow."""
    columns = [change.column for change in target.changes]
    differences = honest[:, columns] - target.row[columns]
    raises_only = [not change.both_ways for change in target.changes]
    return _best(target, np.where(raises_only, np.maximum(differences, 0), differences))


def _best(target: Target, tried: Matrix) -> Matrix | None:
    """Return the line that evades within the smallest budget, or None where none does.

    It costs what it changes: what would leave a column's range is not counted.
    """
    evading = target.effective(tried[~target.is_found(tried)])
    if not len(evading):
        return None
    best: Matrix = evading[(np.abs(evading) / target.steps).max(axis=1).argmin()]
    return best


def _draw(target: Target, budget: int, random: np.random.Generator) -> Matrix:
    """Return changes within a budget: half of them corners of it, half of all magnitudes."""
    most = target.steps * budget
    size = (TRIES, len(most))
    magnitude = np.minimum(np.exp(random.random(size) * np.log1p(most)).astype(np.int64), most)
    magnitude[: TRIES // 2] = most
    lowers = (random.random(size) < 0.5) & [change.both_ways for change in target.changes]
    kept = random.random(size) < 0.5
    drawn: Matrix = np.where(kept, np.where(lowers, -magnitude, magnitude), 0)
    return drawn

"""Choosing a recipe without the test file: what happens when types of attack are left out.

A test file has attacks and normal traffic that training has not seen; a choice made by looking at
one says little of the next. So the training file is made to have gaps of its own. In each of
`TRIALS` trials a part of the attack types is taken out, and with it some clusters of normal rows;
a forest trained on the rest is asked about what it has not seen.
docs/adr/0023-background-rows.md, docs/adr/0024-small-forest.md.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.preprocessing import StandardScaler

from ml_validator.errors import UntrainableData
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.forest import saturated
from ml_validator.forest_training import Settings, Trained, grow
from ml_validator.nsl_kdd import Record
from ml_validator.training import judge

TRIALS: Final = 4
CLUSTERS: Final = 150
"""Groups of similar normal rows."""
NORMAL_PARTS: Final = 8
"""In each trial one of so many parts of the clusters is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A training file with gaps, and what was in them.

    Parameters
    ----------
    known, unknown : sequence of Record
        What is trained on; attacks of other types and normal rows of other clusters.
    """

    known: Sequence[Record]
    unknown: Sequence[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What forests said of the gaps; fractions of 1, means over the trials.

    Parameters
    ----------
    by_row, by_type : float
        Recall of left-out attacks, over rows and as the mean over types.
    false_alarms : float
        Share of left-out normal rows called anomalous.
    """

    by_row: float
    by_type: float
    false_alarms: float

    @property
    def merit(self) -> float:
        """Mean of recall and of normal rows let pass: what a choice goes by."""
        return ((self.by_row + self.by_type) / 2 + 1 - self.false_alarms) / 2

    def figures(self) -> dict[str, float]:
        """Return the rates under their names."""
        return {
            "by_row": self.by_row,
            "by_type": self.by_type,
            "false_alarms": self.false_alarms,
            "merit": self.merit,
        }


def make_trials(records: Sequence[Record], *, seed: int) -> list[Trial]:
    """Return `TRIALS` ways to leave out a part of `records`.

    Types go to the trials in turn, the most frequent first; so do the clusters.

    Raises
    ------
    UntrainableData
        Fewer than `TRIALS` types of attack, or no normal rows.
    """
    counts = Counter(record.label for record in records if record.is_attack)
    types = sorted(counts, key=lambda label: (-counts[label], label))
    normal = np.array([not record.is_attack for record in records], np.bool_)
    if len(types) < TRIALS or not normal.any():
        raise UntrainableData(f"leaving out needs normal rows and {TRIALS} types of attack")
    part = np.full(len(records), -1)
    part[normal] = _cluster_ranks([record for record in records if not record.is_attack], seed=seed)
    trials = []
    for trial in range(TRIALS):
        left_out = set(types[trial::TRIALS])
        gap = [
            record.label in left_out or place % NORMAL_PARTS == trial
            for record, place in zip(records, part.tolist(), strict=True)
        ]
        pairs = list(zip(records, gap, strict=True))
        trials.append(
            Trial(
                known=[record for record, gone in pairs if not gone],
                unknown=[record for record, gone in pairs if gone],
            )
        )
    return trials


def try_out(
    trials: Sequence[Trial], settings: Settings, *, false_alarms_ppm: Sequence[int]
) -> dict[int, Found]:
    """Train by one recipe in each trial, and measure it at each of several thresholds."""
    results: dict[int, list[Found]] = {share: [] for share in false_alarms_ppm}
    for trial in trials:
        grown = grow(trial.known, settings)
        for share in false_alarms_ppm:
            results[share].append(_ask(grown.calibrate(share), trial.unknown))
    return {
        share: Found(
            by_row=float(np.mean([found.by_row for found in each])),
            by_type=float(np.mean([found.by_type for found in each])),
            false_alarms=float(np.mean([found.false_alarms for found in each])),
        )
        for share, each in results.items()
    }


def _ask(trained: Trained, unknown: Sequence[Record]) -> Found:
    said = judge(trained.artifact, unknown)
    types = sorted({record.label for record in unknown if record.is_attack})
    return Found(
        by_row=said.recall_ppm / 1e6,
        by_type=sum(said.recall_of([label]) for label in types) / len(types) / 1e6,
        false_alarms=said.false_positive_rate_ppm / 1e6,
    )


def _cluster_ranks(records: Sequence[Record], *, seed: int) -> npt.NDArray[np.int64]:
    """Return for each row the rank of its cluster, the largest first."""
    rows = saturated(NSL_KDD_SCHEMA.rows([record.flow for record in records]))
    scaled = StandardScaler().fit_transform(np.log1p(rows))
    count = min(CLUSTERS, len(rows))
    labels = MiniBatchKMeans(count, random_state=seed, n_init=1).fit_predict(scaled)
    sizes = np.bincount(labels, minlength=count)
    rank = np.empty(count, np.int64)
    rank[np.lexsort((np.arange(count), -sizes))] = np.arange(count)
    ranks: npt.NDArray[np.int64] = rank[labels]
    return ranks

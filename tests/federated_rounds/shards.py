"""Who has which rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ml_validator.federated.partition import dirichlet_shards
from ml_validator.nsl_kdd import TRAIN_FILE, Record, read_records
from ml_validator.synthetic import generate_mixture

PARTICIPANTS: Final = 10
ALPHA: Final = 0.5
ROWS: Final = 400
"""For each profile of made-up traffic, and participant."""
APART: Final = 12
"""One row in so many nobody trains on, and another is for thresholds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """Rows as they are dealt.

    Parameters
    ----------
    shards : list of list of Record
        One for each participant, unlike each other.
    publisher : list of Record
        From which thresholds are chosen.
    unseen : list of Record
        On which nobody trains.
    """

    shards: list[list[Record]]
    publisher: list[Record]
    unseen: list[Record]


def rows_of(data: Path | None, *, count: int = ROWS) -> list[Record]:
    """Return the rows of NSL-KDD in a folder; None: so many made-up ones of each kind."""
    if data is not None:
        return list(read_records(data / TRAIN_FILE))
    return [row for number in range(PARTICIPANTS) for row in generate_mixture(count, 100 + number)]


def deal(rows: Sequence[Record], seed: int) -> Dealt:
    """Deal rows to the participants in Dirichlet's proportions of each label."""
    trained = [row for place, row in enumerate(rows) if place % APART > 1]
    labels = sorted({row.label for row in trained})
    classes = np.array([labels.index(row.label) for row in trained], np.intp)
    random = np.random.default_rng(seed)
    dealt = dirichlet_shards(classes, clients=PARTICIPANTS, alpha=ALPHA, random=random)
    return Dealt(
        shards=[[trained[place] for place in part] for part in dealt],
        publisher=list(rows[1::APART]),
        unseen=list(rows[::APART]),
    )

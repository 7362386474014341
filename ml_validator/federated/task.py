"""NSL-KDD as a task for several organisations, a public sample and a hold-out.

The public sample stands for what a consortium agrees to publish: columns are scaled by it, forests
are checked against it and the threshold of their union comes from it. Nobody learns from the
hold-out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import numpy.typing as npt

from ml_validator.errors import UntrainableData
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.federated.local_training import Classes, Floats
from ml_validator.federated.partition import Indices, dirichlet_shards
from ml_validator.nsl_kdd import Family, Record

FAMILY_NAMES: Final[tuple[Family, ...]] = get_args(Family)
"""The classes in their order: normal, then four families of attacks."""

HOLD_OUT: Final = 0.2
PUBLIC: Final = 0.02

_SPREAD_MIN: Final = 0.05
"""A column that hardly varies in the public sample may do so elsewhere; it is not blown up."""

_SCALED_MAX: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Some rows.

    Parameters
    ----------
    integers : ndarray of shape (n_rows, column_count), int64
        As forests read them.
    scaled : ndarray of shape (n_rows, column_count), float32
        As networks read them.
    classes : ndarray of shape (n_rows,), intp
        Indices into `FAMILY_NAMES`.
    """

    integers: npt.NDArray[np.int64]
    scaled: Floats
    classes: Classes

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def attacks(self) -> npt.NDArray[np.bool_]:
        """Which rows are attacks."""
        return self.classes > 0

    def take(self, chosen: Indices) -> "Part":
        """Return some of the rows."""
        return Part(
            integers=self.integers[chosen],
            scaled=self.scaled[chosen],
            classes=self.classes[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """Who has which rows.

    Parameters
    ----------
    clients : tuple of Part
        Of the organisations.
    public, hold_out : Part
    """

    clients: tuple[Part, ...]
    public: Part
    hold_out: Part

    @property
    def everything(self) -> Part:
        """The rows of all organisations, as a central server would have them."""
        return join(self.clients)


def make_task(records: Sequence[Record], *, clients: int, alpha: float, seed: int) -> Task:
    """Deal rows to organisations.

    Raises
    ------
    UntrainableData
        Too few rows for that many organisations.
    """
    if len(records) < 2 / PUBLIC:
        raise UntrainableData(f"{len(records)} rows are too few to be dealt out")
    random = np.random.default_rng(seed)
    integers = NSL_KDD_SCHEMA.rows([record.flow for record in records])
    number = {name: index for index, name in enumerate(FAMILY_NAMES)}
    classes = np.array([number[record.family] for record in records], np.intp)
    order = random.permutation(len(records))
    held, shown = int(HOLD_OUT * len(order)), int(PUBLIC * len(order))
    hold_out, public, private = np.split(order, [held, held + shown])
    whole = Part(integers=integers, scaled=_scaled(integers, integers[public]), classes=classes)
    shards = dirichlet_shards(classes[private], clients=clients, alpha=alpha, random=random)
    return Task(
        clients=tuple(whole.take(private[shard]) for shard in shards),
        public=whole.take(public),
        hold_out=whole.take(hold_out),
    )


def join(parts: Sequence[Part]) -> Part:
    """Return the rows of several parts, in their order."""
    return Part(
        integers=np.concatenate([part.integers for part in parts]),
        scaled=np.concatenate([part.scaled for part in parts]),
        classes=np.concatenate([part.classes for part in parts]),
    )


def _scaled(integers: npt.NDArray[np.int64], public: npt.NDArray[np.int64]) -> Floats:
    sample = np.log1p(public.astype(np.float64))
    mean, spread = sample.mean(axis=0), np.maximum(sample.std(axis=0), _SPREAD_MIN)
    values = (np.log1p(integers.astype(np.float64)) - mean) / spread
    scaled: Floats = np.clip(values, -_SCALED_MAX, _SCALED_MAX).astype(np.float32)
    return scaled

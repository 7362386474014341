"""What the rows of a data set are: the numbers behind the paper's Table 1 and figures 5 to 8."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.nsl_kdd import Family, Record

_COLUMN: Final = {column.name: i for i, column in enumerate(NSL_KDD_SCHEMA.integers)}
_PERCENTILES: Final = (50, 90, 99, 100)

Column = npt.NDArray[np.float64]
NORMALISATIONS: Final[Mapping[str, Callable[[Column], Column]]] = MappingProxyType(
    {
        "seconds": lambda seconds: seconds,
        "seconds over the longest": lambda seconds: seconds / (seconds.max() or 1.0),
        "standardised": lambda seconds: (seconds - seconds.mean()) / (seconds.std() or 1.0),
        "log(1 + seconds)": np.log1p,
    }
)
"""What may have been done to durations before they were printed without a unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The rows of one label.

    Parameters
    ----------
    rows : int
        How many there are.
    duration_mean_s, duration_median_s : float
        Of their durations, in seconds.
    without_duration : float
        Share of them whose duration is 0 s, in [0, 1].
    durations : dict of str to tuple of float
        Mean and median of their durations under each of `NORMALISATIONS`.
    """

    label: str
    family: Family
    rows: int
    duration_mean_s: float
    duration_median_s: float
    without_duration: float
    durations: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """How many bytes the sources send.

    Parameters
    ----------
    edges : tuple of int
        Bounds of the bins in bytes: powers of two, the first from 0 to 1.
    normal, attack : tuple of int
        Flows in each bin; one fewer than `edges`.
    percentiles : dict of str to int
        Of all flows, in bytes: ``p50``, ``p90``, ``p99``, ``p100``.
    """

    edges: tuple[int, ...]
    normal: tuple[int, ...]
    attack: tuple[int, ...]
    percentiles: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Mean and variance of one integer column over all rows, in its unit."""

    column: str
    mean: float
    variance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What there is to see in a data set before any model.

    Parameters
    ----------
    kinds : tuple of Kind
        The most frequent label first; equal ones in alphabetical order.
    """

    rows: int
    without_duration: float
    kinds: tuple[Kind, ...]
    volume: Volume
    moments: tuple[Moments, ...]


def describe(records: Sequence[Record]) -> Description:
    """Describe the rows of a data set; there is at least one."""
    assert records, "a data set has rows"
    columns = np.array([record.flow.integers for record in records], np.float64)
    labels = np.array([record.label for record in records])
    families = {record.label: record.family for record in records}
    duration = columns[:, _COLUMN["duration"]]
    normalised = {name: normalise(duration) for name, normalise in NORMALISATIONS.items()}
    kinds = []
    for label, family in families.items():
        is_own = labels == label
        own = duration[is_own]
        kinds.append(
            Kind(
                label=label,
                family=family,
                rows=len(own),
                duration_mean_s=float(own.mean()),
                duration_median_s=float(np.median(own)),
                without_duration=float((own == 0).mean()),
                durations={
                    name: (float(values[is_own].mean()), float(np.median(values[is_own])))
                    for name, values in normalised.items()
                },
            )
        )
    attacks = np.array([record.is_attack for record in records])
    return Description(
        rows=len(records),
        without_duration=float((duration == 0).mean()),
        kinds=tuple(sorted(kinds, key=lambda kind: (-kind.rows, kind.label))),
        volume=_volume(columns[:, _COLUMN["src_bytes"]], attacks),
        moments=tuple(
            Moments(
                column=column.name,
                mean=float(values.mean()) / column.scale,
                variance=float(values.var()) / column.scale**2,
            )
            for column, values in zip(NSL_KDD_SCHEMA.integers, columns.T, strict=True)
        ),
    )


def _volume(bytes_sent: Column, attacks: npt.NDArray[np.bool_]) -> Volume:
    largest = int(bytes_sent.max())
    edges = (0, *(1 << power for power in range(largest.bit_length() + 1)))
    counted = [np.histogram(bytes_sent[part], bins=edges)[0] for part in (~attacks, attacks)]
    return Volume(
        edges=edges,
        normal=tuple(counted[0].tolist()),
        attack=tuple(counted[1].tolist()),
        percentiles={f"p{p}": int(np.percentile(bytes_sent, p)) for p in _PERCENTILES},
    )

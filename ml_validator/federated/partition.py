"""Dealing rows to organisations that see different things.

A class is shared out in proportions drawn from a Dirichlet distribution. With a small alpha an
organisation sees much of a few classes and nothing of others, as happens where one has web servers
and another printers; with a large one all see the same.

References
----------
T.-M. H. Hsu, H. Qi, M. Brown, "Measuring the Effects of Non-Identical Data Distribution for
Federated Visual Classification", 2019, arXiv:1909.06335.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ml_validator.errors import UntrainableData

ROWS_MIN: Final = 20
"""Every organisation gets at least that many rows."""

ATTEMPTS_MAX: Final = 1_000

Indices = npt.NDArray[np.intp]


def dirichlet_shards(
    classes: npt.NDArray[np.intp],
    *,
    clients: int,
    alpha: float,
    random: np.random.Generator,
    rows_min: int = ROWS_MIN,
) -> list[Indices]:
    """Deal rows to `clients` organisations: each row to one of them.

    Parameters
    ----------
    classes : ndarray of shape (n_rows,), intp
        Class of each row.
    alpha : float
        Above 0; how alike the organisations are.
    rows_min : int
        Proportions are drawn anew until everyone has that many.

    Returns
    -------
    list of ndarray of intp
        Ascending indices into `classes`, for each organisation.

    Raises
    ------
    UntrainableData
        There are too few rows, or none of `ATTEMPTS_MAX` draws gave everyone enough.
    """
    if len(classes) >= clients * rows_min:
        for _ in range(ATTEMPTS_MAX):
            shards = _draw(classes, clients, alpha, random)
            if min(map(len, shards)) >= rows_min:
                return shards
    raise UntrainableData(
        f"{len(classes)} rows cannot be dealt to {clients} organisations with alpha {alpha:g} so"
        f" that each has {rows_min}"
    )


def _draw(
    classes: npt.NDArray[np.intp], clients: int, alpha: float, random: np.random.Generator
) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for kind in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == kind))
        shares = np.cumsum(random.dirichlet(np.full(clients, alpha)))[:-1]
        cuts = (shares * len(members)).astype(np.intp)
        for part, rows in zip(parts, np.split(members, cuts), strict=True):
            part.append(rows)
    return [np.sort(np.concatenate(part)) for part in parts]

"""Forests federate in one federated round: the trees of all judge together.

A public set of labelled rows, the same for all, keeps out forests that were trained on false
labels. Integers only; miners recompute it.

References
----------
A.-C. Hauschild et al., "Federated Random Forests can improve local performance of predictive models
for various healthcare applications", Bioinformatics 38(8), 2022.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from chain.types import Digest
from ml_validator.errors import TooFewContributions
from ml_validator.forest import Forest
from ml_validator.verdicts import SCORE_PPM_MAX

KEPT_FROM: Final = (4, 5)
"""Share of the median accuracy that a forest needs on the public rows: 0.8."""

_EVEN_PPM: Final = SCORE_PPM_MAX // 2

Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.bool_]


def honest_forests(
    forests: Mapping[Digest, Forest], *, rows: Rows, attacks: Labels
) -> dict[Digest, Forest]:
    """Leave out forests that do far worse on the public rows than most; ordered by digest.

    A forest stays if its accuracy, where half of the votes decide, is at least 0.8 of the median
    (of two in the middle, the lower). Withstands fewer than half of the forests, of which it finds
    those with false labels, not those that are wrong about what the public rows do not show.

    Parameters
    ----------
    forests : mapping of Digest to Forest
        By the digests of their blobs.
    rows : ndarray of shape (n_rows, column_count), int64
        Public rows.
    attacks : ndarray of shape (n_rows,), bool
        Their labels.

    Raises
    ------
    TooFewContributions
        There is no forest.
    """
    if not forests:
        raise TooFewContributions("union", 0, 1)
    right = {
        digest: int(((forest.scores_ppm(rows) >= _EVEN_PPM) == attacks).sum())
        for digest, forest in sorted(forests.items())
    }
    middle = sorted(right.values())[(len(right) - 1) // 2]
    part, whole = KEPT_FROM
    return {
        digest: forests[digest] for digest, count in right.items() if whole * count >= part * middle
    }


def union(forests: Sequence[Forest]) -> Forest:
    """Return one forest of the trees of all, in the order given.

    Raises
    ------
    MalformedArtifact
        More trees or nodes than a forest may have.
    """
    return Forest(
        sizes=np.concatenate([forest.sizes for forest in forests]),
        feature=np.concatenate([forest.feature for forest in forests]),
        value=np.concatenate([forest.value for forest in forests]),
        column_count=forests[0].column_count,
    )

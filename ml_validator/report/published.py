"""What the paper prints, to be set beside what comes out.

References
----------
"SecureNet: A Convergence of ML, Blockchain and Federated Learning for IoT Protection", section VI,
tables 1 and 2 and the text around them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedScores:
    """A row of the paper's Table 2, in per cent; its averages are printed without decimals."""

    accuracy: float
    macro_precision: float
    macro_f1: float
    weighted_precision: float
    weighted_f1: float


TABLE_2: Final[Mapping[str, PublishedScores]] = MappingProxyType(
    {
        "random forest": PublishedScores(
            accuracy=98.85,
            macro_precision=86,
            macro_f1=80,
            weighted_precision=100,
            weighted_f1=100,
        ),
        "logistic regression": PublishedScores(
            accuracy=90.03,
            macro_precision=79,
            macro_f1=77,
            weighted_precision=99,
            weighted_f1=99,
        ),
    }
)
"""As the text of section VI has them.

Notes
-----
A weighted precision and F1 of 99 to 100 do not go together with accuracies of 90.03 and 98.85;
99.03 and 99.85 would fit, so both look like misprints.
"""

TABLE_1: Final[tuple[tuple[float, float], ...]] = (
    (0.480376, 0.429223),
    (0.559406, 0.705779),
    (0.344615, 0.539310),
    (0.197373, 0.327421),
)
"""Mean and median of the duration, without unit, of four attack types."""

TABLE_1_ATTACKS: Final = ("back", "buffer_overflow")
"""The types of the first two rows, which the text names; it does not name the others."""

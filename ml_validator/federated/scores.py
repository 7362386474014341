"""How well a model tells families of attacks apart."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Fractions of 1.

    Parameters
    ----------
    accuracy : float
        Rows told rightly.
    macro_f1 : float
        Mean of the F1 of each class, whatever its number of rows: what data that are dealt
        unevenly cost first.
    """

    accuracy: float
    macro_f1: float


def score(said: npt.NDArray[np.intp], classes: npt.NDArray[np.intp]) -> Score:
    """Compare what a model says with what is so."""
    return Score(
        accuracy=float((said == classes).mean()),
        macro_f1=float(
            f1_score(classes, said, labels=np.unique(classes), average="macro", zero_division=0)
        ),
    )

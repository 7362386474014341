"""The attack HopSkipJump of the adversarial robustness toolbox, within what an attacker can change.

It sees nothing but labels, and walks along the boundary between them towards the original flow.

References
----------
J. Chen, M. I. Jordan, M. J. Wainwright, "HopSkipJumpAttack: A Query-Efficient Decision-Based
Attack", IEEE S&P 2020, arXiv:1904.02144.
"""

import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml_validator.evasion import BUDGETS, Matrix, Target

with warnings.catch_warnings():
    # It tells of each of the large frameworks that is not here.
    warnings.simplefilter("ignore")
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import BlackBoxClassifier

ITERATIONS: Final = 8
EVALUATIONS_FIRST: Final = 16
EVALUATIONS_MAX: Final = 64

Points = npt.NDArray[np.float32]


def make_repeatable(seed: int) -> None:
    """Fix what chance does next: the toolbox draws from numpy's shared generator."""
    np.random.seed(seed)


def search(target: Target, added: Matrix) -> Matrix:
    """Return changes that evade within a smaller budget, or `added` where it finds none."""
    # The attack moves in a cube as wide as the largest budget, or as where it starts from, and
    # asks about whole numbers only.
    most = np.maximum(target.steps * max(BUDGETS), np.abs(added))
    lowest = np.where([change.both_ways for change in target.changes], -most, 0)

    def whole(points: Points) -> Matrix:
        changes = np.rint(points.astype(np.float64) * most).astype(np.int64)
        clipped: Matrix = np.clip(changes, lowest, most)
        return clipped

    def ask(points: Points) -> Points:
        found = target.is_found(whole(points))
        return np.stack((~found, found), axis=1).astype(np.float32)

    classifier = BlackBoxClassifier(
        ask, input_shape=most.shape, nb_classes=2, clip_values=(-1.0, 1.0)
    )
    attack: Any = HopSkipJump(
        classifier,
        targeted=False,
        norm=np.inf,
        max_iter=ITERATIONS,
        init_eval=EVALUATIONS_FIRST,
        max_eval=EVALUATIONS_MAX,
        verbose=False,
    )
    start = (added / most).astype(np.float32)[np.newaxis]
    reached = target.effective(whole(attack.generate(np.zeros_like(start), x_adv_init=start)))
    if target.is_found(reached)[0] or target.budget_of(reached[0]) >= target.budget_of(added):
        return added
    best: Matrix = reached[0]
    return best

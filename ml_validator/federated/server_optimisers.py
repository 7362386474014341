"""From an aggregate to the next model.

Elementwise sums, products, quotients and square roots of doubles alone, which IEEE 754 rounds in
one way: so whoever has the aggregates of all rounds gets the same model, to the bit.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


class ServerOptimiser(Protocol):
    """Moves the common model."""

    def step(self, model: Doubles, aggregate: Doubles) -> Doubles:
        """Return the next model, from what participants would change on average."""
        ...


@dataclass(slots=True, kw_only=True)
class FedAvg:
    """Go where the participants went.

    References
    ----------
    B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017.
    """

    rate: float = 1.0

    def step(self, model: Doubles, aggregate: Doubles) -> Doubles:
        """Return the next model."""
        return model + self.rate * aggregate


@dataclass(slots=True, kw_only=True)
class FedAdam:
    """Adam, with the aggregate in the place of a gradient.

    References
    ----------
    S. Reddi et al., "Adaptive Federated Optimization", ICLR 2021.
    """

    rate: float
    first_decay: float = 0.9
    second_decay: float = 0.99
    caution: float = 1e-3
    _first: Doubles | None = field(default=None, init=False)
    _second: Doubles | None = field(default=None, init=False)

    def step(self, model: Doubles, aggregate: Doubles) -> Doubles:
        """Return the next model."""
        first = np.zeros_like(model) if self._first is None else self._first
        second = np.zeros_like(model) if self._second is None else self._second
        self._first = self.first_decay * first + (1 - self.first_decay) * aggregate
        self._second = self.second_decay * second + (1 - self.second_decay) * aggregate * aggregate
        return model + self.rate * self._first / (np.sqrt(self._second) + self.caution)


@dataclass(slots=True, kw_only=True)
class Scaffold:
    """Control variates that take the drift of each participant's own data out of its steps.

    What participants send has twice the parameters: the change of the model and that of their
    control variate.

    References
    ----------
    S. P. Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
    ICML 2020, option II.
    """

    parameters: int
    rate: float = 1.0
    common: Doubles = field(init=False)

    def __post_init__(self) -> None:
        self.common = np.zeros(self.parameters)

    def step(self, model: Doubles, aggregate: Doubles) -> Doubles:
        """Return the next model, and move the common control variate."""
        change, control = np.split(aggregate, 2)
        self.common = self.common + control
        return model + self.rate * change


def next_control(
    own: Doubles, common: Doubles, change: Doubles, *, steps: int, rate: float
) -> Doubles:
    """Return a participant's control variate after its local steps moved the model by `change`."""
    return own - common - change / (steps * rate)

"""What a participant trains on its own rows: multinomial logistic regression, or a small network.

Both are one list of parameters, which is what federated rounds move. Training is stochastic
gradient descent in numpy; it is nobody's business but the participant's and need not come out alike
on two machines.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

HIDDEN: Final = 32
BATCH: Final = 64

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The shape of a model: softmax over linear functions of the row, or of `hidden` neurons.

    Parameters
    ----------
    inputs, classes : int
        Columns of a row, and classes to tell apart.
    hidden : int
        Neurons of the hidden layer; 0 for logistic regression.
    """

    inputs: int
    classes: int
    hidden: int = 0

    @property
    def parameters(self) -> int:
        """How many numbers a model is."""
        if not self.hidden:
            return (self.inputs + 1) * self.classes
        return (self.inputs + 1) * self.hidden + (self.hidden + 1) * self.classes

    def start(self, random: np.random.Generator) -> Floats:
        """Return a model to start from: zeros, or small weights where zeros would stay equal."""
        model = np.zeros(self.parameters, np.float32)
        if self.hidden:
            layers = self._layers(model)
            for weights, _ in layers:
                weights[:] = random.normal(scale=(2 / len(weights)) ** 0.5, size=weights.shape)
        return model

    def predict(self, model: Floats, rows: Floats) -> Classes:
        """Return the most likely class of each row."""
        said: Classes = self._forward(model, rows)[-1].argmax(axis=1)
        return said

    def gradient(self, model: Floats, rows: Floats, classes: Classes) -> Floats:
        """Return the gradient of the mean cross-entropy."""
        *inputs, logits = self._forward(model, rows)
        error = np.exp(logits - logits.max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(len(rows)), classes] -= 1
        error /= len(rows)
        gradient = np.empty_like(model)
        layers = zip(self._layers(model), self._layers(gradient), inputs, strict=True)
        for (weights, _), (by_weights, by_bias), given in reversed(list(layers)):
            np.matmul(given.T, error, out=by_weights)
            error.sum(axis=0, out=by_bias)
            error = (error @ weights.T) * (given > 0)
        return gradient

    def _forward(self, model: Floats, rows: Floats) -> list[Floats]:
        """Return what goes into each layer, and the logits."""
        values = [rows]
        layers = self._layers(model)
        for weights, bias in layers[:-1]:
            values.append(np.maximum(values[-1] @ weights + bias, 0))
        weights, bias = layers[-1]
        return [*values, values[-1] @ weights + bias]

    def _layers(self, model: Floats) -> list[tuple[Floats, Floats]]:
        """Return weights and bias of each layer, as views of the list."""
        sizes = [self.inputs, *([self.hidden] if self.hidden else []), self.classes]
        layers = []
        start = 0
        for before, after in pairwise(sizes):
            stop = start + before * after
            layers.append((model[start:stop].reshape(before, after), model[stop : stop + after]))
            start = stop + after
        return layers


def train(
    network: Network,
    model: Floats,
    rows: Floats,
    classes: Classes,
    *,
    steps: int,
    rate: float,
    random: np.random.Generator,
    batch: int = BATCH,
    correction: Floats | None = None,
) -> Floats:
    """Return the model after `steps` steps of gradient descent, each on `batch` rows.

    Parameters
    ----------
    correction : ndarray of shape (parameters,), optional
        Added to every gradient (SCAFFOLD).
    """
    model = model.copy()
    size = min(batch, len(rows))
    order = np.empty(0, np.intp)
    for _ in range(steps):
        if len(order) < size:
            order = random.permutation(len(rows))
        chosen, order = order[:size], order[size:]
        gradient = network.gradient(model, rows[chosen], classes[chosen])
        if correction is not None:
            gradient += correction
        model -= np.float32(rate) * gradient
    return model

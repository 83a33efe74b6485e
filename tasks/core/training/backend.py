"""The protocols of a backend: what the packages pytorch and keras offer, and what their programs take and return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.initializers import Backend, Law
from tasks.core.design.settings import Network, Recipe
from tasks.core.training.datasets import Floats, Fold, Ints
from tasks.core.training.signals import Start

TF32 = False  # Keras's default is on: float32 products with 10 bits of precision, on GPUs since Ampere
DETERMINISTIC = True
NORMALIZATION_EPSILON = 1e-5  # added to variances; PyTorch's default, where Keras has 1e-3
NEWEST = 0.1  # share of the newest batch in a batch normalization's running statistics, which are of biased variances

Weights = list[NDArray[np.floating]]
"""Kernel (fan_in, fan_out) and bias (fan_out,) of each layer in turn; stacked, each has a leading axis of cells."""


@dataclass(frozen=True)
class Stack:
    """The folds of a batch of cells, each array with a leading axis of cells."""

    x_train: Floats
    y_train: Ints
    x_test: Floats
    y_test: Ints

    @classmethod
    def of(cls, folds: Sequence[Fold]) -> "Stack":
        """Stack folds of equal size."""
        names = ("x_train", "y_train", "x_test", "y_test")
        return cls(*(np.stack([getattr(fold, name) for fold in folds]) for name in names))


@dataclass(frozen=True)
class Progress:
    """A batch of cells as measured after each of some epochs.

    scores: train loss, test loss, train accuracy and test accuracy, (epochs, cells, 4); state: `signals.STATE` on the
    train rows, (epochs, cells, 3, layers); flow: `signals.FLOW` over an epoch's steps, (epochs, cells, 3, layers).
    """

    scores: NDArray[np.float32]
    state: NDArray[np.float32]
    flow: NDArray[np.float32]


class Program(Protocol):
    """A batch of cells in training: weights and optimizer state, advanced together.

    A cell's numbers do not depend on the other cells of its batch nor on their number.
    """

    def start(self, stack: Stack, weights: Weights) -> None:
        """Take data and initial weights, and a fresh optimizer."""

    def probe(self) -> Start:
        """Return the signals of the untrained networks."""

    def measure(self) -> Progress:
        """Return the present state as one epoch's, with a flow of no epochs."""

    def run(self, order: NDArray[np.int32]) -> Progress:
        """Train on the rows in the given order, (epochs, cells, rows), and measure after each epoch.

        Without epochs nothing is trained, but what has to be compiled for so many rows is.
        """

    def logits(self) -> Floats:
        """Return the networks' outputs on the test rows, (cells, rows, classes)."""

    def weights(self) -> Weights:
        """Return the current kernels and biases, stacked."""

    def variables(self) -> dict[str, Floats]:
        """Return all variables, stacked, under the names and in the layout of the framework's own model."""


class Framework(Protocol):
    """What a backend's module offers."""

    NAME: Backend

    def native(self, law: Law, fan_in: int, fan_out: int, seed: int) -> Floats:
        """Draw a kernel (fan_in, fan_out) with the framework's own initializer; the law is one that is native."""

    def program(self, network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int) -> Program:
        """Return a program for a batch, a compiled one again where there is one."""

    def deployed(
        self,
        network: Network,
        fans: tuple[int, ...],
        variables: Mapping[str, Floats],
        mean: NDArray[np.float64],
        scale: NDArray[np.float64],
    ) -> Any:
        """Return a trained network as the framework's own model, from unscaled float64 features to logits."""


def traced(
    network: Network,
    layers: Sequence[Callable[[Any], Any]],
    activation: Callable[[Any], Any],
    x: Any,
    taps: Sequence[Any],
) -> tuple[list[Any], list[Any]]:
    """Return what the activations are given and what they make of it, by layer, for inputs x (rows, features).

    This is the network, in whatever framework the tensors are: `layers` make pre-activations, normalized ones where
    that is asked for, and the last makes logits, which stand in both lists. Taps, if there are any, are added to the
    pre-activations, to differentiate in them.
    """
    pre_activations, activated = [], []
    h = x
    for at, layer in enumerate(layers):
        z = layer(h) + taps[at] if taps else layer(h)
        pre_activations.append(z)
        if at == len(layers) - 1:
            break
        a = activation(z)
        activated.append(a)
        h = h + a if network.residual and h.shape == a.shape else a
    return pre_activations, [*activated, pre_activations[-1]]

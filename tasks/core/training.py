"""Train a batch of cells in one vectorised program, the same way in every backend.

Everything that decides the numbers and is not the framework's own is made here, once: folds, batch orders, initial
weights. A backend supplies the program that advances all cells of the batch together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.core import datasets, seeds
from tasks.core.datasets import Floats, Fold, Ints
from tasks.core.initializers import INITIALIZERS, Backend, Initializer, bias_bound
from tasks.core.outcome import Curves, Outcome, Predictions, Trained
from tasks.core.study import Cell, Network, Recipe, Study

TF32 = False  # Keras's default is on: float32 products with 10 bits of precision, on GPUs since Ampere
DETERMINISTIC = True

Weights = list[Floats]
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


class Program(Protocol):
    """A batch of cells in training: weights and optimizer state, advanced together.

    A cell's numbers do not depend on the other cells of its batch nor on their number.
    """

    def start(self, stack: Stack, weights: Weights) -> None:
        """Take data and initial weights, and a fresh optimizer."""

    def measure(self) -> NDArray[np.float32]:
        """Return train loss, test loss, train accuracy and test accuracy of each cell, (4, cells)."""

    def run(self, order: NDArray[np.int32]) -> NDArray[np.float32]:
        """Train on the rows in the given order, (epochs, cells, rows); return `measure` after each epoch.

        Without epochs nothing is trained, but what has to be compiled for so many rows is.
        """

    def logits(self) -> Floats:
        """Return the networks' outputs on the test rows, (cells, rows, classes)."""

    def weights(self) -> Weights:
        """Return the current weights, stacked."""

    def named(self, weights: Weights) -> dict[str, Floats]:
        """Return one cell's weights under the names and in the layout of the framework's own model."""


class Framework(Protocol):
    """What a backend's module offers."""

    NAME: Backend

    def native(self, initializer: Initializer, fan_in: int, fan_out: int, seed: int) -> Floats:
        """Draw a kernel (fan_in, fan_out) with the framework's own initializer."""

    def program(self, network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int) -> Program:
        """Return a program for a batch, a compiled one again where there is one."""


def fans(network: Network, features: int, classes: int) -> tuple[int, ...]:
    """Return the layer sizes, inputs first and logits last.

    >>> fans(Network(), features=4, classes=3)
    (4, 64, 32, 3)
    """
    return (features, *network.hidden, classes)


def initial_weights(framework: Framework, study: Study, cell: Cell, sizes: tuple[int, ...]) -> Weights:
    """Draw a cell's weights, each layer's kernel and bias from streams of their own."""
    weights: Weights = []
    last = len(sizes) - 2
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        own = layer < last or study.network.output_initializer == "same"
        initializer = INITIALIZERS[cell.initializer if own else study.network.output_initializer]
        kernel_stream = seeds.stream(cell.seed, "weights", layer, 0)
        if study.weights == "shared":
            kernel = initializer.law.draw(fan_in, fan_out, rng=np.random.default_rng(kernel_stream))
        else:
            kernel = framework.native(initializer, fan_in, fan_out, seeds.integer(kernel_stream))
        bound = bias_bound(initializer, framework.NAME, fan_in) if study.network.bias == "framework" else 0.0
        bias = np.random.default_rng(seeds.stream(cell.seed, "weights", layer, 1)).uniform(-bound, bound, fan_out)
        weights += [kernel.astype(np.float32), bias.astype(np.float32)]
    return weights


def train(framework: Framework, study: Study, cells: Sequence[Cell], *, clock: Callable[[], float]) -> list[Outcome]:
    """Train cells of one backend together and return the outcome of each, in their order.

    `clock` gives seconds; a cell's `seconds` are its share of the batch's, compilation left out.
    """
    program, folds, order = started(framework, study, cells)
    before = program.measure()
    program.run(order[:0])
    begun = clock()
    after = program.run(order)
    seconds = (clock() - begun) / len(cells)
    measures = np.concatenate([before[None], after])
    logits, weights = program.logits(), program.weights()
    return [
        Outcome.of(
            cell,
            Trained(
                curves=Curves(*measures[:, :, at].T),
                predictions=Predictions(fold.test_rows, fold.y_test, logits[at]),
                weights=program.named([tensor[at] for tensor in weights]),
                seconds=seconds,
            ),
        )
        for at, (cell, fold) in enumerate(zip(cells, folds, strict=True))
    ]


def started(framework: Framework, study: Study, cells: Sequence[Cell]) -> tuple[Program, list[Fold], NDArray[np.int32]]:
    """Return a program with the cells' data and initial weights, their folds, and their order of visits.

    The order, (epochs, cells, rows), is what the program's `run` takes.
    """
    dataset = datasets.load(study.dataset)
    recipe = study.recipe_for(framework.NAME)
    sizes = fans(study.network, len(dataset.features), dataset.classes)
    by_seed = {cell.seed: datasets.divide(dataset, study.split, cell.seed) for cell in cells}
    orders = {
        seed: datasets.visits(len(fold.y_train), recipe.epochs, seed, shuffle=recipe.shuffle)
        for seed, fold in by_seed.items()
    }
    folds = [by_seed[cell.seed] for cell in cells]
    program = framework.program(study.network, recipe, sizes, len(cells))
    program.start(Stack.of(folds), stacked([initial_weights(framework, study, cell, sizes) for cell in cells]))
    return program, folds, np.stack([orders[cell.seed] for cell in cells], axis=1)


def stacked(weights: Sequence[Weights]) -> Weights:
    """Stack the weights of several cells along a new first axis."""
    return [np.stack(tensors) for tensors in zip(*weights, strict=True)]

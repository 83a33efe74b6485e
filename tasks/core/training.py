"""Train a batch of cells in one vectorised program, the same way in every backend.

Everything that decides the numbers and is not the framework's own is made here, once: folds, batch orders, initial
weights. A backend supplies the program that advances all cells of the batch together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.core import datasets, meanfield, seeds
from tasks.core.activations import TABLE
from tasks.core.datasets import Floats, Fold, Ints
from tasks.core.initializers import LSUV, Backend, Law, bias_bound, named
from tasks.core.meanfield import Theory
from tasks.core.outcome import Curves, Outcome, Predictions, Trained
from tasks.core.signals import Signals, Start
from tasks.core.study import Cell, Network, OneSeed, Recipe, Study

TF32 = False  # Keras's default is on: float32 products with 10 bits of precision, on GPUs since Ampere
DETERMINISTIC = True
NORMALIZATION_EPSILON = 1e-5  # added to variances; PyTorch's default, where Keras has 1e-3
NEWEST = 0.1  # share of the newest batch in a batch normalization's running statistics, which are of biased variances
LSUV_TOLERANCE = 0.1  # of the output variance about 1 (Mishkin & Matas, 2016)
LSUV_ROUNDS = 10

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


def fans(network: Network, features: int, classes: int) -> tuple[int, ...]:
    """Return the layer sizes, inputs first and logits last.

    >>> fans(Network(), features=4, classes=3)
    (4, 64, 32, 3)
    """
    return (features, *network.units, classes)


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


def chosen(one: OneSeed, own: int) -> int:
    """Return the one seed of all cells, or the cell's own."""
    return own if one == "cell" else one


def initial_weights(framework: Framework, study: Study, cell: Cell, sizes: tuple[int, ...], x_train: Floats) -> Weights:
    """Draw a cell's weights, each layer's kernel and bias from streams of their own."""
    weights: Weights = []
    rescaled = []
    seed = chosen(study.network.weights_seed, cell.seed)
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        own = layer < len(sizes) - 2 or study.network.output_initializer == "same"
        initializer = named(cell.initializer if own else study.network.output_initializer)
        law = initializer.law.under(study.network.activation)
        kernel_stream, bias_stream = (seeds.stream(seed, "weights", layer, part) for part in (0, 1))
        if study.weights == "shared" or not law.native:
            kernel = law.draw(fan_in, fan_out, rng=np.random.default_rng(kernel_stream))
        else:
            kernel = framework.native(law, fan_in, fan_out, seeds.integer(kernel_stream))
        bound = bias_bound(initializer, framework.NAME, fan_in) if study.network.bias == "framework" else 0.0
        rng = np.random.default_rng(bias_stream)
        bias = rng.normal(0, law.bias_std, fan_out) if law.bias_std else rng.uniform(-bound, bound, fan_out)
        weights += [kernel, bias]
        rescaled += [layer] if isinstance(law, LSUV) else []
    return [array.astype(np.float32) for array in with_unit_variance(weights, rescaled, study.network, x_train)]


def with_unit_variance(weights: Weights, layers: Sequence[int], network: Network, x: Floats) -> Weights:
    """Divide the kernels of some layers, in turn, by the standard deviation of what they make of rows x.

    Layer-sequential unit variance (Mishkin & Matas, 2016, algorithm 1): until each variance is within LSUV_TOLERANCE
    of 1, or LSUV_ROUNDS have not been enough, as for a layer that gives zero. A normalization follows the layer.
    """
    weights = list(weights)
    h = x.astype(np.float64)
    for layer in range(max(layers, default=-1) + 1):
        for _ in range(LSUV_ROUNDS if layer in layers else 0):
            deviation = (h @ weights[2 * layer] + weights[2 * layer + 1]).std()
            if abs(deviation**2 - 1) < LSUV_TOLERANCE or deviation == 0:
                break
            weights[2 * layer] = weights[2 * layer] / deviation
        z = h @ weights[2 * layer] + weights[2 * layer + 1]
        if network.normalization != "none":
            over = 0 if network.normalization == "batch" else 1
            z = (z - z.mean(over, keepdims=True)) / np.sqrt(z.var(over, keepdims=True) + NORMALIZATION_EPSILON)
        activated = TABLE[network.activation].function(z)
        h = activated + h if network.residual and activated.shape == h.shape else activated
    return weights


def train(framework: Framework, study: Study, cells: Sequence[Cell], *, clock: Callable[[], float]) -> list[Outcome]:
    """Train cells of one backend and level together and return the outcome of each, in their order.

    `clock` gives seconds; a cell's `seconds` are its share of the batch's, compilation and the probe left out.
    """
    study = study.at(cells[0].levels)
    program, folds, order = started(framework, study, cells)
    start, before = program.probe(), program.measure()
    program.run(order[:0])
    begun = clock()
    after = program.run(order)
    seconds = (clock() - begun) / len(cells)
    scores = np.concatenate([before.scores, after.scores])
    logits, variables = program.logits(), program.variables()
    theories = _theories(framework.NAME, study, cells, folds, classes=logits.shape[-1])
    return [
        Outcome.of(
            cell,
            Trained(
                curves=Curves(*scores[:, at].T),
                predictions=Predictions(fold.test_rows, fold.y_test, logits[at]),
                weights={name: stack[at] for name, stack in variables.items()},
                signals=Signals.of(start, at, theories[at], after.state[:, at], after.flow[:, at], logits.shape[-1]),
                seconds=seconds,
            ),
        )
        for at, (cell, fold) in enumerate(zip(cells, folds, strict=True))
    ]


def _theories(
    backend: Backend, study: Study, cells: Sequence[Cell], folds: Sequence[Fold], *, classes: int
) -> list[Theory]:
    """Return what theory expects of each cell; cells of one initializer whose rows have one mean square share it."""
    known: dict[tuple[str, float], Theory] = {}
    sizes = fans(study.network, folds[0].x_train.shape[1], classes)
    points = [
        (cell.initializer, round(float(np.mean(np.square(fold.x_train, dtype=np.float64))), 5))
        for cell, fold in zip(cells, folds, strict=True)
    ]
    for name, square in set(points):
        known[name, square] = meanfield.expected(study.network, named(name), backend, sizes, square)
    return [known[point] for point in points]


def started(framework: Framework, study: Study, cells: Sequence[Cell]) -> tuple[Program, list[Fold], NDArray[np.int32]]:
    """Return a program with the cells' data and initial weights, their folds, and their order of visits.

    The order, (epochs, cells, rows), is what the program's `run` takes.
    """
    dataset = datasets.load(study.dataset)
    recipe = study.recipe_for(framework.NAME)
    sizes = fans(study.network, len(dataset.features), dataset.classes)
    by_seed = {cell.seed: datasets.divide(dataset, study.split, cell.seed) for cell in cells}
    orders = {
        seed: datasets.visits(len(fold.y_train), recipe.epochs, chosen(recipe.order_seed, seed), shuffle=recipe.shuffle)
        for seed, fold in by_seed.items()
    }
    folds = [by_seed[cell.seed] for cell in cells]
    program = framework.program(study.network, recipe, sizes, len(cells))
    weights = [
        initial_weights(framework, study, cell, sizes, fold.x_train) for cell, fold in zip(cells, folds, strict=True)
    ]
    program.start(Stack.of(folds), stacked(weights))
    return program, folds, np.stack([orders[cell.seed] for cell in cells], axis=1)


def stacked(weights: Sequence[Weights]) -> Weights:
    """Stack the weights of several cells along a new first axis."""
    return [np.stack(tensors) for tensors in zip(*weights, strict=True)]

"""Train a batch of cells in one vectorised program, the same way in every backend.

A batch is a number of cells whose settings differ in nothing but the learning rate. This module makes the folds, the
orders of rows and the initial weights, the same for every backend. The backend supplies the program that trains all
cells of the batch together.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.grid import Cell
from tasks.core.design.initializers import named
from tasks.core.design.settings import CellSettings
from tasks.core.training import datasets, meanfield, seeds
from tasks.core.training.backend import Framework, Program, Stack
from tasks.core.training.datasets import Fold
from tasks.core.training.health import Signals
from tasks.core.training.meanfield import Theory
from tasks.core.training.outcome import Curves, Outcome, Predictions, Trained
from tasks.core.training.weights import fans, initial_weights, stacked


def train(
    framework: Framework,
    settings: CellSettings,
    cells: Sequence[Cell],
    rates: Sequence[float] = (),
    *,
    clock: Callable[[], float],
) -> list[Outcome]:
    """Train cells with these settings together, and return their outcomes in the same order.

    rates: the learning rate of each cell; without any, all have that of the settings. `clock` returns seconds. The
    `seconds` of a cell are the batch's training time divided by the number of cells, without the time for compiling and
    for the signals before training.
    """
    program, folds, order = started(framework, settings, cells, rates)
    start, before = program.probe(), program.measure()
    program.run(order[:0])
    begun = clock()
    after = program.run(order)
    seconds = (clock() - begun) / len(cells)
    scores = np.concatenate([before.scores, after.scores])
    logits, variables = program.logits(), program.variables()
    theories = _theories(settings, cells, folds, classes=logits.shape[-1])
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


def _theories(settings: CellSettings, cells: Sequence[Cell], folds: Sequence[Fold], *, classes: int) -> list[Theory]:
    """Return the theory of each cell, computed once for cells with equal initializer and mean square of the inputs."""
    known: dict[tuple[str, float], Theory] = {}
    network = settings.network
    sizes = fans(network, folds[0].x_train.shape[1], classes)
    points = [
        (cell.initializer, round(float(np.mean(np.square(fold.x_train, dtype=np.float64))), 5))
        for cell, fold in zip(cells, folds, strict=True)
    ]
    for name, square in set(points):
        known[name, square] = meanfield.expected(network, named(name), settings.backend, sizes, square)
    return [known[point] for point in points]


def started(
    framework: Framework, settings: CellSettings, cells: Sequence[Cell], rates: Sequence[float] = ()
) -> tuple[Program, list[Fold], NDArray[np.int32]]:
    """Return a program that holds the cells' data and initial weights, with the cells' folds and orders of rows.

    The orders, (epochs, cells, rows), are the argument of the program's `run`. The rates are those of `train`.
    """
    dataset = datasets.load(settings.dataset)
    recipe = settings.recipe
    sizes = fans(settings.network, len(dataset.features), dataset.classes)
    by_seed = {cell.seed: datasets.divide(dataset, settings.split, cell.seed) for cell in cells}
    orders = {
        seed: datasets.visits(
            len(fold.y_train), recipe.epochs, seeds.chosen(recipe.order_seed, seed), shuffle=recipe.shuffle
        )
        for seed, fold in by_seed.items()
    }
    folds = [by_seed[cell.seed] for cell in cells]
    program = framework.program(settings.network, settings.shared.recipe, sizes, len(cells))
    weights = [
        initial_weights(framework, settings, cell, sizes, fold.x_train) for cell, fold in zip(cells, folds, strict=True)
    ]
    program.start(Stack.of(folds), stacked(weights), rates or [recipe.learning_rate] * len(cells))
    return program, folds, np.stack([orders[cell.seed] for cell in cells], axis=1)

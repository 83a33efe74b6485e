"""Train a batch of cells in one vectorised program, the same way in every backend.

A batch is a number of cells whose settings differ in nothing but the learning rate. This module makes the folds, the
orders of rows and the initial weights, the same for every backend. The backend supplies the program that trains all
cells of the batch together.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.grid import Cell
from tasks.core.design.initializers import named
from tasks.core.design.settings import CellSettings, Split
from tasks.core.training import bits, datasets, meanfield, memory, reference, seeds
from tasks.core.training.backend import Framework, Program, Progress, Stack
from tasks.core.training.datasets import Dataset, Fold
from tasks.core.training.health import Signals
from tasks.core.training.meanfield import Theory
from tasks.core.training.outcome import Curves, Outcome, Predictions, Trained
from tasks.core.training.reference import Clock
from tasks.core.training.weights import fans, initial_weights, stacked

Orders = list[NDArray[np.int32]]
"""The order in which each cell visits the rows, (epochs, rows); cells of a seed share one array."""


def train(
    framework: Framework,
    settings: CellSettings,
    cells: Sequence[Cell],
    rates: Sequence[float] = (),
    *,
    clock: Clock,
    processor: Clock | None = None,
) -> list[Outcome]:
    """Train cells with these settings together, and return their outcomes in the same order.

    rates: the learning rate of each cell; without any, all have that of the settings. The `seconds` of a cell are the
    batch's training time by the clock, divided by the number of cells, without the time for compiling and for the
    signals before training. processor: the processor time of this process; only with it cells have a pace.
    """
    program, folds, orders = started(framework, settings, cells, rates)
    untrained = bits.of_cells(program.variables(), len(cells))
    start, before = program.probe(), program.measure()
    program.run(_stacked(orders, slice(0)))
    after, seconds, pace = reference.timed(lambda: _run(program, orders), len(cells), clock, processor)
    scores = np.concatenate([before.scores, after.scores])
    logits, variables = program.logits(), program.variables()
    gradients, trained = (bits.of_cells(each, len(cells)) for each in (start.gradients, variables))
    theories = _theories(settings, cells, folds, outputs=logits.shape[-1])
    guess = 1.0 if folds[0].real else float(np.log(logits.shape[-1]))
    return [
        Outcome.of(
            cell,
            Trained(
                curves=Curves(*scores[:, at].T),
                predictions=Predictions.of(fold, logits[at]),
                weights={name: stack[at] for name, stack in variables.items()},
                signals=Signals.of(start, at, theories[at], after.state[:, at], after.flow[:, at], guess),
                seconds=seconds,
                bits=bits.Bits(untrained[at], gradients[at], trained[at]),
                pace=pace,
            ),
        )
        for at, (cell, fold) in enumerate(zip(cells, folds, strict=True))
    ]


def _stacked(orders: Orders, epochs: slice) -> NDArray[np.int32]:
    """Return these epochs of the cells' orders, (epochs, cells, rows)."""
    return np.stack([order[epochs] for order in orders], axis=1)


def _run(program: Program, orders: Orders) -> Progress:
    """Train the cells on the rows in their orders, of which the program gets as many epochs at once as ORDERS holds."""
    epochs = len(orders[0])
    size = max(1, epochs * memory.ORDERS // sum(order.nbytes for order in orders))
    parts = [program.run(_stacked(orders, slice(at, at + size))) for at in range(0, epochs, size)]
    return Progress(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Progress)))


def _theories(settings: CellSettings, cells: Sequence[Cell], folds: Sequence[Fold], *, outputs: int) -> list[Theory]:
    """Return the theory of each cell, computed once for cells with equal initializer and mean square of the inputs."""
    known: dict[tuple[str, float], Theory] = {}
    network = settings.perceptron
    sizes = fans(network, folds[0].x_train.shape[1], outputs)
    points = [
        (cell.initializer, round(float(np.mean(np.square(fold.x_train, dtype=np.float64))), 5))
        for cell, fold in zip(cells, folds, strict=True)
    ]
    for name, square in set(points):
        known[name, square] = meanfield.expected(network, named(name), settings.backend, sizes, square)
    return [known[point] for point in points]


def started(
    framework: Framework, settings: CellSettings, cells: Sequence[Cell], rates: Sequence[float] = ()
) -> tuple[Program, list[Fold], Orders]:
    """Return a program that holds the cells' data and initial weights, with each cell's fold and order of rows.

    The rates are those of `train`.
    """
    dataset = datasets.load(settings.dataset)
    recipe = settings.recipe
    problem = dataset.problem
    sizes = fans(settings.perceptron, problem.shape[0], problem.outputs)
    by_seed = _folds(dataset, settings.split, cells)
    orders = {
        seed: datasets.visits(
            len(fold.y_train), recipe.epochs, seeds.chosen(recipe.order_seed, seed), shuffle=recipe.shuffle
        )
        for seed, fold in by_seed.items()
    }
    folds = [by_seed[cell.seed] for cell in cells]
    program = framework.program(settings.perceptron, settings.shared.recipe, sizes, len(cells), problem.task)
    weights = [
        initial_weights(framework, settings, cell, sizes, fold.x_train) for cell, fold in zip(cells, folds, strict=True)
    ]
    program.start(Stack.of(folds), stacked(weights), rates or [recipe.learning_rate] * len(cells))
    return program, folds, [orders[cell.seed] for cell in cells]


def _folds(dataset: Dataset, split: Split, cells: Sequence[Cell]) -> dict[int, Fold]:
    """Return the fold of each seed; where the study gives a number, that seed splits the rows for all."""
    seeds_of_cells = dict.fromkeys(cell.seed for cell in cells)
    if isinstance(split.seed, int):
        return dict.fromkeys(seeds_of_cells, datasets.divide(dataset, split, split.seed))
    return {seed: datasets.divide(dataset, split, seed) for seed in seeds_of_cells}

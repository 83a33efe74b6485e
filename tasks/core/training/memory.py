"""How much memory training takes, and how much disk space the record of a cell.

What is computed at once is cut to a budget, and batches to the memory that is free.

All counts are estimates: how many float32 numbers there are, times how many copies exist at once, as measured in both
backends.
"""

import math
from dataclasses import fields
from itertools import pairwise

from tasks.core.design.settings import CellSettings
from tasks.core.training.datasets import Dataset
from tasks.core.training.outcome import Curves
from tasks.core.training.signals import FLOW, STATE
from tasks.core.training.weights import fans

PLACES = (2, 16, 48, 128)  # cells in one program; Keras compiles each size for seconds, and computes empty places, too
FLOAT = 4  # bytes
BUDGET = 2**28  # bytes of one forward pass over all rows; of more cells, some are measured after the others
ORDERS = 2**26  # bytes of the orders of rows that a program is given at once
COPIES = 14  # of a cell's weights: with gradient, moments, what they were before, and what is sent to be recorded
PASSES = 6  # numbers of each unit and row in a forward pass, or in a step, that are there at once
READINGS = 5  # of the dataset in float64: as read, checked and scaled
FOLDS = 3  # of each fold: for the cells, stacked, and in the framework
PROCESS = 2**29  # a trainer with its framework, before it trains
RUN = 2**15  # of a cell's run in the store, but for its points
POINT = 400  # of a metric at one epoch, with its entries in four indexes
DIGITS = 20  # of a number in a CSV file
PROBED_ROWS = 128  # train rows on which the signals of a network of one's own are measured before training
SECOND = 4  # times the numbers of a step are there while a gradient is differentiated once more


def at_once(rows: int, sizes: tuple[int, ...]) -> int:
    """Return how many cells fit into BUDGET in one forward pass over this many rows: a power of two, at least 2.

    sizes: those of all layers, the inputs first.

    >>> at_once(120, (4, 64, 32, 3)), at_once(48_000, (784, 64, 32, 10))
    (512, 2)
    """
    return int(2 ** max(1, math.floor(math.log2(BUDGET / _pass(rows, sizes)))))


def rows_at_once(activations: int) -> int:
    """Return how many rows fit into BUDGET in one forward pass; activations: the numbers that layers give for a row.

    >>> rows_at_once(100_000)
    111
    """
    return max(1, BUDGET // (FLOAT * PASSES * max(activations, 1)))


def needed_by_own(settings: CellSettings, dataset: Dataset, parameters: int, activations: int) -> int:
    """Return about how many bytes a trainer takes that trains one cell of a network of one's own.

    It is PROCESS, and of numbers of four bytes: the data, which are read, checked, scaled and divided; COPIES of each
    parameter; and PASSES times the numbers that the layers give for the rows of a step, or SECOND times as many for
    the rows on which signals are measured before training, whichever is more. Evaluation takes BUDGET at most.
    """
    rows = len(dataset.y)
    size = rows if settings.recipe.batch_size == "full" else min(settings.recipe.batch_size, rows)
    data = dataset.x.size * (2 * READINGS + FOLDS)
    step = PASSES * activations * max(size, SECOND * min(rows, PROBED_ROWS))
    return PROCESS + FLOAT * (data + COPIES * parameters + step) + min(BUDGET, FLOAT * PASSES * activations * rows)


def _pass(rows: int, sizes: tuple[int, ...]) -> int:
    """Return the bytes of a pass of one cell over this many rows."""
    return FLOAT * rows * (sizes[0] + PASSES * sum(sizes[1:]))


def needed(settings: CellSettings, dataset: Dataset, *, cells: int, folds: int) -> int:
    """Return about how many bytes a trainer takes, with this many cells of these settings and this many folds."""
    sizes = fans(settings.perceptron, dataset.x[0].size, dataset.problem.outputs)
    rows = len(dataset.y)
    train = math.ceil((1 - settings.split.test_fraction) * (1 - settings.split.validation_fraction) * rows)
    size = train if settings.recipe.batch_size == "full" else min(settings.recipe.batch_size, train)
    weights, _ = perceptron(settings, dataset)
    data = rows * sizes[0] * (2 * READINGS + FOLDS * folds)
    orders = folds * train * settings.recipe.epochs
    measured = min(cells, at_once(rows, sizes)) * _pass(rows, sizes)
    return PROCESS + FLOAT * (data + orders + cells * COPIES * weights) + cells * _pass(size, sizes) + measured


def perceptron(settings: CellSettings, dataset: Dataset) -> tuple[int, int]:
    """Return how many weights and how many layers a perceptron of these settings has."""
    sizes = fans(settings.perceptron, dataset.x[0].size, dataset.problem.outputs)
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes)), len(sizes) - 1


def recorded(settings: CellSettings, dataset: Dataset, weights: int, layers: int, *, full: bool) -> int:
    """Return about how many bytes of disk the record of a cell takes; full: signals of each layer are points, too."""
    epochs, problem = settings.recipe.epochs + 1, dataset.problem
    rows = dataset.held or math.ceil(settings.split.test_fraction * len(dataset.y))
    told = rows * problem.outputs * max(1, problem.positions)
    signals = epochs * layers * len((*STATE, *FLOW))
    curves = epochs * len(fields(Curves))
    return RUN + FLOAT * weights + DIGITS * (told + curves + signals) + POINT * (curves + (signals if full else 0))


def most(settings: CellSettings, dataset: Dataset, *, folds: int, free: int) -> int:
    """Return how many cells of these settings to train at once in this many bytes: one of PLACES."""
    fitting = (size for size in PLACES[::-1] if needed(settings, dataset, cells=size, folds=folds) <= free)
    return next(fitting, PLACES[0])

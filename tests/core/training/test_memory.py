import numpy as np
import pytest

from tasks.core.design.settings import Network, Recipe
from tasks.core.design.study import Study
from tasks.core.training import datasets, memory
from tasks.core.training.backend import Stack
from tasks.core.training.datasets import Dataset

SETTINGS = Study().settings("pytorch", ())
GIB = 2**30


def table(rows, features):
    """Return a dataset of this size that takes no memory."""
    x = np.broadcast_to(0.0, (rows, features))
    return Dataset("mine", x, np.broadcast_to(0, rows), tuple(map(str, range(features))), 10)


def test_cells_share_folds():
    """The rows of a fold are there once, however many cells train on them."""
    iris = datasets.load("iris")
    one, other = (datasets.divide(iris, SETTINGS.split, seed) for seed in (0, 1))
    stack = Stack.of([one, other, one, one])
    assert (len(stack.arrays[0]), stack.fold.tolist()) == (2, [0, 1, 0, 0])
    np.testing.assert_array_equal(stack.arrays[0][stack.fold[1]], other.x_train)


def test_validation_rows_are_held_and_not_trained_on():
    """Validation rows are a part of the fold that takes memory too; the orders visit the train rows alone."""
    split = SETTINGS.split.model_copy(update={"validation_fraction": 0.25})
    iris = datasets.load("iris")
    stack = Stack.of([datasets.divide(iris, split, 0)] * 3)
    assert ([len(array) for array in stack.arrays], stack.rows) == ([1] * 6, 150)
    parted = SETTINGS.model_copy(update={"split": split, "recipe": Recipe(epochs=1000)})
    whole, fewer = (
        memory.needed(each, iris, cells=2, folds=7)
        for each in (parted.model_copy(update={"split": SETTINGS.split}), parted)
    )
    assert whole - fewer == pytest.approx(7 * 30 * 1000 * memory.FLOAT, rel=0.05)


def test_estimates_are_near_what_was_measured():
    """A trainer with 32 cells on 5,000 x 784 rows took 1.2 GB in PyTorch, and in 128 places 1.7 GB in Keras."""
    estimates = [memory.needed(SETTINGS, table(5_000, 784), cells=cells, folds=4) / 1e9 for cells in (32, 128)]
    assert estimates == pytest.approx([1.2, 1.7], rel=0.25)


def test_a_record_is_near_what_was_measured():
    """A cell of iris with 8 hidden units and 2 epochs took 40 kB of disk, and weights count where they are many."""
    small, wide = (
        SETTINGS.model_copy(update={"network": network, "recipe": Recipe(epochs=2)})
        for network in (Network(hidden=(8,)), Network(width=1024, depth=10))
    )

    def estimate(settings, *, full=False):
        return memory.recorded(settings, table(150, 4), *memory.perceptron(settings, table(150, 4)), full=full)

    assert estimate(small) == pytest.approx(40e3, rel=0.25)
    weights = 4 * 9 * 1024 * 1024
    assert weights < estimate(wide) < estimate(wide, full=True) < 1.1 * weights


def test_features_of_arrays_count():
    """A perceptron on arrays, whose features have no names, has as many weights as one on a table of the same size."""
    named = table(5, 784)
    nameless = Dataset("mine", named.x, named.y, (), 10)
    assert memory.perceptron(SETTINGS, nameless) == memory.perceptron(SETTINGS, named) == (52_650, 3)


def test_large_data_fit_where_they_fit():
    """60,000 x 784 rows take some GB and not 140, because cells share them and are measured a few at a time."""
    assert memory.needed(SETTINGS, table(60_000, 784), cells=128, folds=10) < 11 * GIB


def test_batches_follow_memory():
    """The less memory is free, the fewer cells train together, but never fewer than two."""
    wide = SETTINGS.model_copy(update={"network": Network(width=1024, depth=10)})
    sizes = [memory.most(wide, table(150, 4), folds=1, free=free * GIB) for free in (100, 20, 2, 0)]
    assert sizes == [128, 16, 2, 2]
    full = SETTINGS.model_copy(update={"recipe": Recipe(batch_size="full")})
    few, many = (memory.needed(each, table(5_000, 784), cells=128, folds=1) for each in (SETTINGS, full))
    assert many > few + 128 * 4_000 * 784 * memory.FLOAT

"""What training together must not change, in either backend."""

import numpy as np
import pytest

from tasks.backends import keras, pytorch
from tasks.core.study import Recipe, Study
from tests.backends.programs import EXPLODING, cells_of, train

each_framework = pytest.mark.parametrize("framework", [pytorch, keras], ids=["pytorch", "keras"])


def assert_same(one, other):
    for name, array in one.trained.weights.items():
        np.testing.assert_array_equal(other.trained.weights[name], array)
    np.testing.assert_array_equal(other.trained.curves.test_accuracy, one.trained.curves.test_accuracy)


@each_framework
@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 64, 130])
def test_numbers_do_not_depend_on_the_batch(framework, size):
    """A cell's weights are the same, bit for bit, in a batch of any size and at either end of it."""
    study = Study(recipe=Recipe(epochs=2), seeds=17)
    cells = cells_of(framework, study)[:size]
    alone = train(framework, study, cells[-1:])[0]
    assert_same(alone, train(framework, study, cells)[-1])
    assert_same(alone, train(framework, study, cells[::-1])[0])


@each_framework
def test_divergence_stays_in_its_cell(framework):
    """An initializer that explodes is an outcome of its own cell; its neighbour ends as it would alone."""
    exploded, neighbour = train(framework, EXPLODING, cells_of(framework, EXPLODING))
    assert (exploded.status, neighbour.status) == ("diverged", "finished")
    assert "not finite at epoch" in exploded.reason
    assert_same(train(framework, EXPLODING, [neighbour.cell])[0], neighbour)

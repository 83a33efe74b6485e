"""What the tests of both backends share: studies, and one cell's inputs outside of any batch."""

import time

from tasks.core import datasets, training
from tasks.core.study import Cell, Network, Recipe, Study

STUDIES = {
    "adam": Study(recipe=Recipe(epochs=3), seeds=3),
    "adam, framework's epsilon": Study(recipe=Recipe(epochs=3, epsilon="framework"), seeds=3),
    "sgd, full batch": Study(recipe=Recipe(optimizer="sgd", epochs=5, batch_size="full"), seeds=3),
    "tanh, framework's biases": Study(
        network=Network(hidden=(8,), activation="tanh", bias="framework"), recipe=Recipe(epochs=2), seeds=3
    ),
    "no hidden layer": Study(network=Network(hidden=()), recipe=Recipe(epochs=2), seeds=3),
}

EXPLODING = Study(
    initializers=("ones", "random_normal"),
    seeds=1,
    network=Network(hidden=(64, 64, 64, 64), activation="linear"),
    recipe=Recipe(optimizer="sgd", epochs=3),
)


def train(framework, study, cells):
    return training.train(framework, study, cells, clock=time.perf_counter)


def cells_of(framework, study):
    return [cell for cell in study.cells() if cell.backend == framework.NAME]


def inputs(framework, study, cell: Cell):
    """Return a cell's fold, order of rows and initial weights, as the vectorised program gets them."""
    data = datasets.load(study.dataset)
    recipe = study.recipe_for(cell.backend)
    fold = datasets.divide(data, study.split, cell.seed)
    order = datasets.visits(len(fold.y_train), recipe.epochs, cell.seed, shuffle=recipe.shuffle)
    sizes = training.fans(study.network, len(data.features), data.classes)
    return fold, order, training.initial_weights(framework, study, cell, sizes)

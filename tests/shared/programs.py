"""What the tests of both backends share: studies, and one cell's inputs outside of any batch."""

import time

from tasks.core.design import grid
from tasks.core.design.activations import ACTIVATIONS
from tasks.core.design.grid import Cell
from tasks.core.design.settings import Network, Recipe
from tasks.core.design.study import Study
from tasks.core.training import batch, datasets, weights

FEW = ("he_normal", "random_normal", "lsuv")


def study(epochs=2, network=None, initializers=FEW, **recipe):
    return Study(
        initializers=initializers,
        network=Network(**(network or {"hidden": (16, 16)})),
        recipe=Recipe(epochs=epochs, **recipe),
        seeds=2,
    )


SETTINGS = {
    "adam": study(epsilon="framework"),
    "sgd, full batch": study(5, optimizer="sgd", batch_size="full"),
    "momentum, L2": study(optimizer="momentum", learning_rate=0.05, weight_decay=0.1),
    "adam, L2, last batch smaller": study(weight_decay=0.1, batch_size=50, epsilon="framework"),
    "adamw": study(optimizer="adamw", weight_decay=0.1, epsilon="framework"),
    "clipped by norm": study(optimizer="sgd", learning_rate=0.5, clip_norm=0.1),
    "clipped by value": study(optimizer="momentum", learning_rate=0.5, clip_value=0.01),
    "clipped by value, then L2": study(optimizer="momentum", learning_rate=0.5, clip_value=0.01, weight_decay=0.01),
    "batch normalization": study(network={"hidden": (16, 16), "normalization": "batch"}, optimizer="sgd"),
    "layer normalization": study(network={"hidden": (16, 16), "normalization": "layer"}, optimizer="sgd"),
    "residual": study(network={"width": 16, "depth": 3, "residual": True}, epsilon="framework"),
    "no hidden layer": study(network={"hidden": ()}, epsilon="framework"),
    "framework's biases": study(network={"hidden": (8,), "bias": "framework"}, epsilon="framework"),
    **{
        activation: study(network={"hidden": (8, 8), "activation": activation}, optimizer="momentum")
        for activation in ACTIVATIONS
    },
}
"""Every setting of network and recipe, in a study small enough to train plainly."""

EXPLODING = Study(
    initializers=("ones", "random_normal"),
    seeds=1,
    network=Network(hidden=(64, 64, 64, 64), activation="linear"),
    recipe=Recipe(optimizer="sgd", epochs=3),
)


def train(framework, study, cells, rates=()):
    return batch.train(framework, study.settings(framework.NAME, ()), cells, rates, clock=time.perf_counter)


def cells_of(framework, study):
    return [cell for cell in grid.cells(study) if cell.backend == framework.NAME]


def apart(one, other):
    """Return for each stage of two outcomes' digests the parameters in which they differ."""
    stages = ((getattr(each.trained.bits, stage) for each in (one, other)) for stage in ("start", "gradient", "end"))
    return [[name for name in ours if theirs[name] != ours[name]] for ours, theirs in stages]


def inputs(framework, study, cell: Cell):
    """Return a cell's fold, order of rows, initial weights and layer sizes, as the vectorised program gets them."""
    settings = study.settings(cell.backend, ())
    data = datasets.load(settings.dataset)
    recipe = settings.recipe
    fold = datasets.divide(data, settings.split, cell.seed)
    order = datasets.visits(len(fold.y_train), recipe.epochs, cell.seed, shuffle=recipe.shuffle)
    sizes = weights.fans(settings.network, len(data.features), data.classes)
    return fold, order, weights.initial_weights(framework, settings, cell, sizes, fold.x_train), sizes

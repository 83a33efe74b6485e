"""What signals cost a network of one's own: `python -m tests.benchmarks.own residual pytorch`, or another example.

Times a cell of an example, with all signals, against a plain loop that trains and scores the same without any, in turn
within one run, and prints the medians of processor time and their ratio. The examples are `residual`, `encoder` and
`recurrent`, in `pytorch` or `keras`; the plain way of Keras is one compiled model that takes other weights, so that
nothing is compiled in either.
"""

import importlib
import sys
import time
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from flows import new, studies
from tasks.core.design import grid
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import CellSettings
from tasks.core.design.study import Study
from tasks.core.training import datasets, own
from tasks.core.training.backend import Builder
from tasks.core.training.datasets import Dataset

ROUNDS = 3


def plain_pytorch(build, settings, data, cell):
    """Train as a plain loop, and score train and test rows after each epoch."""
    import torch

    fold, order = parts(settings, data, cell)
    torch.manual_seed(cell.seed)
    model = build(data.problem.shape, data.problem.outputs)
    recipe = settings.recipe
    rule = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    optimizer = rule(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    x, y, *test = (torch.from_numpy(each) for each in (fold.x_train, fold.y_train, fold.x_test, fold.y_test))
    for epoch in torch.from_numpy(order).long():
        model.train()
        for rows in epoch.split(recipe.batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for inputs, labels in ((x, y), test):
                given = model(inputs)
                torch.nn.functional.cross_entropy(given, labels).item()
                (given.argmax(-1) == labels).float().mean().item()


def plain_keras(model, initial, settings, data, cell):
    """Train by `fit` of a model that is compiled, from the same weights each time, scored after each epoch."""
    fold, _ = parts(settings, data, cell)
    model.set_weights(initial)
    for variable in model.optimizer.variables:
        if "learning_rate" not in variable.path:
            variable.assign(np.zeros(variable.shape))
    size = settings.recipe.batch_size
    for _ in range(settings.recipe.epochs):
        model.fit(fold.x_train, fold.y_train, batch_size=size, epochs=1, verbose=0)
        for x, y in ((fold.x_train, fold.y_train), (fold.x_test, fold.y_test)):
            model.evaluate(x, y, batch_size=len(x), verbose=0)


def parts(settings, data, cell):
    fold = datasets.divide(data, settings.split, cell.seed)
    return fold, datasets.visits(len(fold.y_train), settings.recipe.epochs, cell.seed, shuffle=True)


def asked(name: str, backend: Backend) -> tuple[Study, CellSettings, Builder]:
    """Return the study of an example, the settings of its cells in a backend, and what builds their network."""
    study = studies.load(str(new.EXAMPLES / f"{name}.yaml"))
    reference = study.network.build.get(backend, f"tests.benchmarks.own_keras:{name}")
    network = study.network.model_copy(update={"build": {backend: reference}})
    study = study.model_copy(update={"backends": (backend,), "network": network})
    settings = study.at(study.levels()[0]).settings(backend, ())
    module, _, function = reference.partition(":")
    return study, settings, partial(getattr(importlib.import_module(module), function), **settings.own.options)


def compiled(build: Builder, settings: CellSettings, data: Dataset) -> Any:
    """Return a Keras model with the optimizer of the recipe."""
    import keras

    recipe, model = settings.recipe, build(data.problem.shape, data.problem.outputs)
    adamw = partial(keras.optimizers.AdamW, weight_decay=recipe.weight_decay)
    rule = adamw if recipe.optimizer == "adamw" else keras.optimizers.Adam
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(rule(recipe.learning_rate), loss, metrics=["accuracy"])
    return model


def main() -> None:
    name, backend = sys.argv[1:]
    framework = importlib.import_module(f"tasks.backends.{backend}")
    framework.setup(threads=1)
    sys.path.insert(0, str(new.EXAMPLES))
    study, settings, build = asked(name, backend)
    loader = getattr(importlib.import_module("digits_data"), study.dataset.load.partition(":")[2])
    datasets.hold(study.dataset, data := datasets.of_arrays(study.dataset, "digits", loader()))
    cell = grid.cells(study)[0]

    def ours():
        outcome = own.train(framework, build, settings, cell, settings.recipe.learning_rate, clock=time.process_time)
        training.append(outcome.trained.seconds)

    if backend == "keras":
        model = compiled(build, settings, data)
        plainly = partial(plain_keras, model, model.get_weights(), settings, data, cell)
    else:
        plainly = partial(plain_pytorch, build, settings, data, cell)
    training: list[float] = []
    measured: dict[str, list[float]] = {"a cell": [], "plain": []}
    for at in range(ROUNDS + 1):
        for label, way in (("a cell", ours), ("plain", plainly)):
            begun = time.process_time()
            way()
            if at:  # the first one compiles
                measured[label].append(time.process_time() - begun)
    cost, base = (median(measured[label]) for label in ("a cell", "plain"))
    before = 1000 * (cost - median(training[1:]))
    print(f"{name}, {backend}: a cell {1000 * cost:.0f} ms ({before:.0f} ms of it before training)")  # noqa: T201
    print(f"plain {1000 * base:.0f} ms; ratio {cost / base:.2f}, in training {median(training[1:]) / base:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()

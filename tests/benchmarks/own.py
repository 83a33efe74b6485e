"""What signals cost a network of one's own: `python -m tests.benchmarks.own residual`, or another example.

Times a cell of an example, with all signals, against a plain loop that trains and scores the same without any, in turn
within one run, and prints the medians and their ratio. The examples are `residual`, `encoder`, `recurrent` and `keras`,
which is the LSTM in Keras; its plain way is one compiled model that takes other weights, so that nothing is compiled in
either.
"""

import importlib
import sys
import time
from functools import partial
from statistics import median

import numpy as np

from flows import new, studies
from tasks.core.design import grid
from tasks.core.training import datasets, own

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


def main() -> None:
    name = sys.argv[1]
    backend, file = ("keras", "recurrent") if name == "keras" else ("pytorch", name)
    framework = importlib.import_module(f"tasks.backends.{backend}")
    framework.setup(threads=1)
    sys.path.insert(0, str(new.EXAMPLES))
    study = studies.load(str(new.EXAMPLES / f"{file}.yaml"))
    settings = study.at(study.levels()[0]).settings(backend, ())
    module, _, function = settings.own.build[backend].partition(":")
    build = partial(getattr(importlib.import_module(module), function), **settings.own.options)
    loader = getattr(importlib.import_module("digits_data"), study.dataset.load.partition(":")[2])
    datasets.hold(study.dataset, data := datasets.of_arrays(study.dataset, "digits", loader()))
    cell = next(each for each in grid.cells(study) if each.backend == backend)

    def ours():
        outcome = own.train(framework, build, settings, cell, settings.recipe.learning_rate, clock=time.perf_counter)
        training.append(outcome.trained.seconds)

    if backend == "keras":
        import keras

        model = build(data.problem.shape, data.problem.outputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(settings.recipe.learning_rate), loss, metrics=["accuracy"])
        plainly = partial(plain_keras, model, model.get_weights(), settings, data, cell)
    else:
        plainly = partial(plain_pytorch, build, settings, data, cell)
    training: list[float] = []
    measured: dict[str, list[float]] = {"a cell": [], "plain": []}
    for at in range(ROUNDS + 1):
        for label, way in (("a cell", ours), ("plain", plainly)):
            begun = time.perf_counter()
            way()
            if at:  # the first one compiles
                measured[label].append(time.perf_counter() - begun)
    cost, base = (median(measured[label]) for label in ("a cell", "plain"))
    before = 1000 * (cost - median(training[1:]))
    print(f"{name}: a cell {1000 * cost:.0f} ms ({before:.0f} ms of it before training)")  # noqa: T201
    print(f"plain {1000 * base:.0f} ms; ratio {cost / base:.2f}, in training {median(training[1:]) / base:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()

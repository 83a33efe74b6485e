"""The ways that `peers.py` measures: `python -m tests.benchmarks.peer_ways WAY SEEDS INITIALIZER…`, in a new folder."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from tasks.core.design.study import Study
from tasks.core.training import datasets

STUDY = Study()
RECIPE = STUDY.recipe
RECORDED = {
    "initbench": "signals of each layer, probabilities, weights, theory, health",
    "notebook": "nothing",
    "prefect": "autolog's params and model summary (Keras), the task's state",
    "joblib": "nothing",
    "hydra": "its settings and log of each cell as files",
    "ray": "its own results of each epoch as files",
    "benchopt": "its own table of results",
}
Curves = dict[str, list[float]]


def fold(seed):
    return datasets.divide(datasets.load("iris"), STUDY.split, seed)


def pytorch(initializer, seed, report=None):
    """Train one cell in PyTorch as a tutorial does, and return its curves; `report` gets the numbers of each epoch."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = fold(seed)
    sizes = (data.x_train.shape[1], *STUDY.network.units, 3)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    for layer in layers:
        if initializer == "he_normal":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    model = nn.Sequential(*itertools.chain(*((layer, nn.ReLU()) for layer in layers[:-1])), layers[-1])
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=RECIPE.learning_rate), nn.CrossEntropyLoss()
    rows = {part: [torch.from_numpy(getattr(data, f"{axis}_{part}")) for axis in "xy"] for part in ("train", "test")}
    x, y = rows["train"]
    curves: Curves = {}
    for epoch in range(RECIPE.epochs + 1):
        if epoch:
            for batch in torch.randperm(len(y)).split(RECIPE.batch_size):
                optimizer.zero_grad()
                loss(model(x[batch]), y[batch]).backward()
                optimizer.step()
        measured = {}
        with torch.no_grad():
            for part, (inputs, labels) in rows.items():
                logits = model(inputs)
                measured[f"{part}_loss"] = loss(logits, labels).item()
                measured[f"{part}_accuracy"] = (logits.argmax(1) == labels).float().mean().item()
        for name, value in measured.items():
            curves.setdefault(name, []).append(value)
        if report:
            report(measured, epoch)
    return curves


def keras(initializer, seed, report=None):
    """Train one cell in Keras with `compile` and `fit`, and return what `pytorch` returns."""
    import keras as package

    package.utils.set_random_seed(seed)
    data = fold(seed)
    hidden = [package.layers.Dense(n, "relu", kernel_initializer=initializer) for n in STUDY.network.units]
    output = package.layers.Dense(3, kernel_initializer=initializer)
    model = package.Sequential([package.Input(data.x_train.shape[1:]), *hidden, output])
    model.compile(
        package.optimizers.Adam(RECIPE.learning_rate),
        package.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    test = (data.x_test, data.y_test)
    fitted = model.fit(
        data.x_train, data.y_train, batch_size=RECIPE.batch_size, epochs=RECIPE.epochs, validation_data=test, verbose=0
    ).history
    names = {
        "loss": "train_loss",
        "accuracy": "train_accuracy",
        "val_loss": "test_loss",
        "val_accuracy": "test_accuracy",
    }
    curves = {ours: list(map(float, fitted[theirs])) for theirs, ours in names.items()}
    if report:
        for epoch in range(RECIPE.epochs):
            report({name: values[epoch] for name, values in curves.items()}, epoch + 1)
    return curves


TRAIN = {"pytorch": pytorch, "keras": keras}


def cells(seeds, initializers):
    return [*itertools.product(TRAIN, initializers, range(seeds))]


def params(backend, initializer, seed):
    return {"backend": backend, "initializer": initializer, "seed": seed, "epochs": RECIPE.epochs}


def at_once(backend, initializer, seed):
    """Train a cell and log it by MLflow's client, in as few calls as can be."""
    client, begun = MlflowClient(), int(time.time() * 1000)
    curves = TRAIN[backend](initializer, seed)
    now = int(time.time() * 1000)
    run_id = client.create_run("0", begun).info.run_id
    points = [Metric(name, value, now, at) for name, values in curves.items() for at, value in enumerate(values)]
    settings = params(backend, initializer, seed).items()
    client.log_batch(run_id, points, [Param(name, str(value)) for name, value in settings])
    client.set_terminated(run_id)
    return curves


def notebook(todo):
    """Loop over the cells, with MLflow's fluent calls."""
    for cell in todo:
        with mlflow.start_run():
            mlflow.log_params(params(*cell))
            TRAIN[cell[0]](*cell[1:], report=mlflow.log_metrics)


def prefect(todo):
    """Run a task for each cell, as tutorials write it, two at a time."""
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    @task
    def train(*cell):
        mlflow.keras.autolog(log_models=False, log_datasets=False)
        with mlflow.start_run():
            mlflow.log_params({name: value for name, value in params(*cell).items() if name != "epochs"})
            curves = TRAIN[cell[0]](*cell[1:], report=mlflow.log_metrics if cell[0] == "pytorch" else None)
            mlflow.log_metrics({name: values[-1] for name, values in curves.items()}, step=RECIPE.epochs)

    @flow(task_runner=ThreadPoolTaskRunner(2))
    def benchmark():
        for future in [train.submit(*cell) for cell in todo]:
            future.result()

    benchmark()


def joblib(todo):
    """Have two processes take cells, by joblib."""
    from joblib import Parallel, delayed

    Parallel(n_jobs=2)(delayed(at_once)(*cell) for cell in todo)


HYDRA = "defaults: [override hydra/launcher: joblib]\nbackend: ''\ninitializer: ''\nseed: 0\n"


def hydra(todo):
    """Run a multirun of Hydra over backends, initializers and seeds, by its joblib launcher in two processes."""
    axes = [",".join(map(str, dict.fromkeys(axis))) for axis in zip(*todo, strict=True)]
    Path("config.yaml").write_text(
        "defaults: [override hydra/launcher: joblib]\nbackend: ''\ninitializer: ''\nseed: 0\n"
    )
    Path("app.py").write_text(
        "import hydra\nfrom tests.benchmarks.peer_ways import at_once\n"
        "@hydra.main(version_base=None, config_path='.', config_name='config')\n"
        "def main(config):\n    at_once(config.backend, config.initializer, config.seed)\n"
        "main()\n"
    )
    names = ("backend", "initializer", "seed")
    chosen = [f"{name}={values}" for name, values in zip(names, axes, strict=True)]
    subprocess.run([sys.executable, "app.py", "--multirun", "hydra.launcher.n_jobs=2", *chosen], check=True)


def ray(todo):
    """Run trials of Ray Tune, two at a time, with its MLflow callback."""
    from ray import init, tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    def trial(config):
        TRAIN[config["backend"]](
            config["initializer"], config["seed"], report=lambda found, epoch: tune.report({**found, "epoch": epoch})
        )

    backends, initializers, seeds = (list(dict.fromkeys(axis)) for axis in zip(*todo, strict=True))
    init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {name: tune.grid_search(axis) for name, axis in (("backend", backends), ("initializer", initializers))}
    callback = MLflowLoggerCallback(tracking_uri=os.environ["MLFLOW_TRACKING_URI"], experiment_name="ray")
    tune.Tuner(
        trial,
        param_space={**space, "seed": tune.grid_search(seeds)},
        run_config=tune.RunConfig(storage_path=str(Path.cwd()), callbacks=[callback], verbose=0),
    ).fit()


SOLVER = """
from benchopt import BaseSolver
from tests.benchmarks.peer_ways import at_once

class Solver(BaseSolver):
    name = "{name}"
    sampling_strategy = "run_once"
    parameters = {{"backend": ["pytorch", "keras"]}}

    def set_objective(self, seed):
        self.cell_seed = seed

    def run(self, _):
        self.curves = at_once(self.backend, "{name}", self.cell_seed)

    def get_result(self):
        return {{"accuracy": self.curves["test_accuracy"][-1]}}
"""
OBJECTIVE = """
from benchopt import BaseObjective

class Objective(BaseObjective):
    name = "cells"
    sampling_strategy = "run_once"

    def set_data(self, seed):
        self.seed_of_cells = seed

    def get_objective(self):
        return {"seed": self.seed_of_cells}

    def evaluate_result(self, accuracy):
        return {"value": 1 - accuracy}

    def get_one_result(self):
        return {"accuracy": 1.0}
"""
DATASET = """
from benchopt import BaseDataset

class Dataset(BaseDataset):
    name = "iris"
    parameters = {{"seed_of_cells": {seeds}}}

    def get_data(self):
        return {{"seed": self.seed_of_cells}}
"""


def benchopt(todo):
    """Run a benchmark of benchopt: a solver for each initializer, a dataset for each seed, in two processes."""
    _, initializers, seeds = (list(dict.fromkeys(axis)) for axis in zip(*todo, strict=True))
    files = {"objective.py": OBJECTIVE, "datasets/iris.py": DATASET.format(seeds=seeds)}
    files |= {f"solvers/{name}.py": SOLVER.format(name=name) for name in initializers}
    for name, text in files.items():
        Path("bench", name).parent.mkdir(parents=True, exist_ok=True)
        Path("bench", name).write_text(text)
    command = ["run", "bench", "--n-jobs", "2", "--no-plot", "--no-html", "--no-display"]
    subprocess.run([sys.executable, "-c", "from benchopt.cli import benchopt; benchopt()", *command[:-1]], check=True)


WAYS = {way.__name__: way for way in (notebook, prefect, joblib, hydra, ray, benchopt)}


def main():
    way, seeds, *initializers = sys.argv[1:]
    MlflowClient().search_experiments()  # makes the store, in which several processes would get into each other's way
    np.seterr(all="ignore")
    WAYS[way](cells(int(seeds), initializers))


if __name__ == "__main__":
    main()

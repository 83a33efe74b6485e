"""Train real cells under many ways of rounding: `python -m tests.benchmarks.watch.rounding` writes `rounding.npz`.

The name of a backend behind it trains that one alone, and ways behind that these alone. Each way is a number of
threads, and variables by which libraries choose their instructions, in a process of its own. The same cells are also
trained once with each of some faults planted. It takes some minutes.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from flows.studies import load
from tasks.core.design import grid
from tasks.core.design.columns import MEASURES
from tasks.core.design.initializers import BACKENDS, named
from tasks.core.design.settings import Network
from tasks.core.design.study import Study
from tasks.core.training import batch, seeds
from tasks.core.training.outcome import epochs_to_target

FILE = Path(__file__).with_name("rounding.npz")
SIGNALS = ("first_loss", "jacobian_mean_square")
MEASURED = (*(each.name for each in MEASURES if each.repeatable), *SIGNALS)
STATES = ("failed", "diverged", "healthy", "vanishing", "exploding", "dead", "symmetric")  # stored by their place
BRINK = "random_normal(std=0.265)"
"""At the network and recipe of `remedies`, about half of its cells diverge on Iris."""
STUDIES = {
    "iris": Study(seeds=20),
    "digits": Study(
        name="digits",
        dataset="digits",
        backends=("pytorch",),
        initializers=("glorot_uniform", "he_normal", "orthogonal", "zeros"),
        seeds=8,
    ),
    "brink": load("remedies")
    .at((("network.activation", "relu"), ("remedy", "none")))
    .model_copy(
        update={
            "name": "brink",
            "dataset": "iris",
            "seeds": 20,
            "initializers": ("he_normal", "zeros", "random_normal(std=0.01)", BRINK, "random_normal(std=0.5)"),
        }
    ),
    "normalized": Study(
        name="normalized",
        backends=("pytorch",),
        network=Network(hidden=(64, 32), normalization="batch"),
        initializers=("glorot_uniform", "he_normal", "orthogonal"),
    ),
}
ALONE = "one thread"
TWO = {"TRAINER_THREADS": "2"}
SSE = {"MKL_CBWR": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
PLAIN = {"ATEN_CPU_CAPABILITY": "default", "TF_ENABLE_ONEDNN_OPTS": "0"}
WAYS = {
    "pytorch": {
        ALONE: {},
        "two threads": TWO,
        "default kernels": PLAIN,
        "SSE 4": SSE,
    },
    "keras": {ALONE: {}, "two threads": TWO, "default kernels": PLAIN, "SSE 4": SSE},
}
"""Of each backend the ways to round, with the variables of the environment that choose them."""
DIGITS = tuple(f"last digit {k}" for k in range(1, 5))
"""More ways: start weights of which some are larger or smaller by a last digit, as other instructions draw them."""
FAULTS = {"variance": "iris", "weights": "iris", "order": "iris", "momentum": "normalized"}
"""The study whose cells are trained with each fault; those of `normalized` compile a program of their own."""
HE = named("he_normal").law.under("relu")
SCALE = 0.88**0.5  # so that a variance is 0.88 of what the law says
MOMENTUM = 0.01  # of a batch normalization, in place of 0.1


@contextmanager
def planted(framework, fault):
    """Plant a fault: a law, a stream of seeds or a batch normalization is not what it was; or change last digits."""
    own, drawn = (framework.native, seeds.STREAMS), batch.initial_weights
    if fault in DIGITS:
        rng = np.random.default_rng(DIGITS.index(fault))
        batch.initial_weights = lambda *given: [_jittered(rng, array) for array in drawn(*given)]
    if fault == "variance":
        framework.native = lambda law, *given: own[0](law, *given) * (SCALE if law == HE else 1)
    if fault in ("weights", "order"):
        swapped = {fault: "noise", "noise": fault}
        seeds.STREAMS = tuple(swapped.get(name, name) for name in seeds.STREAMS)
    if fault == "momentum":  # stays, as it is compiled into a program
        for module in ("cell", "network"):
            importlib.import_module(f"{framework.__name__}.{module}").NEWEST = MOMENTUM
    yield
    (framework.native, seeds.STREAMS), batch.initial_weights = own, drawn


def _jittered(rng, array):
    return array * (1 + np.finfo(np.float32).eps * rng.integers(-1, 2, array.shape)).astype(np.float32)


def trained(backend, way):
    """Train a backend's cells of all studies in a way; alone also with changed digits and with each fault."""
    framework = importlib.import_module(f"tasks.backends.{backend}")
    framework.setup(int(os.environ.get("TRAINER_THREADS", "1")))
    studies = [name for name, study in STUDIES.items() if backend in study.backends]
    asked = [(name, way) for name in studies]
    if way == ALONE:
        asked += [(name, digit) for digit in DIGITS for name in studies if name != "digits"]  # which takes long
        asked += [(name, fault) for fault, name in FAULTS.items() if name in studies]
    found = {}
    for name, label in asked:
        study = STUDIES[name]
        cells = [cell for cell in grid.cells(study) if cell.backend == backend]
        with planted(framework, label):
            outcomes = batch.train(framework, study.settings(backend, ()), cells, clock=time.perf_counter)
        found[f"{name}/{backend}/{label}"] = np.array([_row(each, study.target) for each in outcomes])
    return found


def _row(outcome, target):
    """Return a cell's state, as a place in STATES, and what was measured."""
    trained = outcome.trained
    reached = epochs_to_target(trained.curves.test_accuracy, target)
    known = trained.scalars | {
        "test_accuracy": trained.curves.test_accuracy[-1],
        "test_loss": trained.curves.test_loss[-1],
        "epochs_to_target": np.nan if reached is None else reached,
    }
    state = "diverged" if outcome.status == "diverged" else trained.health
    return [STATES.index(state), *(known[name] for name in MEASURED)]


def main(backend, *ways):
    """Train a backend's cells in these ways, or in every way and with every fault, and add them to the file."""
    for way in ways or WAYS[backend]:
        own = WAYS[backend][way]
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "cells.npz")
            command = [sys.executable, "-m", __spec__.name, backend, way, str(out)]
            own = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"} | own
            subprocess.run(command, check=True, env=os.environ | own)
            found = {name: array.astype(np.float32) for name, array in np.load(out).items()}
        known = dict(np.load(FILE)) if FILE.exists() else {}
        np.savez_compressed(FILE, **(known | found))
        print(f"{backend}, {way}: {time.perf_counter() - begun:.0f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    match sys.argv[1:]:
        case [backend, way, out] if out.endswith(".npz"):
            np.savez(out, **trained(backend, way))
        case []:
            for each in BACKENDS:
                main(each)
        case [backend, *chosen]:
            main(backend, *chosen)

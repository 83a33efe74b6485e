"""Train real cells under many ways of rounding: `python -m tests.benchmarks.watch.rounding` writes `rounding.npz`.

The name of a backend behind it trains that one alone. Each way is a number of threads, and variables by which libraries
choose their instructions, in a process of its own. The same cells are also trained once with each of some faults
planted. It takes some minutes.
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
        name="digits", dataset="digits", initializers=("glorot_uniform", "he_normal", "orthogonal", "zeros"), seeds=8
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
        network=Network(hidden=(64, 32), normalization="batch"),
        initializers=("glorot_uniform", "he_normal", "orthogonal"),
    ),
}
WAYS = {
    "one thread": {},
    "two threads": {"THREADS": "2"},
    "default kernels": {"ATEN_CPU_CAPABILITY": "default", "TF_ENABLE_ONEDNN_OPTS": "0"},
    "SSE 4": {"MKL_CBWR": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "compatible": {"MKL_CBWR": "COMPATIBLE", "TF_ENABLE_ONEDNN_OPTS": "0", "THREADS": "2"},
}
FAULTS = {"variance": "iris", "weights": "iris", "order": "iris", "momentum": "normalized"}
"""The study whose cells are trained with each fault; those of `normalized` compile a program of their own."""
HE = named("he_normal").law.under("relu")
SCALE = 0.88**0.5  # so that a variance is 0.88 of what the law says
MOMENTUM = 0.01  # of a batch normalization, in place of 0.1


@contextmanager
def planted(framework, fault):
    """Plant a fault: a law, a stream of seeds or a batch normalization is not what it was."""
    own = framework.native, seeds.STREAMS
    if fault == "variance":
        framework.native = lambda law, *given: own[0](law, *given) * (SCALE if law == HE else 1)
    if fault in ("weights", "order"):
        swapped = {fault: "noise", "noise": fault}
        seeds.STREAMS = tuple(swapped.get(name, name) for name in seeds.STREAMS)
    if fault == "momentum":  # stays, as it is compiled into a program
        for module in ("cell", "network"):
            importlib.import_module(f"{framework.__name__}.{module}").NEWEST = MOMENTUM
    yield
    framework.native, seeds.STREAMS = own


def trained(backend, way):
    """Train a backend's cells of all studies in a way, or with all faults if there is no way; return rows by study."""
    framework = importlib.import_module(f"tasks.backends.{backend}")
    framework.setup(int(os.environ.get("THREADS", "1")))
    found = {}
    for name, label in [(name, way) for name in STUDIES] if way else [(name, fault) for fault, name in FAULTS.items()]:
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


def main(backend):
    """Train a backend's cells in every way and with every fault, and add them to the file."""
    found = {}
    for way in (*WAYS, ""):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "cells.npz")
            own = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"} | WAYS.get(way, {})
            command = [sys.executable, "-m", __spec__.name, backend, way, str(out)]
            subprocess.run(command, check=True, env=os.environ | own)
            with np.load(out) as stored:
                found |= {name: array.astype(np.float32) for name, array in stored.items()}
        print(f"{backend}, {way or 'faults'}: {time.perf_counter() - begun:.0f} s", flush=True)  # noqa: T201
    known = dict(np.load(FILE)) if FILE.exists() else {}
    np.savez_compressed(FILE, **(known | found))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        backend, way, out = sys.argv[1:]
        np.savez(out, **trained(backend, way))
    else:
        for each in sys.argv[1:] or BACKENDS:
            main(each)

"""Made-up results that several tests share."""

import numpy as np
import pandas as pd

from tasks.core.design.columns import START, cell_columns
from tasks.core.training.health import Signals
from tasks.core.training.meanfield import Theory
from tasks.core.training.signals import FLOW, STATE, Start


def signals(
    forward=(1.0, 1.0, 1.0),
    backward=(1.0, 1.0, 1.0),
    *,
    alike=0.0,
    loss=1.1,
    dead=(0, 0),
    dead_first=0,
    finite=None,
    epochs=2,
):
    """Return the signals of a cell with two hidden layers; variances are given, everything else is unremarkable."""
    layers = np.ones((len(START), 3), np.float32)
    layers[START.index("pre_activation_variance")] = np.sqrt(forward)
    layers[START.index("gradient_variance")] = np.sqrt(backward)
    layers[START.index("units_alike")] = alike
    state = np.zeros((epochs + 1, len(STATE), 3), np.float32)
    state[:, STATE.index("saturated")] = np.nan
    state[:, STATE.index("finite")] = np.isfinite(forward)
    state[[0, -1], STATE.index("dead"), 1] = dead
    state[0, STATE.index("dead"), 0] = dead_first
    flow = np.ones((epochs, len(FLOW), 3), np.float32)
    if finite is not None:
        flow[:, FLOW.index("finite")] = finite
    scores, jacobians = np.array([[loss, 0.4, 2.0]], np.float32), np.eye(3, 4, dtype=np.float32)[None, None]
    theory = Theory(np.array([1.0, 0.5, 0.1]), np.array([0.5, 1.0]), np.array([0.5, 0.5]))
    return Signals.of(Start(layers[None], scores, jacobians, state[:1]), 0, theory, state[1:], flow, classes=3)


def cells(initializers=("zeros", "he_normal"), seeds=3, backends=("pytorch", "keras"), **levels):
    """Return finished cells, one row each; accuracy rises by 0.01 a seed, and by 0.05 for he_normal."""
    rows = [
        {
            "study": "iris",
            "backend": backend,
            **levels,
            "initializer": initializer,
            "seed": seed,
            "status": "finished",
            "health": "healthy",
            "test_accuracy": 0.9 + 0.01 * seed + 0.05 * (initializer == "he_normal"),
            "test_loss": 0.2,
            "brier_score": 0.1,
            "loss_area": 0.4,
            "train_accuracy": 1.0,
            "train_loss": 0.1,
            "epochs_to_target": 3.0 + seed,
            "forward_slope": np.log(0.5),
            "forward_slope_theory": np.log(0.5),
            "backward_slope": np.log(0.25),
            "train_seconds": 0.01,
            "horizon": 20,
            "test_rows": 30,
            "run_id": "r",
            "reason": "",
        }
        for backend in backends
        for initializer in initializers
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=cell_columns(levels))

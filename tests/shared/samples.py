"""Made-up results that several tests share."""

import numpy as np
import pandas as pd

from tasks.core.design.columns import CLAIMS, START, cell_columns
from tasks.core.training.health import Signals
from tasks.core.training.meanfield import Theory
from tasks.core.training.signals import FLOW, STATE, Start

THREE = ("glorot_uniform", "he_normal", "zeros")
NO_CLAIMS = pd.DataFrame(columns=list(CLAIMS))


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
    return Signals.of(Start(layers[None], scores, jacobians, state[:1]), 0, theory, state[1:], flow, guess=np.log(3))


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


def noisy(seeds=10, initializers=THREE, backends=("pytorch", "keras"), **levels):
    """Return cells of which zeros are far worse; the two others differ by noise alone, in every measure."""
    frame = cells(initializers, seeds, backends, **levels)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, len(frame))
    poor = frame["initializer"] == "zeros"
    frame["test_accuracy"] = (29 + rng.integers(-1, 2, len(frame)) - 15 * poor) / 30
    frame["test_loss"] = 0.2 + 0.05 * noise + poor
    frame["brier_score"] = 0.1 + 0.02 * noise + poor
    frame["loss_area"] = 0.4 + 0.05 * noise + poor
    frame["epochs_to_target"] = np.where(poor, np.nan, np.round(4 + noise))
    return frame


def history(depths=(2,), epochs=4, norm=1.0):
    """Return the rows of every cell's history.csv; the second layer's gradient is twice as long as the first one's."""
    rows = [
        {
            "epoch": epoch,
            "train_loss": 1 / (1 + epoch) + 0.1 * seed,
            "test_accuracy": 0.2 * epoch,
            "gradient_norm/layer_001": norm if epoch else np.nan,
            "gradient_norm/layer_002": 2 * norm if epoch and depth > 1 else np.nan,
            "depth": depth,
            "backend": backend,
            "initializer": initializer,
            "seed": seed,
            "status": "finished",
        }
        for depth in depths
        for backend in ("pytorch", "keras")
        for initializer in ("he_normal", "zeros")
        for seed in range(3)
        for epoch in range(epochs)
    ]
    return pd.DataFrame(rows)


def layers(depths=(2,)):
    """Return the rows of every cell's layers.csv; variances halve from layer to layer, as theory says."""
    rows = [
        {
            "layer": layer,
            "pre_activation_variance": 0.5**layer * (1 + seed),
            "gradient_variance": 3 * 0.5 ** (depth - layer),
            "theory_forward": 0.5**layer,
            "theory_backward": 0.5 ** (depth - layer) if layer <= depth else np.nan,
            "depth": depth,
            "backend": backend,
            "initializer": "he_normal",
            "seed": seed,
            "status": "finished",
        }
        for depth in depths
        for backend in ("pytorch", "keras")
        for seed in range(3)
        for layer in range(1, depth + 2)
    ]
    return pd.DataFrame(rows)

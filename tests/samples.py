"""Made-up results that several tests share."""

import numpy as np

from tasks.core.meanfield import Theory
from tasks.core.signals import FLOW, START, STATE, Signals, Start


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

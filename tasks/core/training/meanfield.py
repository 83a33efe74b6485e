"""What theory expects of signals at initialization: variances by layer, forward and backward.

The mean-field limit of wide layers (Poole et al., 2016; Schoenholz et al., 2017). One layer carries the second moment
of its inputs on by q ← σ_w² E[φ(√q z)²] + σ_b², and the variance of the gradient back by χ₁ = σ_w² E[φ′(√q z)²], where
σ_w² is fan_in (forward) or fan_out (backward) times the variance of a weight, z ~ N(0, 1). Gradients vanish where
χ₁ < 1 and explode where χ₁ > 1; 1 is the edge of chaos. Glorot & Bengio (2010) is the case φ′ = 1, He et al. (2015) the
case of ReLU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.activations import TABLE, ActivationName, expectation
from tasks.core.design.initializers import LSUV, Backend, Initializer, bias_bound, named
from tasks.core.design.settings import Network

Array = NDArray[np.float64]


def moments(activation: ActivationName, variance: float) -> tuple[float, float, float]:
    """Return E[φ(z)], E[φ(z)²] and E[φ′(z)²] for pre-activations z ~ N(0, variance).

    >>> [round(moment, 6) for moment in moments("relu", 2.0)]
    [0.56419, 1.0, 0.5]
    """
    if np.isnan(variance):
        return np.nan, np.nan, np.nan
    entry = TABLE[activation]
    return (
        expectation(entry.function, variance),
        expectation(lambda z: entry.function(z) ** 2, variance),
        expectation(lambda z: entry.slope(z) ** 2, variance),
    )


@dataclass(frozen=True)
class Theory:
    """Expected variances by layer; NaN where an initializer has no law of mean zero.

    forward: of the pre-activations of each layer, logits last, (layers,); backward: of the gradient in the hidden
    layers' pre-activations, as multiples of the last one's, (hidden layers,); chi: χ₁ of each hidden layer, (hidden
    layers,).
    """

    forward: Array
    backward: Array
    chi: Array


def expected(
    network: Network, initializer: Initializer, backend: Backend, fans: Sequence[int], second_moment: float
) -> Theory:
    """Return what theory expects of a network whose inputs have this mean square.

    Pre-activations are what the activation is given, so behind a normalization their variance is 1. A batch
    normalization divides by what varies from row to row, and its rows become independent of each other (Yang et al.,
    2019). A residual layer adds its inputs, independent of what it computes.
    """
    shapes = list(pairwise(fans))
    mean, square = 0.0, second_moment
    forward, gains, skips = [], [], []
    for layer, (fan_in, fan_out) in enumerate(shapes):
        last = layer == len(shapes) - 1
        own = not last or network.output_initializer == "same"
        entry = initializer if own else named(network.output_initializer)
        law = entry.law.under(network.activation)
        batch = network.normalization == "batch" and not last
        biases = law.bias_std**2
        if network.bias == "framework" and not law.bias_std:
            biases = bias_bound(entry, backend, fan_in) ** 2 / 3
        weight = 1 / (fan_in * square) if isinstance(law, LSUV) else law.variance(fan_in, fan_out)
        raw = fan_in * weight * (square - mean**2) if batch else fan_in * weight * square + biases
        normalized = network.normalization != "none" and not last
        q = 1.0 if normalized else raw
        forward.append(q)
        if last:
            break
        activated_mean, activated_square, slope_square = moments(network.activation, q)
        skip = network.residual and fan_in == fan_out
        square = activated_square + skip * (square + 2 * mean * activated_mean)
        mean = activated_mean + skip * mean
        gains.append((fan_out * weight / (raw if normalized else 1), slope_square))
        skips.append(skip)
    backward, upstream = [], 1.0
    for (through, slope_square), skip in zip(reversed(gains), reversed(skips), strict=True):
        backward.append(slope_square * upstream)
        upstream = skip * upstream + through * backward[-1]
    chi = np.array([through * slope_square for through, slope_square in gains])
    return Theory(np.array(forward), np.array(backward[::-1]) / (backward[0] if backward else 1), chi)


def log_slope(variances: Array) -> float:
    """Return the least-squares slope of ln variance over depth, per layer, or NaN if there is none.

    >>> round(log_slope(np.array([1.0, 0.5, 0.25])), 6)
    -0.693147
    """
    if len(variances) < 2 or not (np.isfinite(variances).all() and (variances > 0).all()):
        return float("nan")
    return float(np.polyfit(np.arange(len(variances)), np.log(variances), 1)[0])

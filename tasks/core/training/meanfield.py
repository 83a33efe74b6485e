"""What theory expects of the signals before training: variances by layer, forward and backward.

The theory is the mean-field limit of wide layers (Poole et al., 2016; Schoenholz et al., 2017). Let q be the variance
of a layer's pre-activations, φ the activation, φ′ its slope, σ_b² the variance of a bias, and z ~ N(0, 1).

- Forward, the next layer has the variance σ_w² E[φ(√q z)²] + σ_b², where σ_w² is fan_in times the variance of a weight.
- Backward, a layer multiplies the variance of the gradient by χ₁ = σ_w² E[φ′(√q z)²], where σ_w² is fan_out times the
  variance of a weight.

Gradients vanish if χ₁ < 1 and explode if χ₁ > 1; χ₁ = 1 is the edge of chaos. Glorot & Bengio (2010) treat the case
φ′ = 1, He et al. (2015) the case of ReLU.
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
    """Expected variances by layer; all NaN if the initializer has no law of mean zero.

    forward: variance of each layer's pre-activations, logits last, (layers,). backward: variance of the gradient in
    each hidden layer's pre-activations, as a multiple of that in the last hidden layer, (hidden layers,). chi: χ₁ of
    each hidden layer, (hidden layers,).
    """

    forward: Array
    backward: Array
    chi: Array


def expected(
    network: Network, initializer: Initializer, backend: Backend, fans: Sequence[int], second_moment: float
) -> Theory:
    """Return the theory of a network whose inputs have the mean square `second_moment`.

    A normalization sets the variance of the pre-activations to 1. A batch normalization divides by the part that varies
    from row to row, and makes rows independent (Yang et al., 2019). A residual layer adds its input to its output, and
    theory takes the two as independent.
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
    """Return the least-squares slope of ln(variance) over the layers, per layer; NaN if a variance is not positive.

    >>> round(log_slope(np.array([1.0, 0.5, 0.25])), 6)
    -0.693147
    """
    if len(variances) < 2 or not (np.isfinite(variances).all() and (variances > 0).all()):
        return float("nan")
    return float(np.polyfit(np.arange(len(variances)), np.log(variances), 1)[0])

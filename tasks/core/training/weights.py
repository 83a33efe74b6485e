"""The weights that a cell starts from, drawn layer by layer from random streams of the cell's seed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.activations import TABLE
from tasks.core.design.grid import Cell
from tasks.core.design.initializers import LSUV, bias_bound, named
from tasks.core.design.settings import CellSettings, Network
from tasks.core.training import seeds
from tasks.core.training.backend import NORMALIZATION_EPSILON, Framework, Weights
from tasks.core.training.datasets import Floats

LSUV_TOLERANCE = 0.1  # how far a variance may be from 1 (Mishkin & Matas, 2016)
LSUV_ROUNDS = 10  # divisions of one kernel, at most


def fans(network: Network, features: int, classes: int) -> tuple[int, ...]:
    """Return the sizes of all layers, the inputs first and the logits last.

    >>> fans(Network(), features=4, classes=3)
    (4, 64, 32, 3)
    """
    return (features, *network.units, classes)


def initial_weights(
    framework: Framework, settings: CellSettings, cell: Cell, sizes: tuple[int, ...], x_train: Floats
) -> Weights:
    """Draw a cell's weights; every kernel and every bias has a random stream of its own."""
    weights: Weights = []
    rescaled = []
    network = settings.perceptron
    seed = seeds.chosen(network.weights_seed, cell.seed)
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        own = layer < len(sizes) - 2 or network.output_initializer == "same"
        initializer = named(cell.initializer if own else network.output_initializer)
        law = initializer.law.under(network.activation)
        kernel_stream, bias_stream = (seeds.stream(seed, "weights", layer, part) for part in (0, 1))
        if settings.weights == "shared" or not law.native:
            kernel = law.draw(fan_in, fan_out, rng=np.random.default_rng(kernel_stream))
        else:
            kernel = framework.native(law, fan_in, fan_out, seeds.integer(kernel_stream))
        bound = bias_bound(initializer, framework.NAME, fan_in) if network.bias == "framework" else 0.0
        rng = np.random.default_rng(bias_stream)
        bias = rng.normal(0, law.bias_std, fan_out) if law.bias_std else rng.uniform(-bound, bound, fan_out)
        weights += [kernel, bias]
        rescaled += [layer] if isinstance(law, LSUV) else []
    return [array.astype(np.float32) for array in with_unit_variance(weights, rescaled, network, x_train)]


def with_unit_variance(weights: Weights, layers: Sequence[int], network: Network, x: Floats) -> Weights:
    """Rescale the kernels of some layers, first to last, so that their pre-activations on rows x have variance 1.

    Layer-sequential unit variance (LSUV; Mishkin & Matas, 2016, algorithm 1) divides a kernel by the standard deviation
    of its layer's pre-activations until their variance is within LSUV_TOLERANCE of 1. It gives up after LSUV_ROUNDS,
    and where all pre-activations are equal. A normalization, if the network has one, comes after the rescaled layer.
    """
    weights = list(weights)
    h = x.astype(np.float64)
    for layer in range(max(layers, default=-1) + 1):
        for _ in range(LSUV_ROUNDS if layer in layers else 0):
            deviation = (h @ weights[2 * layer] + weights[2 * layer + 1]).std()
            if abs(deviation**2 - 1) < LSUV_TOLERANCE or deviation == 0:
                break
            weights[2 * layer] = weights[2 * layer] / deviation
        z = h @ weights[2 * layer] + weights[2 * layer + 1]
        if network.normalization != "none":
            over = 0 if network.normalization == "batch" else 1
            z = _normalized(z, z.mean(over, keepdims=True), z.var(over, keepdims=True))
        h = _activated(network, z, h)
    return weights


def _normalized(z: NDArray[np.float64], mean: Any, variance: Any) -> NDArray[np.float64]:
    return np.asarray((z - mean) / np.sqrt(variance + NORMALIZATION_EPSILON))


def _activated(network: Network, z: NDArray[np.float64], h: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a hidden layer's output for its pre-activations z and its input h."""
    a: NDArray[np.float64] = TABLE[network.activation].function(z)
    return a + h if network.residual and a.shape == h.shape else a


def evaluated(weights: Weights, network: Network, x: Floats) -> NDArray[np.float64]:
    """Return the logits (rows, classes) of an untrained network for rows x, by its formula in float64.

    A batch normalization has seen no rows yet, so its running means are 0 and its running variances 1. Under it hidden
    layers have no biases.
    """
    h, layers = x.astype(np.float64), len(weights) // 2
    for layer in range(layers - 1):
        z = h @ weights[2 * layer]
        z = _normalized(z, 0.0, 1.0) if network.normalization == "batch" else z + weights[2 * layer + 1]
        if network.normalization == "layer":
            z = _normalized(z, z.mean(1, keepdims=True), z.var(1, keepdims=True))
        h = _activated(network, z, h)
    return h @ weights[-2] + weights[-1]


def stacked(weights: Sequence[Weights]) -> Weights:
    """Stack the weights of several cells along a new first axis."""
    return [np.stack(tensors) for tensors in zip(*weights, strict=True)]

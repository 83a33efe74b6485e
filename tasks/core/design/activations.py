"""The activations of hidden layers, with what theory needs: slopes, gains, and expectations under a normal law."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
ActivationName = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "tanh", "sigmoid", "linear"]
ACTIVATIONS: tuple[ActivationName, ...] = get_args(ActivationName)

LEAKY_SLOPE = 0.01  # slope of leaky_relu below zero, as in PyTorch; Keras's layer has .3 and its function .2
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717  # Klambauer et al. (2017)
REACH = 12.0  # standard deviations from zero to the ends of the integrals; 1e-33 of the mass lies beyond
NODES = 200  # of the quadrature, on each side of zero


@dataclass(frozen=True)
class Activation:
    """An activation φ and its slope φ′, for theory; a backend trains with its framework's own function.

    conventional_gain: the value of PyTorch's `calculate_gain`; None if PyTorch has none for the activation.
    """

    function: Function
    slope: Function
    conventional_gain: float | None = None


def _sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(z / 2)))  # equals 1 / (1 + exp(-z)), and never overflows


def _normal_cdf(z: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


def _normal_density(z: Array) -> Array:
    return np.asarray(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))


def _elu(z: Array) -> Array:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def _elu_slope(z: Array, alpha: float = 1.0) -> Array:
    return np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0)))


TABLE: dict[ActivationName, Activation] = {
    "relu": Activation(lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0), np.sqrt(2)),
    "leaky_relu": Activation(
        lambda z: np.where(z > 0, z, LEAKY_SLOPE * z),
        lambda z: np.where(z > 0, 1.0, LEAKY_SLOPE),
        np.sqrt(2 / (1 + LEAKY_SLOPE**2)),
    ),
    "elu": Activation(_elu, _elu_slope),
    "selu": Activation(
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: SELU_SCALE * _elu_slope(z, SELU_ALPHA),
        0.75,
    ),
    "gelu": Activation(lambda z: z * _normal_cdf(z), lambda z: _normal_cdf(z) + z * _normal_density(z)),
    "tanh": Activation(np.tanh, lambda z: 1 - np.tanh(z) ** 2, 5 / 3),
    "sigmoid": Activation(_sigmoid, lambda z: _sigmoid(z) * (1 - _sigmoid(z)), 1.0),
    "linear": Activation(lambda z: z, np.ones_like, 1.0),
}


def gain(name: ActivationName) -> float:
    """Return the gain of an activation: a factor on the kernel's standard deviation that makes up for the activation.

    The gain is that of PyTorch's `calculate_gain`. PyTorch has none for elu and gelu; for these it is 1/√E[φ(z)²] with
    z ~ N(0, 1), which keeps the second moment from layer to layer. For ReLU both rules give √2 (He et al., 2015).

    >>> round(gain("tanh"), 4), round(gain("relu") ** 2, 12)
    (1.6667, 2.0)
    """
    conventional = TABLE[name].conventional_gain
    if conventional is not None:
        return float(conventional)
    return float(1 / np.sqrt(expectation(lambda z: TABLE[name].function(z) ** 2, 1.0)))


def expectation(function: Function, variance: float) -> float:
    """Return E[f(z)] for z ~ N(0, variance), by Gauss-Legendre quadrature.

    The integral is computed on each side of zero apart, because ReLU and its relatives have a kink there.

    >>> round(expectation(lambda z: np.maximum(z, 0) ** 2, 3.0), 10)
    1.5
    """
    nodes, weights = _quadrature()
    return float(weights @ function(np.sqrt(variance) * nodes))


@cache
def _quadrature() -> tuple[Array, Array]:
    unit, weights = np.polynomial.legendre.leggauss(NODES)
    positive = REACH * (unit + 1) / 2
    mass = REACH / 2 * weights * _normal_density(positive)
    return np.concatenate([-positive, positive]), np.concatenate([mass, mass])

"""Signals: what flows through a network, forward and backward, layer by layer.

A backend computes them inside its vectorised program, both backends by these definitions. Each function takes as `xp`
the namespace of the tensors' own functions (torch, keras.ops or numpy, which spell these alike) and sees one cell. At
the start, squares are taken of scaled values, so that they neither overflow nor underflow float32. In every step of
training that would cost too much; there, norms below 1e-19 come out as 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.activations import ActivationName

SATURATED = 0.97  # |tanh| beyond which its slope is less than 6 % of its largest
GQ_EPSILON = 1e-5  # of the gradient quotient, as its authors set it
ALIKE = 1e-5  # units whose pre-activations differ by less than this share of the largest are alike
JACOBIAN_ROWS = 128  # train rows, in their random order, whose Jacobians are taken

STANDARD_DEVIATIONS = ("pre_activation_variance", "activation_variance", "gradient_variance")
STATE = ("dead", "saturated", "finite")
"""Signals before training and after each epoch, for every layer; the last is 1 if its pre-activations are finite."""
FLOW = ("gradient_norm", "update_ratio", "finite")
"""Signals over an epoch's steps, for every layer: two means, and the share of steps with finite pre-activations."""


def _scale(xp: Any, values: Any) -> Any:
    largest = xp.amax(xp.abs(values))
    return xp.where(largest > 0, largest, xp.ones_like(largest))


def std(xp: Any, values: Any) -> Any:
    """Return the standard deviation of all values."""
    scale = _scale(xp, values)
    scaled = values / scale
    return scale * xp.sqrt(xp.mean((scaled - xp.mean(scaled)) ** 2))


def norm(xp: Any, values: Any) -> Any:
    """Return the Euclidean norm of all values."""
    scale = _scale(xp, values)
    return scale * xp.sqrt(xp.sum((values / scale) ** 2))


def norms(xp: Any, tensors: Sequence[Any]) -> Any:
    """Return the Euclidean norm of each tensor, (tensors,)."""
    return xp.sqrt(xp.stack([xp.sum(each * each) for each in tensors]))


def update_ratios(xp: Any, before: Sequence[Any], after: Sequence[Any]) -> Any:
    """Return by how much of its norm each kernel changed: (kernels,), for stacks of kernels (cells, kernels)."""
    moved = [xp.sum((new - old) ** 2, (-2, -1)) for old, new in zip(before, after, strict=True)]
    return xp.sqrt(xp.stack(moved, -1) / xp.stack([xp.sum(old * old, (-2, -1)) for old in before], -1))


def finite(xp: Any, tensors: Sequence[Any]) -> Any:
    """Return for each tensor 1 if all its values are finite, else 0, (tensors,)."""
    zero_or_nan = xp.stack([xp.sum(0 * each) for each in tensors])
    return xp.where(xp.isfinite(zero_or_nan), 1.0, 0.0)


def share(xp: Any, condition: Any) -> Any:
    """Return the share of true values."""
    return xp.mean(xp.where(condition, 1.0, 0.0))


def state(xp: Any, activated: Sequence[Any], pre_activations: Sequence[Any], activation: ActivationName) -> Any:
    """Return STATE of each layer from its activations and pre-activations (rows, units): (3, layers).

    dead: the share of units that are zero on every row; saturated: the share of values close to a bound of tanh or
    sigmoid, NaN for any other activation.
    """
    dead = xp.stack([share(xp, xp.amax(xp.abs(each), 0) == 0) for each in activated])
    saturated = float("nan") * dead
    if activation in ("tanh", "sigmoid"):
        # a sigmoid is half of 1 + tanh of half the argument
        bounded = activated if activation == "tanh" else [2 * each - 1 for each in activated]
        saturated = xp.stack([share(xp, xp.abs(each) > SATURATED) for each in bounded])
    return xp.stack([dead, saturated, finite(xp, pre_activations)])


def alike(xp: Any, pre_activation: Any) -> Any:
    """Return 1 if on every row all units of a layer (rows, units) have the same pre-activation, else 0."""
    if pre_activation.shape[1] == 1:  # one unit breaks no symmetry, and has none to break
        return 0 * xp.mean(pre_activation)
    spread = xp.amax(xp.amax(pre_activation, 1) - xp.amin(pre_activation, 1))
    return xp.where(spread <= ALIKE * xp.amax(xp.abs(pre_activation)), 1.0, 0.0)


def at_start(xp: Any, pre_activation: Any, activated: Any, gradient: Any, weight_gradient: Any) -> list[Any]:
    """Return the signals in `columns.START` of one layer, standard deviations for variances.

    pre_activation, activated, gradient: (rows, units), the last that of each row's own loss in the pre-activation;
    weight_gradient: that of the mean loss, (fan_in, fan_out) or its transpose.
    """
    return [
        xp.mean(pre_activation),
        std(xp, pre_activation),
        xp.mean(activated),
        std(xp, activated),
        std(xp, gradient),
        norm(xp, weight_gradient),
        alike(xp, pre_activation),
    ]


def largest_class_share(xp: Any, logits: Any) -> Any:
    """Return the share of rows that go to the class which most rows go to; logits are (rows, classes)."""
    return xp.amax(xp.mean(xp.where(logits == xp.amax(logits, 1)[:, None], 1.0, 0.0), 0))


def gradient_quotient(xp: Any, gradients: Sequence[Any], products: Sequence[Any]) -> Any:
    """Return the mean over weights of |(g - Hg) / (g ± ε) - 1|, g the gradient of the mean loss, H its Hessian.

    How much the gradient changes over a step as long as itself, of each weight in proportion (Dauphin & Schoenholz,
    2019). `gradients` and `products` hold g and Hg kernel by kernel.
    """
    changes, count = 0.0, 0
    for g, product in zip(gradients, products, strict=True):
        away = g + GQ_EPSILON * xp.where(g >= 0, 1.0, -1.0)
        changes = changes + xp.sum(xp.abs((g - product) / away - 1))
        count += int(np.prod(g.shape))
    return changes / count


@dataclass(frozen=True)
class Start:
    """A batch of cells at initialization, as a program returns it.

    layers: `columns.START` by layer, standard deviations for variances, (cells, len(START), layers); scores: loss on
    the train rows, largest class share and gradient quotient, (cells, 3); jacobians: of logits in inputs, (cells, rows,
    classes, features); state: STATE, (cells, len(STATE), layers). A batch normalization works with the statistics of
    the train rows, constant for the Jacobian; its running ones know of no row yet.
    """

    layers: NDArray[np.float32]
    scores: NDArray[np.float32]
    jacobians: NDArray[np.float32]
    state: NDArray[np.float32]

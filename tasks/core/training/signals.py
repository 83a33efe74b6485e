"""Signals: what flows through a network, forward and backward, layer by layer.

Both backends compute signals by these definitions, inside their vectorised programs. Each function sees one cell. Its
argument `xp` is the module that holds the functions of the tensors: torch, keras.ops or numpy, in which these functions
have equal names. Signals before training square scaled values, so that no square overflows or underflows float32. This
would cost too much in every step of training: there, norms below 1e-19 come out as 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.activations import ActivationName

SATURATED = 0.97  # where |tanh| is larger, its slope is less than 6 % of the slope at zero
GQ_EPSILON = 1e-5  # ε of the gradient quotient (Dauphin & Schoenholz, 2019)
ALIKE = 1e-5  # units are alike if their pre-activations differ by at most this share of the largest one
JACOBIAN_ROWS = 128  # Jacobians are computed for at most this many train rows, taken in random order

STANDARD_DEVIATIONS = ("pre_activation_variance", "activation_variance", "gradient_variance")
STATE = ("dead", "saturated", "finite")
"""Signals of every layer before training and after each epoch; `finite` is 1 if all its pre-activations are finite."""
FLOW = ("gradient_norm", "update_ratio", "finite")
"""Signals of every layer over the steps of an epoch: two means, and the share of steps with finite pre-activations."""


def _scale(xp: Any, values: Any) -> Any:
    largest = xp.amax(xp.abs(values))
    return xp.where(largest > 0, largest, xp.ones_like(largest))


def std(xp: Any, values: Any) -> Any:
    """Return the standard deviation of all values of a tensor.

    >>> float(std(np, np.array([1.0, 3.0])))
    1.0
    """
    scale = _scale(xp, values)
    scaled = values / scale
    return scale * xp.sqrt(xp.mean((scaled - xp.mean(scaled)) ** 2))


def norm(xp: Any, values: Any) -> Any:
    """Return the Euclidean norm of all values of a tensor.

    >>> float(norm(np, np.array([3.0, 4.0])))
    5.0
    """
    scale = _scale(xp, values)
    return scale * xp.sqrt(xp.sum((values / scale) ** 2))


def norms(xp: Any, tensors: Sequence[Any]) -> Any:
    """Return the Euclidean norm of each tensor, (tensors,); quicker than `norm`, with values that are not scaled."""
    return xp.sqrt(xp.stack([xp.sum(each * each) for each in tensors]))


def update_ratios(xp: Any, before: Sequence[Any], after: Sequence[Any]) -> Any:
    """Return the update-to-weight ratio ‖new - old‖ / ‖old‖ of each kernel, last axis (kernels,), from stacked kernels.

    >>> float(update_ratios(np, [np.array([[2.0]])], [np.array([[2.5]])])[0])
    0.25
    """
    moved = [xp.sum((new - old) ** 2, (-2, -1)) for old, new in zip(before, after, strict=True)]
    return xp.sqrt(xp.stack(moved, -1) / xp.stack([xp.sum(old * old, (-2, -1)) for old in before], -1))


def finite(xp: Any, tensors: Sequence[Any]) -> Any:
    """Return 1 for each tensor whose values are all finite, else 0: (tensors,).

    >>> finite(np, [np.ones(2), np.array([1.0, np.nan])]).tolist()
    [1.0, 0.0]
    """
    zero_or_nan = xp.stack([xp.sum(0 * each) for each in tensors])
    return xp.where(xp.isfinite(zero_or_nan), 1.0, 0.0)


def share(xp: Any, condition: Any) -> Any:
    """Return the share of true values.

    >>> float(share(np, np.array([True, False])))
    0.5
    """
    return xp.mean(xp.where(condition, 1.0, 0.0))


def state(xp: Any, activated: Sequence[Any], pre_activations: Sequence[Any], activation: ActivationName) -> Any:
    """Return STATE of each layer, from its activations and pre-activations (rows, units): (3, layers).

    dead: the share of units whose activation is zero on every row; saturated: the share of activations close to a bound
    of tanh or sigmoid, NaN for any other activation; finite: 1 if all pre-activations are finite, else 0.
    """
    dead = xp.stack([share(xp, xp.amax(xp.abs(each), 0) == 0) for each in activated])
    saturated = float("nan") * dead
    if activation in ("tanh", "sigmoid"):
        # sigmoid(z) = (1 + tanh(z / 2)) / 2, so 2 sigmoid - 1 lies between -1 and 1 as tanh does
        bounded = activated if activation == "tanh" else [2 * each - 1 for each in activated]
        saturated = xp.stack([share(xp, xp.abs(each) > SATURATED) for each in bounded])
    return xp.stack([dead, saturated, finite(xp, pre_activations)])


def alike(xp: Any, pre_activation: Any) -> Any:
    """Return 1 if all units of a layer have the same pre-activation on every row (rows, units), else 0.

    >>> float(alike(np, np.array([[1.0, 1.0], [2.0, 2.0]])))
    1.0
    """
    if pre_activation.shape[1] == 1:  # a single unit has no other one to be like
        return 0 * xp.mean(pre_activation)
    spread = xp.amax(xp.amax(pre_activation, 1) - xp.amin(pre_activation, 1))
    return xp.where(spread <= ALIKE * xp.amax(xp.abs(pre_activation)), 1.0, 0.0)


def at_start(xp: Any, pre_activation: Any, activated: Any, gradient: Any, weight_gradient: Any) -> list[Any]:
    """Return the signals in `columns.START` of one layer, but standard deviations in place of variances.

    pre_activation, activated: (rows, units). gradient: the gradient of each row's own loss in the pre-activation,
    (rows, units). weight_gradient: the gradient of the mean loss in the kernel, (fan_in, fan_out) or transposed.
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
    """Return the share of rows predicted as the class that is predicted most often; logits are (rows, classes).

    >>> float(largest_class_share(np, np.array([[2.0, 1.0], [3.0, 0.0], [5.0, 4.0], [0.0, 1.0]])))
    0.75
    """
    return xp.amax(xp.mean(xp.where(logits == xp.amax(logits, 1)[:, None], 1.0, 0.0), 0))


def gradient_quotient(xp: Any, gradients: Sequence[Any], products: Sequence[Any]) -> Any:
    """Return the gradient quotient: the mean over weights of |(g - Hg) / (g ± ε) - 1| (Dauphin & Schoenholz, 2019).

    g is the gradient of the mean loss and H its Hessian; ε has the sign of g. The quotient says by what proportion a
    gradient step of length 1 changes the gradient. `gradients` and `products` hold g and Hg, kernel by kernel.
    """
    changes, count = 0.0, 0
    for g, product in zip(gradients, products, strict=True):
        away = g + GQ_EPSILON * xp.where(g >= 0, 1.0, -1.0)
        changes = changes + xp.sum(xp.abs((g - product) / away - 1))
        count += int(np.prod(g.shape))
    return changes / count


@dataclass(frozen=True)
class Start:
    """The signals of a batch of cells before training, as a program returns them.

    layers: the signals in `columns.START` by layer, but standard deviations in place of variances, (cells, len(START),
    layers). scores: loss on the train rows, largest class share and gradient quotient, (cells, 3). jacobians: the
    derivatives of logits in inputs, (cells, rows, classes, features). state: STATE, (cells, len(STATE), layers).
    gradients: that of the loss on the train rows in each kernel, (cells, ...), by the kernel's name in the framework's
    own model.

    A batch normalization uses the mean and variance of the train rows here, because its running statistics have seen no
    row before training. The Jacobians take these two as constants.
    """

    layers: NDArray[np.float32]
    scores: NDArray[np.float32]
    jacobians: NDArray[np.float32]
    state: NDArray[np.float32]
    gradients: dict[str, NDArray[np.float32]] = field(default_factory=dict)

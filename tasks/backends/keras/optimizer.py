"""What happens between a gradient and a changed weight: clipping, an L2 penalty, then a Keras optimizer."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from tasks.backends.keras.network import Tensors
from tasks.core.design.settings import Recipe
from tasks.core.training import signals
from tasks.core.training.backend import NORM_EPSILON


class _RatePerCell:
    """Gives an optimizer of stacks the learning rate of each cell: `rates`, (cells,).

    Optimizers act on each number by itself, so that the numbers of a cell do not depend on the rates of the others.
    """

    rates: keras.Variable

    @property
    def learning_rate(self) -> tf.Tensor:
        """The rates in the shape of the kernels, which alone decay."""
        return ops.reshape(self.rates, (-1, 1, 1))

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:  # noqa: ARG002  # Keras's signature
        shape = (-1, *[1] * (len(variable.shape) - 1))
        super().update_step(gradient, variable, ops.reshape(self.rates, shape))  # type: ignore[misc]  # an optimizer's


class SGD(_RatePerCell, keras.optimizers.SGD):
    """Keras's SGD with a learning rate for each cell."""


class Adam(_RatePerCell, keras.optimizers.Adam):
    """Keras's Adam with a learning rate for each cell."""


class _Aligned:
    """Adam with ε added after bias correction, as PyTorch and the paper's algorithm do (Kingma & Ba, 2015).

    Keras adds ε before bias correction. Both are the same if Keras's ε is ε √(1 - β₂ᵗ) at step t.
    """

    aligned: float
    epsilon: Any
    iterations: Any
    beta_2: float

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        step = ops.cast(self.iterations + 1, variable.dtype)
        self.epsilon = self.aligned * ops.sqrt(1 - ops.power(self.beta_2, step))
        super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]  # an optimizer's


class AlignedAdam(_Aligned, Adam):
    """Adam with ε added after bias correction, and a learning rate for each cell."""


class LoneAdam(_Aligned, keras.optimizers.Adam):
    """Adam with ε added after bias correction, for one cell."""


def clipped(gradients: Tensors, recipe: Recipe) -> Tensors:
    """Return one cell's gradients, clipped as the recipe says."""
    if recipe.clip_value:
        return [ops.clip(each, -recipe.clip_value, recipe.clip_value) for each in gradients]
    if recipe.clip_norm:
        total = signals.norms(ops, [signals.norms(ops, gradients)])[0]
        factor = ops.minimum(recipe.clip_norm / (total + NORM_EPSILON), 1.0)
        return [factor * each for each in gradients]
    return gradients


def penalized(gradients: Tensors, weights: Tensors, kernels: Sequence[int], recipe: Recipe) -> Tensors:
    """Return one cell's gradients with those of an L2 penalty on the kernels, unless the optimizer is adamw.

    adamw decays weights itself, apart from the gradient. `kernels` has the places of the kernels among the weights.
    """
    if not recipe.weight_decay or recipe.optimizer == "adamw":
        return gradients
    return [
        gradient + recipe.weight_decay * weight if place in kernels else gradient
        for place, (gradient, weight) in enumerate(zip(gradients, weights, strict=True))
    ]


def optimizer(recipe: Recipe, stacks: list[keras.Variable], kernels: Sequence[int]) -> keras.Optimizer:
    """Return the recipe's optimizer of these stacks of weights; adamw's decay acts on the kernels alone.

    `kernels` has the places of the kernels among the stacks. `reset` gives the learning rates.
    """
    built = _unbuilt(recipe)
    built.rates = keras.Variable(ops.zeros(stacks[0].shape[:1]))
    if built.weight_decay:
        others = [stack for place, stack in enumerate(stacks) if place not in kernels]
        built.exclude_from_weight_decay(var_list=others)
    built.build(stacks)
    return built


def alone(recipe: Recipe, variables: list[keras.Variable], kernels: Sequence[int]) -> keras.Optimizer:
    """Return the recipe's optimizer of one cell's variables; `reset` gives the learning rate."""
    built = _unbuilt(recipe, ONE_CELL)
    if built.weight_decay:
        built.exclude_from_weight_decay(var_list=[each for at, each in enumerate(variables) if at not in kernels])
    built.build(variables)
    return built


PER_CELL: tuple[Any, ...] = (SGD, Adam, AlignedAdam)
ONE_CELL: tuple[Any, ...] = (keras.optimizers.SGD, keras.optimizers.Adam, LoneAdam)
"""SGD, Adam, and Adam with ε added after bias correction."""


def _unbuilt(recipe: Recipe, kinds: tuple[Any, ...] = PER_CELL) -> keras.Optimizer:
    sgd, adam, aligned = kinds
    if recipe.optimizer in ("sgd", "momentum"):
        momentum = recipe.momentum if recipe.optimizer == "momentum" else 0.0
        return sgd(momentum=momentum)
    decay = recipe.weight_decay if recipe.optimizer == "adamw" and recipe.weight_decay else None
    if recipe.epsilon == "framework":
        return adam(weight_decay=decay)
    found = aligned(weight_decay=decay)
    found.aligned = recipe.epsilon
    return found


def reset(used: keras.Optimizer, rates: NDArray[np.generic] | float) -> None:
    """Give an optimizer the state of a fresh one: no steps taken, no moments; and the learning rate of each cell.

    An optimizer of one cell gets its rate as a number.
    """
    for variable in used.variables:
        variable.assign(ops.zeros_like(variable))
    if isinstance(rates, float):
        used.learning_rate = rates
    else:
        used.rates.assign(rates)

"""What a program computes of one cell. The program vectorises each of these functions over the cells of a batch."""

from collections.abc import Sequence
from math import nan
from typing import Any

import tensorflow as tf
from keras import ops

from tasks.backends.keras.losses import loss, score
from tasks.backends.keras.network import Perceptron, Tensors, Trace
from tasks.backends.keras.optimizer import clipped, penalized
from tasks.core.design.own import Task
from tasks.core.design.settings import Recipe
from tasks.core.training import signals
from tasks.core.training.backend import NEWEST, in_order
from tasks.core.training.signals import JACOBIAN_ROWS

Given = tuple[Any, ...]
"""What `tf.vectorized_map` hands to a function: the tensors of one cell."""


class OneCell:
    """The functions of one cell: a training step's gradients, the measures, the signals at the start, the logits.

    Each function takes one tuple, which begins with the cell's weights, its state, which is the running statistics of
    its batch normalizations, and rows x (rows, features). The classes y (rows,) follow where a function needs them.

    `kernels` has the places of the kernels among the weights, layer by layer.
    """

    def __init__(self, perceptron: Perceptron, recipe: Recipe, kernels: Sequence[int], task: Task) -> None:
        self.perceptron = perceptron
        self.recipe, self.task = recipe, task
        self.kernels = kernels

    def logits(self, cell: Given) -> tf.Tensor:
        """Return the logits in evaluation, (rows, classes)."""
        return self.perceptron.call(*cell, training=False).logits

    def step(self, cell: Given) -> tuple[Tensors, Tensors, tf.Tensor, tf.Tensor]:
        """Return what a training step takes from a batch of rows.

        These are the gradients as the optimizer gets them, the new state, the norm of each kernel's gradient before
        clipping, (layers,), and for each layer whether its pre-activations are finite, (layers,).
        """
        weights, state, x, y = cell
        with tf.GradientTape() as tape:
            tape.watch(weights)
            trace = self.perceptron.call(weights, state, x, training=True)
            total = loss(trace.logits, y, self.task)
        gradients = tape.gradient(total, weights)
        norms = signals.norms(ops, [gradients[place] for place in self.kernels])
        finite = signals.finite(ops, trace.pre_activations)
        taken = penalized(clipped(gradients, self.recipe), weights, self.kernels, self.recipe)
        return taken, trace.state, norms, finite

    def measure(self, cell: Given) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the cell's part of `Progress.scores`, and `signals.STATE`, (3, layers).

        After the train rows come rows and classes of the test rows and, where there are any, of the validation rows.
        """
        weights, state, x, y, *held = cell
        trace = self.perceptron.call(weights, state, x, training=False)
        others = [self.logits((weights, state, rows)) for rows in held[::2]]
        scored = list(zip([trace.logits, *others], [y, *held[1::2]], strict=True))
        losses = [loss(logits, labels, self.task) for logits, labels in scored]
        accuracies = [score(logits, labels, self.task) for logits, labels in scored]
        return ops.stack(in_order(losses, accuracies)), self._state(trace)

    def probe(self, cell: Given) -> tuple[tf.Tensor, ...]:
        """Return the cell's part of `signals.Start`, the kernels' gradients one by one; its state is zeros."""
        weights, _, x, _ = cell
        trace, total, gradients, in_taps, products = self._differentiated(cell)
        layers = [
            ops.stack(signals.at_start(ops, z, activated, x.shape[0] * in_tap, gradient))
            for z, activated, in_tap, gradient in zip(
                trace.pre_activations, trace.activated, in_taps, gradients, strict=True
            )
        ]
        quotient = signals.gradient_quotient(ops, gradients, products)
        share = signals.largest_class_share(ops, trace.logits)
        scores = [total, share if self.task == "classification" else share * nan, quotient]
        found = ops.stack(layers, 1), ops.stack(scores), self._jacobian(weights, trace, x), self._state(trace)
        return *found, *gradients

    def _differentiated(self, cell: Given) -> tuple[Trace, tf.Tensor, Tensors, Tensors, Tensors]:
        """Return the trace, the loss, and its derivatives: in the kernels, g, in the taps, and Hg, H the Hessian.

        Hg is the gradient of |g|²/2 in the kernels.
        """
        weights, state, x, y = cell
        taps = [tf.zeros((x.shape[0], layer.units)) for layer in self.perceptron.layers]
        kernels = [weights[place] for place in self.kernels]
        with tf.GradientTape() as outer:
            outer.watch(kernels)
            with tf.GradientTape() as tape:
                tape.watch([kernels, taps])
                trace = self.perceptron.call(weights, state, x, taps, training=True)
                total = loss(trace.logits, y, self.task)
            gradients, in_taps = tape.gradient(total, [kernels, taps])
            half_square = tf.add_n([tf.reduce_sum(each**2) for each in gradients]) / 2
        products = outer.gradient(half_square, kernels, unconnected_gradients="zero")
        return trace, total, gradients, in_taps, products

    def _jacobian(self, weights: Tensors, trace: Trace, x: tf.Tensor) -> tf.Tensor:
        """Return the Jacobian of the logits in the features of some rows, (rows, classes, features).

        The trace is that of all rows, computed in training from a state of zeros. A batch normalization uses the
        statistics of all rows, as constants. They are in the trace's state, with a share of NEWEST. In evaluation a
        row's logits depend on that row alone, so the derivative of their sum over the rows in a row is that of the
        row's own logits.
        """
        statistics = [value / NEWEST for value in trace.state]
        rows = x[:JACOBIAN_ROWS]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(rows)
            summed = tf.unstack(tf.reduce_sum(self.logits((weights, statistics, rows)), 0))
        return ops.stack([tape.gradient(each, rows) for each in summed], 1)

    def _state(self, trace: Trace) -> tf.Tensor:
        """Return `signals.STATE` of each layer, (3, layers)."""
        return signals.state(ops, trace.activated, trace.pre_activations, self.perceptron.network.activation)

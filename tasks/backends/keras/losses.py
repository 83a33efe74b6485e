"""What a network is trained to make small, and how well it does: of classes, and of real targets."""

import tensorflow as tf
from keras import ops

from tasks.core.design.own import Task
from tasks.core.training import signals


def loss(outputs: tf.Tensor, y: tf.Tensor, task: Task) -> tf.Tensor:
    """Return the mean loss: cross-entropy of logits (..., classes), or the mean squared error of real outputs."""
    if task == "regression":
        return tf.reduce_mean(tf.square(outputs - y))
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs))


def score(outputs: tf.Tensor, y: tf.Tensor, task: Task) -> tf.Tensor:
    """Return the accuracy or, of real targets, R²: 1 less the squared error's share of the targets' variance."""
    if task == "regression":
        around = tf.reduce_sum(tf.square(y - tf.reduce_mean(y, 0)))
        return 1 - tf.reduce_sum(tf.square(outputs - y)) / around
    # tf.argmax, because tf.vectorized_map cannot vectorise Keras's argmax
    return signals.share(ops, tf.argmax(outputs, -1) == y)

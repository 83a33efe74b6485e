import keras as keras_package
import numpy as np
import tensorflow as tf

from tasks.backends.keras.optimizer import AlignedAdam


def test_aligned_adam_is_the_papers():
    """AlignedAdam's steps are those of the paper's algorithm in float64, where Keras's own epsilon is elsewhere."""
    gradients = np.random.default_rng(0).normal(0, 1e-5, (20, 4))
    weights, m, v, rate, epsilon = np.ones(4), np.zeros(4), np.zeros(4), 0.01, 1e-5
    variable = keras_package.Variable(np.ones((1, 4), np.float32))
    optimizer = AlignedAdam()
    optimizer.aligned = epsilon
    optimizer.rates = keras_package.Variable([rate])
    optimizer.build([variable])
    for step, gradient in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        weights = weights - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + epsilon)
        optimizer.apply([tf.constant(gradient[None], tf.float32)], [variable])
    np.testing.assert_allclose(variable.numpy()[0], weights, atol=5e-6)

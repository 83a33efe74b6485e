"""The Keras backend, on TensorFlow. No other package of this project imports keras or tensorflow.

The cells of a batch train together. A real Keras model says what one cell computes. `tf.vectorized_map` of its
`stateless_call` computes it for all cells at once, from weights that are stacked along a leading axis of cells, and
gives each cell its own gradient. One Keras optimizer updates the stacks. The loops over epochs and steps run inside one
`tf.function`. On a CPU, and with few features, the weights of a cell are the same bit for bit in every batch of two
cells or more; tasks/core/training/README.md tells why they can differ with other data. In a batch of one, TensorFlow
would take another matrix product, and the weights would end 2e-7 away, so a second cell is added to a lone one.
"""

from tasks.backends.keras.device import OUT_OF_MEMORY, setup
from tasks.backends.keras.initializers import NAME, counted, init_weights, native, native_array
from tasks.backends.keras.network import deployed, deployed_own
from tasks.backends.keras.own import own
from tasks.backends.keras.program import program

__all__ = [
    "NAME",
    "OUT_OF_MEMORY",
    "counted",
    "deployed",
    "deployed_own",
    "init_weights",
    "native",
    "native_array",
    "own",
    "program",
    "setup",
]

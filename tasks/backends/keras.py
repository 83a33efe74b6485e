"""The Keras backend, on TensorFlow: the only importer of either.

Cells train together: `stateless_call` of a real Keras model under `tf.vectorized_map`, a gradient per cell, one
Keras optimizer on the stacked weights, and the loops over epochs and steps inside one `tf.function`. On a CPU a
cell's weights are equal bit for bit in every batch of two or more; a batch of one takes another matrix product and
ends 2e-7 away, so a lone cell is padded to two.
"""

from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.core.datasets import Floats
from tasks.core.initializers import (
    INITIALIZERS,
    Backend,
    Constant,
    Identity,
    Initializer,
    Law,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    bias_bound,
    known,
)
from tasks.core.study import Network, Recipe
from tasks.core.training import DETERMINISTIC, TF32, Stack, Weights

NAME: Backend = "keras"
PLACES = (2, 16, 128)  # cells a compiled program holds: few sizes, since each costs two seconds to compile
COMPILED_PROGRAMS = 16  # kept for reuse, the least recently used dropped first


def setup(threads: int) -> str:
    """Set threads, memory growth, precision and determinism; return the device's name.

    Call it before TensorFlow's first operation.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_tensor_float_32_execution(TF32)
    if DETERMINISTIC:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return str(tf.config.experimental.get_device_details(gpus[0])["device_name"]) if gpus else "cpu"


def init_weights(model: keras.Layer, initializer: str = "he_normal", seed: int | None = None) -> None:
    """Initialize every dense and convolutional layer of a built model, or one such layer, and leave others alone.

    Biases become zeros, or U(±1/√fan_in) for pytorch_default. The same seed gives the same weights.

    Raises:
        ValueError: for an unknown initializer, or one that a layer's shape does not allow.
    """
    entry = INITIALIZERS[known(initializer)]
    streams = np.random.SeedSequence(seed)
    for layer in _layers(model):
        kernel_seed, bias_seed = (int(number) for number in streams.spawn(1)[0].generate_state(2))
        layer.kernel.assign(build(entry.law, kernel_seed)(layer.kernel.shape))
        if layer.bias is not None:
            bound = bias_bound(entry, NAME, fan_in=int(np.prod(layer.kernel.shape[:-1])))
            layer.bias.assign(keras.initializers.RandomUniform(-bound, bound, seed=bias_seed)(layer.bias.shape))


def _layers(layer: keras.Layer) -> list[keras.Layer]:
    if isinstance(layer, keras.Model):
        return [found for part in layer.layers for found in _layers(part)]
    return [layer] if isinstance(layer, keras.layers.Dense | keras.src.layers.convolutional.base_conv.BaseConv) else []


def build(law: Law, seed: int) -> keras.Initializer:
    """Return Keras's own initializer for the law."""
    match law:
        case VarianceScaling(scale, mode, "normal"):
            return keras.initializers.VarianceScaling(scale, mode, "truncated_normal", seed=seed)
        case VarianceScaling(scale, mode, "uniform"):
            return keras.initializers.VarianceScaling(scale, mode, "uniform", seed=seed)
        case Normal(std):
            return keras.initializers.RandomNormal(0, std, seed=seed)
        case TruncatedNormal(std):
            return keras.initializers.TruncatedNormal(0, std, seed=seed)
        case Uniform(bound):
            return keras.initializers.RandomUniform(-bound, bound, seed=seed)
        case Orthogonal():
            return keras.initializers.Orthogonal(seed=seed)
        case Identity():
            return keras.initializers.Identity()
        case Constant(value):
            return keras.initializers.Constant(value)


def native(initializer: Initializer, fan_in: int, fan_out: int, seed: int) -> Floats:
    """Draw a kernel (fan_in, fan_out) with Keras's own initializer."""
    return build(initializer.law, seed)((fan_in, fan_out)).numpy()


def perceptron(network: Network, fans: tuple[int, ...]) -> keras.Sequential:
    """Return the multilayer perceptron with layers of the given sizes, inputs first and logits last."""
    features, *hidden, classes = fans
    layers = [
        keras.layers.Dense(units, activation=network.activation, name=f"hidden_{depth}")
        for depth, units in enumerate(hidden, start=1)
    ]
    return keras.Sequential([keras.Input((features,)), *layers, keras.layers.Dense(classes, name="logits")])


class AlignedAdam(keras.optimizers.Adam):
    """Adam with ε added after bias correction, as PyTorch and the paper's algorithm do (Kingma & Ba, 2015).

    Keras adds ε before, so at step t its ε has to be ε √(1 - β₂ᵗ).
    """

    def __init__(self, learning_rate: float, epsilon: float) -> None:
        super().__init__(learning_rate)
        self.aligned = epsilon

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        step = keras.ops.cast(self.iterations + 1, variable.dtype)
        self.epsilon = self.aligned * keras.ops.sqrt(1 - keras.ops.power(self.beta_2, step))
        super().update_step(gradient, variable, learning_rate)


def optimizer(recipe: Recipe) -> keras.Optimizer:
    """Return the recipe's optimizer."""
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(recipe.learning_rate)
    if recipe.epsilon == "framework":
        return keras.optimizers.Adam(recipe.learning_rate)
    return AlignedAdam(recipe.learning_rate, recipe.epsilon)


def _loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


class Program:
    """A batch of perceptrons in training; see `tasks.core.training.Program`.

    `places` is how many cells the compiled program holds; empty places are filled with copies of the first cell.
    """

    def __init__(self, network: Network, recipe: Recipe, fans: tuple[int, ...], places: int) -> None:
        self.model = perceptron(network, fans)
        self.recipe = recipe
        self.places = places
        self.stacks = [keras.Variable(np.zeros((places, *w.shape), np.float32)) for w in self.model.trainable_variables]
        self.optimizer = optimizer(recipe)
        self.optimizer.build(self.stacks)

    def start(self, stack: Stack, weights: Weights) -> None:
        self.cells = len(stack.x_train)
        self.x, self.y, self.x_test, self.y_test = (
            tf.constant(self._padded(array)) for array in (stack.x_train, stack.y_train, stack.x_test, stack.y_test)
        )
        for variable, array in zip(self.stacks, weights, strict=True):
            variable.assign(self._padded(array))
        for variable in self.optimizer.variables:
            if variable is not self.optimizer._learning_rate:
                variable.assign(keras.ops.zeros_like(variable))

    def _padded(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.concatenate([array, np.repeat(array[:1], self.places - len(array), axis=0)])

    def _values(self) -> list[tf.Tensor]:
        return [variable.value for variable in self.stacks]

    def _call(self, weights: list[tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        return self.model.stateless_call(weights, [], x)[0]

    def _gradients(self, cell: tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
        weights, x, y = cell
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = _loss(y, self._call(weights, x))
        return tape.gradient(loss, weights)

    def _scores(self, cell: tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        weights, x, y = cell
        logits = self._call(weights, x)
        return _loss(y, logits), tf.reduce_mean(tf.cast(tf.argmax(logits, -1) == y, tf.float32))

    @tf.function(autograph=False)
    def _measure(self, x: tf.Tensor, y: tf.Tensor, x_test: tf.Tensor, y_test: tf.Tensor) -> tf.Tensor:
        train_loss, train_accuracy = tf.vectorized_map(self._scores, (self._values(), x, y))
        test_loss, test_accuracy = tf.vectorized_map(self._scores, (self._values(), x_test, y_test))
        return tf.stack([train_loss, test_loss, train_accuracy, test_accuracy])

    @tf.function(autograph=False)
    def _outputs(self, x: tf.Tensor) -> tf.Tensor:
        return tf.vectorized_map(lambda cell: self._call(*cell), (self._values(), x))

    @tf.function
    def _run(self, order: tf.Tensor, x: tf.Tensor, y: tf.Tensor, x_test: tf.Tensor, y_test: tf.Tensor) -> tf.Tensor:
        rows = order.shape[-1]
        size = rows if self.recipe.batch_size == "full" else min(self.recipe.batch_size, rows)
        whole = rows - rows % size  # a last, smaller batch has another shape, so it stands outside the loop
        epochs = tf.shape(order)[0]
        measures = tf.TensorArray(tf.float32, epochs, element_shape=(4, self.places))
        for epoch in tf.range(epochs):
            for at in tf.range(0, whole, size):
                visited = tf.ensure_shape(order[epoch, :, at : at + size], (self.places, size))
                self._step(x, y, visited)
            if whole < rows:
                self._step(x, y, order[epoch, :, whole:])
            measures = measures.write(epoch, self._measure(x, y, x_test, y_test))
        return measures.stack()

    def _step(self, x: tf.Tensor, y: tf.Tensor, visited: tf.Tensor) -> None:
        batch = (self._values(), tf.gather(x, visited, batch_dims=1), tf.gather(y, visited, batch_dims=1))
        self.optimizer.apply(tf.vectorized_map(self._gradients, batch), self.stacks)

    def measure(self) -> NDArray[np.float32]:
        return self._measure(self.x, self.y, self.x_test, self.y_test).numpy()[:, : self.cells]

    def run(self, order: NDArray[np.int32]) -> NDArray[np.float32]:
        padded = np.swapaxes(self._padded(np.swapaxes(order, 0, 1)), 0, 1)
        data = (self.x, self.y, self.x_test, self.y_test)
        any_epochs = tf.TensorSpec((None, *padded.shape[1:]), tf.int32)  # one compilation for any number of epochs
        measures = self._run.get_concrete_function(any_epochs, *data)(tf.constant(padded), *data)
        return measures.numpy()[:, :, : self.cells]

    def logits(self) -> Floats:
        return self._outputs(self.x_test).numpy()[: self.cells]

    def weights(self) -> Weights:
        return [variable.numpy()[: self.cells] for variable in self.stacks]

    def named(self, weights: Weights) -> dict[str, Floats]:
        names = [weight.path.partition("/")[2] for weight in self.model.trainable_variables]
        return dict(zip(names, weights, strict=True))


@lru_cache(COMPILED_PROGRAMS)
def _program(network: Network, recipe: Recipe, fans: tuple[int, ...], places: int) -> Program:
    return Program(network, recipe, fans, places)


def program(network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int) -> Program:
    """Return the program for these settings with at least so many places."""
    return _program(network, recipe, fans, next((places for places in PLACES if places >= cells), cells))

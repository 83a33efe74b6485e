"""The Keras backend, on TensorFlow: the only importer of either.

Cells train together: `stateless_call` of a real Keras model under `tf.vectorized_map`, a gradient per cell, one
Keras optimizer on the stacked weights, and the loops over epochs and steps inside one `tf.function`. On a CPU a
cell's weights are equal bit for bit in every batch of two or more; a batch of one takes another matrix product and
ends 2e-7 away, so a lone cell is padded to two.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from tasks.core.design.activations import LEAKY_SLOPE, ActivationName
from tasks.core.design.initializers import (
    Backend,
    Constant,
    Identity,
    Law,
    MeanField,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    bias_bound,
    named,
)
from tasks.core.design.settings import Network, Recipe
from tasks.core.training import signals
from tasks.core.training.backend import (
    DETERMINISTIC,
    NEWEST,
    NORMALIZATION_EPSILON,
    TF32,
    Progress,
    Stack,
    Weights,
    traced,
)
from tasks.core.training.datasets import Floats
from tasks.core.training.signals import FLOW, JACOBIAN_ROWS, STATE, Start

NAME: Backend = "keras"
PLACES = (2, 16, 128)  # cells a compiled program holds: few sizes, since each costs two seconds to compile
PROBED = 16  # cells probed at once, for second derivatives take much memory
COMPILED_PROGRAMS = 16  # kept for reuse, the least recently used dropped first
NORM_EPSILON = 1e-6  # as PyTorch clips
ACTIVATIONS: dict[ActivationName, Any] = {
    "relu": ops.relu,
    "leaky_relu": partial(ops.leaky_relu, negative_slope=LEAKY_SLOPE),
    "elu": ops.elu,
    "selu": ops.selu,
    "gelu": partial(ops.gelu, approximate=False),
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "linear": lambda z: z,
}


def setup(threads: int) -> str:
    """Set threads, memory growth, precision and determinism; return the device's name.

    Call it before TensorFlow's first operation.
    """
    keras.utils.disable_interactive_logging()  # no progress bars among what a command prints
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
        ValueError: for an unknown initializer, one that Keras does not build by itself, or one that a layer's shape
            does not allow.
    """
    entry = named(initializer)
    if not entry.law.native:
        raise ValueError(f"{initializer} is not built by a framework, layer by layer; choose another initializer")
    streams = np.random.SeedSequence(seed)
    for layer in _layers(model):
        kernel_seed, bias_seed = (int(number) for number in streams.spawn(1)[0].generate_state(2))
        fan_in = int(np.prod(layer.kernel.shape[:-1]))
        layer.kernel.assign(build(entry.law, fan_in, kernel_seed)(layer.kernel.shape))
        if layer.bias is not None:
            bound, std = bias_bound(entry, NAME, fan_in), entry.law.bias_std
            law = Normal(std) if std else Uniform(bound) if bound else Constant(0)
            layer.bias.assign(build(law, fan_in, bias_seed)(layer.bias.shape))


def _layers(layer: keras.Layer) -> list[keras.Layer]:
    if isinstance(layer, keras.Model):
        return [found for part in layer.layers for found in _layers(part)]
    return [layer] if isinstance(layer, keras.layers.Dense | keras.src.layers.convolutional.base_conv.BaseConv) else []


def build(law: Law, fan_in: int, seed: int) -> keras.Initializer:
    """Return Keras's own initializer for the law."""
    match law:
        case VarianceScaling(scale, mode, distribution):
            own = "truncated_normal" if distribution == "normal" else distribution
            return keras.initializers.VarianceScaling(scale, mode, own, seed=seed)
        case MeanField():
            return keras.initializers.RandomNormal(0, law.kernel(fan_in).std, seed=seed)
        case Normal(std):
            return keras.initializers.RandomNormal(0, std, seed=seed)
        case TruncatedNormal(std):
            return keras.initializers.TruncatedNormal(0, std, seed=seed)
        case Uniform(bound):
            return keras.initializers.RandomUniform(-bound, bound, seed=seed)
        case Orthogonal():
            return keras.initializers.Orthogonal(law.factor, seed=seed)
        case Identity(gain):
            return keras.initializers.Identity(gain)
        case Constant(value):
            return keras.initializers.Constant(value)
    raise ValueError(f"Keras builds no {law}")


def native(law: Law, fan_in: int, fan_out: int, seed: int) -> Floats:
    """Draw a kernel (fan_in, fan_out) with Keras's own initializer."""
    return build(law, fan_in, seed)((fan_in, fan_out)).numpy()


class Trace(NamedTuple):
    """What passes through a network, see `backend.traced`, and the running statistics behind it."""

    pre_activations: list[tf.Tensor]
    activated: list[tf.Tensor]
    state: list[tf.Tensor]

    @property
    def logits(self) -> tf.Tensor:
        """The last layer's (rows, classes)."""
        return self.pre_activations[-1]


# TensorFlow's moments stop a gradient that is zero, but whose own gradient is not: second derivatives come out wrong.
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's, with moments whose second derivatives are right."""

    def _moments(self, inputs: tf.Tensor, mask: None) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ARG002  # Keras's
        return ops.mean(inputs, 0), ops.var(inputs, 0)


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's, with moments whose second derivatives are right."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        mean, variance = ops.mean(inputs, -1, keepdims=True), ops.var(inputs, -1, keepdims=True)
        return (inputs - mean) * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta


NORMALIZATIONS: dict[str, Any] = {
    "batch": partial(BatchNormalization, momentum=1 - NEWEST, epsilon=NORMALIZATION_EPSILON),
    "layer": partial(LayerNormalization, epsilon=NORMALIZATION_EPSILON),
}


BUILT_IN: dict[str, Any] = {
    "batch": partial(keras.layers.BatchNormalization, momentum=1 - NEWEST, epsilon=NORMALIZATION_EPSILON),
    "layer": partial(keras.layers.LayerNormalization, epsilon=NORMALIZATION_EPSILON),
}


class Perceptron:
    """The multilayer perceptron with layers of the given sizes, inputs first and logits last, as Keras models.

    `normalizations` build its layers of that name. model: inputs to logits; traced and tapped: to all that passes
    through as well, the latter with taps that are added to the pre-activations, so that one can differentiate in them.
    They share their layers.
    """

    def __init__(
        self, network: Network, fans: tuple[int, ...], normalizations: Mapping[str, Any] = NORMALIZATIONS
    ) -> None:
        features, *units, classes = fans
        self.network = network
        bias = network.normalization != "batch"  # it takes constants away: a bias would drift on rounding errors
        self.layers = [
            keras.layers.Dense(count, use_bias=bias, name=f"hidden_{at}") for at, count in enumerate(units, start=1)
        ]
        self.layers.append(keras.layers.Dense(classes, name="logits"))
        build = normalizations.get(network.normalization)
        self.norms = [build(name=f"norm_{at}") for at in range(1, len(self.layers))] if build else []
        x, taps = keras.Input((features,)), [keras.Input((count,)) for count in fans[1:]]
        plain, tapped = self._wire(x, []), self._wire(x, taps)
        self.model = keras.Model(x, plain[len(units)])
        self.traced, self.tapped = keras.Model(x, plain), keras.Model([x, *taps], tapped)

    def _wire(self, x: keras.KerasTensor, taps: Sequence[keras.KerasTensor]) -> list[keras.KerasTensor]:
        """Return pre-activations, logits last, and the hidden layers' activations, of inputs x."""

        def layer(at: int, h: keras.KerasTensor) -> keras.KerasTensor:
            z = self.layers[at](h)
            return self.norms[at](z) if at < len(self.norms) else z

        layers = [partial(layer, at) for at in range(len(self.layers))]
        pre_activations, activated = traced(self.network, layers, ACTIVATIONS[self.network.activation], x, taps)
        return [*pre_activations, *activated[:-1]]

    def call(
        self,
        weights: list[tf.Tensor],
        state: list[tf.Tensor],
        x: tf.Tensor,
        taps: Sequence[tf.Tensor] = (),
        *,
        training: bool,
    ) -> Trace:
        """Return the trace under these weights and running statistics, the new ones in it."""
        model, inputs = (self.tapped, [x, *taps]) if taps else (self.traced, x)
        outputs, new = model.stateless_call(weights, state, inputs, training=training)
        outputs = outputs if isinstance(outputs, list) else [outputs]  # of a single layer
        pre_activations, activated = outputs[: len(self.layers)], outputs[len(self.layers) :]
        return Trace(pre_activations, [*activated, pre_activations[-1]], new)


def deployed(
    network: Network,
    fans: tuple[int, ...],
    variables: Mapping[str, Floats],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> keras.Model:
    """Return a trained network as one model, from unscaled features (rows, features) float64 to logits.

    Its layers are Keras's own, so that it loads where this code is not.
    """
    perceptron = Perceptron(network, fans, BUILT_IN)
    for variable in perceptron.model.variables:
        variable.assign(variables[variable.path])
    x = keras.Input((fans[0],), dtype="float64", name="features")
    # Normalization takes no scale below 1e-7
    scaled = keras.layers.Rescaling((1 / scale).tolist(), (-mean / scale).tolist(), dtype="float64")(x)
    return keras.Model(x, perceptron.model(ops.cast(scaled, "float32")))


class AlignedAdam(keras.optimizers.Adam):
    """Adam with ε added after bias correction, as PyTorch and the paper's algorithm do (Kingma & Ba, 2015).

    Keras adds ε before, so at step t its ε has to be ε √(1 - β₂ᵗ).
    """

    def __init__(self, learning_rate: float, epsilon: float, weight_decay: float | None = None) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay)
        self.aligned = epsilon

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        step = keras.ops.cast(self.iterations + 1, variable.dtype)
        self.epsilon = self.aligned * keras.ops.sqrt(1 - keras.ops.power(self.beta_2, step))
        super().update_step(gradient, variable, learning_rate)


def optimizer(recipe: Recipe) -> keras.Optimizer:
    """Return the recipe's optimizer; its weight decay is decoupled, so an L2 penalty is not among its arguments."""
    if recipe.optimizer in ("sgd", "momentum"):
        return keras.optimizers.SGD(
            recipe.learning_rate, momentum=recipe.momentum if recipe.optimizer == "momentum" else 0.0
        )
    decay = recipe.weight_decay if recipe.optimizer == "adamw" and recipe.weight_decay else None
    if recipe.epsilon == "framework":
        return keras.optimizers.Adam(recipe.learning_rate, weight_decay=decay)
    return AlignedAdam(recipe.learning_rate, recipe.epsilon, decay)


def clipped(gradients: list[tf.Tensor], recipe: Recipe) -> list[tf.Tensor]:
    """Return one cell's gradients as the recipe cuts them."""
    if recipe.clip_value:
        return [ops.clip(each, -recipe.clip_value, recipe.clip_value) for each in gradients]
    if recipe.clip_norm:
        total = signals.norms(ops, [signals.norms(ops, gradients)])[0]
        factor = ops.minimum(recipe.clip_norm / (total + NORM_EPSILON), 1.0)
        return [factor * each for each in gradients]
    return gradients


def _loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


class Program:
    """A batch of perceptrons in training; see `tasks.core.training.backend.Program`.

    `places` is how many cells the compiled program holds; empty places are filled with copies of the first cell.
    """

    def __init__(self, network: Network, recipe: Recipe, fans: tuple[int, ...], places: int) -> None:
        self.perceptron = Perceptron(network, fans)
        self.recipe = recipe
        self.places = places
        model = self.perceptron.model
        self.stacks, self.state = (
            [keras.Variable(np.stack([variable.numpy()] * places)) for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        )
        at = {variable.path: place for place, variable in enumerate(model.trainable_variables)}
        self.kernels = [at[layer.kernel.path] for layer in self.perceptron.layers]
        self.biases = [None if layer.bias is None else at[layer.bias.path] for layer in self.perceptron.layers]
        self.optimizer = optimizer(recipe)
        if self.optimizer.weight_decay:
            others = [stack for place, stack in enumerate(self.stacks) if place not in self.kernels]
            self.optimizer.exclude_from_weight_decay(var_list=others)
        self.optimizer.build(self.stacks)

    def start(self, stack: Stack, weights: Weights) -> None:
        self.cells = len(stack.x_train)
        self.x, self.y, self.x_test, self.y_test = (
            tf.constant(self._padded(array)) for array in (stack.x_train, stack.y_train, stack.x_test, stack.y_test)
        )
        model = self.perceptron.model
        for stacked, variables in (
            (self.stacks, model.trainable_variables),
            (self.state, model.non_trainable_variables),
        ):
            for variable, built in zip(stacked, variables, strict=True):  # normalizations start as Keras builds them
                variable.assign(np.stack([built.numpy()] * self.places))
        for place, array in zip(self._places(), weights, strict=True):
            if place is not None:
                self.stacks[place].assign(self._padded(array))
        for variable in self.optimizer.variables:
            if variable is not self.optimizer._learning_rate:
                variable.assign(ops.zeros_like(variable))

    def _places(self) -> list[int | None]:
        """Return where among the stacks each layer's kernel and bias are, None where there is no bias."""
        return [place for pair in zip(self.kernels, self.biases, strict=True) for place in pair]

    def _padded(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.concatenate([array, np.repeat(array[:1], self.places - len(array), axis=0)])

    def _values(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        return [variable.value for variable in self.stacks], [variable.value for variable in self.state]

    def _gradients(self, cell: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return one cell's gradients as the optimizer takes them, its new state, and norms and finiteness by layer."""
        weights, state, x, y = cell
        with tf.GradientTape() as tape:
            tape.watch(weights)
            trace = self.perceptron.call(weights, state, x, training=True)
            loss = _loss(y, trace.logits)
        gradients = tape.gradient(loss, weights)
        norms = signals.norms(ops, [gradients[place] for place in self.kernels])
        finite = signals.finite(ops, trace.pre_activations)
        gradients = clipped(gradients, self.recipe)
        if self.recipe.weight_decay and not self.optimizer.weight_decay:
            for place in self.kernels:
                gradients[place] += self.recipe.weight_decay * weights[place]
        return gradients, trace.state, norms, finite

    def _scores(self, cell: tuple[Any, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        weights, state, x, y, x_test, y_test = cell
        trace = self.perceptron.call(weights, state, x, training=False)
        test = self.perceptron.call(weights, state, x_test, training=False)
        losses = [_loss(y, trace.logits), _loss(y_test, test.logits)]
        accuracies = [
            signals.share(ops, tf.argmax(logits, -1) == labels)  # Keras's argmax does not vectorise
            for logits, labels in ((trace.logits, y), (test.logits, y_test))
        ]
        return ops.stack([*losses, *accuracies]), self._state(trace)

    def _state(self, trace: Trace) -> tf.Tensor:
        return signals.state(ops, trace.activated, trace.pre_activations, self.perceptron.network.activation)

    @tf.function(autograph=False)
    def _measure(self, x: tf.Tensor, y: tf.Tensor, x_test: tf.Tensor, y_test: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.vectorized_map(self._scores, (*self._values(), x, y, x_test, y_test))

    @tf.function(autograph=False)
    def _outputs(self, x: tf.Tensor) -> tf.Tensor:
        def logits(cell: tuple[Any, ...]) -> tf.Tensor:
            return self.perceptron.call(*cell, training=False).logits

        return tf.vectorized_map(logits, (*self._values(), x))

    def _start_of(self, cell: tuple[Any, ...]) -> tuple[tf.Tensor, ...]:
        """Return one cell's signals at initialization."""
        weights, state, x, y = cell
        taps = [tf.zeros((x.shape[0], layer.units)) for layer in self.perceptron.layers]
        kernels = [weights[place] for place in self.kernels]
        with tf.GradientTape() as outer:
            outer.watch(kernels)
            with tf.GradientTape() as tape:
                tape.watch([kernels, taps])
                trace = self.perceptron.call(weights, state, x, taps, training=True)
                loss = _loss(y, trace.logits)
            gradients, in_taps = tape.gradient(loss, [kernels, taps])
            half_square = tf.add_n([tf.reduce_sum(each**2) for each in gradients]) / 2
        products = outer.gradient(half_square, kernels, unconnected_gradients="zero")
        layers = [
            ops.stack(signals.at_start(ops, z, activated, x.shape[0] * in_tap, gradient))
            for z, activated, in_tap, gradient in zip(
                trace.pre_activations, trace.activated, in_taps, gradients, strict=True
            )
        ]
        scores = [
            loss,
            signals.largest_class_share(ops, trace.logits),
            signals.gradient_quotient(ops, gradients, products),
        ]
        rows_own = [value / NEWEST for value in trace.state]  # they were mixed into zeros
        some = x[:JACOBIAN_ROWS]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(some)
            logits = self.perceptron.call(weights, rows_own, some, training=False).logits
            summed = tf.unstack(tf.reduce_sum(logits, 0))
        jacobian = ops.stack([tape.gradient(each, some) for each in summed], 1)
        return ops.stack(layers, 1), ops.stack(scores), jacobian, self._state(trace)

    @tf.function(autograph=False)
    def _probe(self, *cells: Any) -> tuple[tf.Tensor, ...]:
        return tf.vectorized_map(self._start_of, cells)

    @tf.function
    def _run(self, order: tf.Tensor, x: tf.Tensor, y: tf.Tensor, x_test: tf.Tensor, y_test: tf.Tensor) -> Any:
        rows = order.shape[-1]
        size = rows if self.recipe.batch_size == "full" else min(self.recipe.batch_size, rows)
        whole = rows - rows % size  # a last, smaller batch has another shape, so it stands outside the loop
        epochs, layers = tf.shape(order)[0], len(self.kernels)
        scores = tf.TensorArray(tf.float32, epochs, element_shape=(self.places, 4))
        states = tf.TensorArray(tf.float32, epochs, element_shape=(self.places, len(STATE), layers))
        flows = tf.TensorArray(tf.float32, epochs, element_shape=(self.places, len(FLOW), layers))
        for epoch in tf.range(epochs):
            total = tf.zeros((self.places, len(FLOW), layers))
            for at in tf.range(0, whole, size):
                visited = tf.ensure_shape(order[epoch, :, at : at + size], (self.places, size))
                total += self._step(x, y, visited)
            if whole < rows:
                total += self._step(x, y, order[epoch, :, whole:])
            score, state = self._measure(x, y, x_test, y_test)
            scores, states = scores.write(epoch, score), states.write(epoch, state)
            flows = flows.write(epoch, total / -(-rows // size))
        return scores.stack(), states.stack(), flows.stack()

    def _step(self, x: tf.Tensor, y: tf.Tensor, visited: tf.Tensor) -> tf.Tensor:
        """Take one step; return the cells' `signals.FLOW` in it, (places, 3, layers)."""
        batch = (*self._values(), tf.gather(x, visited, batch_dims=1), tf.gather(y, visited, batch_dims=1))
        gradients, state, norms, finite = tf.vectorized_map(self._gradients, batch)
        before = [tf.identity(self.stacks[place].value) for place in self.kernels]
        self.optimizer.apply(gradients, self.stacks)
        for variable, new in zip(self.state, state, strict=True):
            variable.assign(new)
        after = [self.stacks[place].value for place in self.kernels]
        return tf.stack([norms, signals.update_ratios(ops, before, after), finite], 1)

    def probe(self) -> Start:
        weights, state = self._values()
        cells = (weights, [tf.zeros_like(value) for value in state], self.x, self.y)
        chunks = [
            self._probe(*tf.nest.map_structure(lambda tensor, at=at: tensor[at : at + PROBED], cells))
            for at in range(0, self.cells, PROBED)
        ]
        return Start(
            *(np.concatenate([part.numpy() for part in parts])[: self.cells] for parts in zip(*chunks, strict=True))
        )

    def measure(self) -> Progress:
        scores, state = self._measure(self.x, self.y, self.x_test, self.y_test)
        return self._progress(scores[None], state[None], tf.zeros((0, self.places, len(FLOW), len(self.kernels))))

    def _progress(self, *parts: tf.Tensor) -> Progress:
        return Progress(*(part.numpy()[:, : self.cells] for part in parts))

    def run(self, order: NDArray[np.int32]) -> Progress:
        padded = np.swapaxes(self._padded(np.swapaxes(order, 0, 1)), 0, 1)
        data = (self.x, self.y, self.x_test, self.y_test)
        any_epochs = tf.TensorSpec((None, *padded.shape[1:]), tf.int32)  # one compilation for any number of epochs
        return self._progress(*self._run.get_concrete_function(any_epochs, *data)(tf.constant(padded), *data))

    def logits(self) -> Floats:
        return self._outputs(self.x_test).numpy()[: self.cells]

    def weights(self) -> Weights:
        return [self.stacks[place].numpy()[: self.cells] for place in self._places() if place is not None]

    def variables(self) -> dict[str, Floats]:
        model = self.perceptron.model
        built = [*model.trainable_variables, *model.non_trainable_variables]
        stacks = [*self.stacks, *self.state]
        return {own.path: stack.numpy()[: self.cells] for own, stack in zip(built, stacks, strict=True)}


@lru_cache(COMPILED_PROGRAMS)
def _program(network: Network, recipe: Recipe, fans: tuple[int, ...], places: int) -> Program:
    return Program(network, recipe, fans, places)


def program(network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int) -> Program:
    """Return the program for these settings with at least so many places."""
    return _program(network, recipe, fans, next((places for places in PLACES if places >= cells), cells))

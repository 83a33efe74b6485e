"""The network as Keras models: for training, for its trace, and for deployment."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from tasks.backends.keras.contained import contained
from tasks.backends.keras.layers import modules
from tasks.core.design.activations import LEAKY_SLOPE, ActivationName
from tasks.core.design.settings import Network
from tasks.core.training.backend import NEWEST, NORMALIZATION_EPSILON, Builder, traced
from tasks.core.training.datasets import Floats, Fold, Problem

Tensors = list[tf.Tensor]
"""Tensors in the order of the model's variables."""

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


# Keras computes mean and variance with TensorFlow's moments, which stop a gradient that is zero. The gradient of that
# gradient is not zero, so Keras's second derivatives are wrong. The two layers below compute the moments themselves.
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization, with moments whose second derivatives are right."""

    def _moments(self, inputs: tf.Tensor, mask: None) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ARG002  # Keras calls it
        return ops.mean(inputs, 0), ops.var(inputs, 0)


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer normalization, with moments whose second derivatives are right."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        mean, variance = ops.mean(inputs, -1, keepdims=True), ops.var(inputs, -1, keepdims=True)
        return (inputs - mean) * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta


NORMALIZATIONS: dict[str, Any] = {
    "batch": partial(BatchNormalization, momentum=1 - NEWEST, epsilon=NORMALIZATION_EPSILON),
    "layer": partial(LayerNormalization, epsilon=NORMALIZATION_EPSILON),
}
"""The normalizations that networks are trained with."""

BUILT_IN: dict[str, Any] = {
    "batch": partial(keras.layers.BatchNormalization, momentum=1 - NEWEST, epsilon=NORMALIZATION_EPSILON),
    "layer": partial(keras.layers.LayerNormalization, epsilon=NORMALIZATION_EPSILON),
}
"""Keras's own normalizations, for models that are loaded where this code is not installed."""


class Trace(NamedTuple):
    """The pre-activations and activations of each layer, see `backend.traced`, and the running statistics."""

    pre_activations: Tensors
    activated: Tensors
    state: Tensors

    @property
    def logits(self) -> tf.Tensor:
        """The last layer's pre-activations, (rows, classes)."""
        return self.pre_activations[-1]


class Perceptron:
    """The multilayer perceptron with layers of the given sizes, inputs first and logits last, as Keras models.

    The three models share their layers. `model` returns the logits of its inputs. `traced` returns the pre-activations
    of all layers and the activations of the hidden ones. `tapped` does so too, and takes one more input for each layer,
    the tap, which it adds to the layer's pre-activations. Derivatives in a tap are derivatives in the pre-activations.

    `normalizations` has the class that builds the network's normalization, by the normalization's name.
    """

    def __init__(
        self, network: Network, fans: tuple[int, ...], normalizations: Mapping[str, Any] = NORMALIZATIONS
    ) -> None:
        self.network = network
        self.layers = _dense(network, fans)
        hidden = len(self.layers) - 1
        normalization = normalizations.get(network.normalization)
        self.norms = [normalization(name=f"norm_{at}") for at in range(1, hidden + 1)] if normalization else []
        x, taps = keras.Input((fans[0],)), [keras.Input((units,)) for units in fans[1:]]
        plain, tapped = self._wire(x, []), self._wire(x, taps)
        self.model = keras.Model(x, plain[hidden])
        self.traced, self.tapped = keras.Model(x, plain), keras.Model([x, *taps], tapped)

    def _wire(self, x: keras.KerasTensor, taps: Sequence[keras.KerasTensor]) -> list[keras.KerasTensor]:
        """Return the pre-activations for inputs x, logits last, and then the hidden layers' activations."""
        layers = [partial(self._pre_activation, at) for at in range(len(self.layers))]
        pre_activations, activated = traced(self.network, layers, ACTIVATIONS[self.network.activation], x, taps)
        return [*pre_activations, *activated[:-1]]

    def _pre_activation(self, at: int, h: keras.KerasTensor) -> keras.KerasTensor:
        z = self.layers[at](h)
        return self.norms[at](z) if at < len(self.norms) else z

    def call(
        self, weights: Tensors, state: Tensors, x: tf.Tensor, taps: Sequence[tf.Tensor] = (), *, training: bool
    ) -> Trace:
        """Return the trace of rows x under these weights and running statistics; its state has the new statistics."""
        model, inputs = (self.tapped, [x, *taps]) if taps else (self.traced, x)
        outputs, new = model.stateless_call(weights, state, inputs, training=training)
        outputs = outputs if isinstance(outputs, list) else [outputs]  # a network of one layer has a single output
        pre_activations, activated = outputs[: len(self.layers)], outputs[len(self.layers) :]
        return Trace(pre_activations, [*activated, pre_activations[-1]], new)


def _dense(network: Network, fans: tuple[int, ...]) -> list[keras.layers.Dense]:
    """Return the dense layers, the one of the logits last."""
    # A batch normalization subtracts any constant. A bias before it would only drift with rounding errors.
    bias = network.normalization != "batch"
    hidden = [
        keras.layers.Dense(units, use_bias=bias, name=f"hidden_{at}") for at, units in enumerate(fans[1:-1], start=1)
    ]
    return [*hidden, keras.layers.Dense(fans[-1], name="logits")]


def deployed(network: Network, fans: tuple[int, ...], variables: Mapping[str, Floats], fold: Fold) -> keras.Model:
    """Return a trained network as one model, from unscaled features (rows, features) float64 to what it gives.

    All of its layers are Keras's own, so that Keras loads the model where this code is not installed.
    """
    perceptron = Perceptron(network, fans, BUILT_IN)
    for variable in perceptron.model.variables:
        variable.assign(variables[variable.path])
    return _unscaled(perceptron.model, (fans[0],), fold)


def deployed_own(builder: Builder, problem: Problem, variables: Mapping[str, Floats], fold: Fold) -> keras.Model:
    """Return a trained model of one's own as one model, from unscaled rows to what it gives.

    Raises:
        ValueError: if Keras could not load the model where the code of its classes or functions is not installed.
    """
    with contained(0):
        model = builder(problem.shape, problem.outputs)
        model(tf.zeros((1, *problem.shape), tf.int64 if problem.tokens else tf.float32))
    for layer in modules(model).values():
        kind = type(layer)
        if not kind.__module__.startswith("keras.") or kind is keras.layers.Lambda:
            raise ValueError(f"Keras loads {layer.name}, a {kind.__name__}, only where its code is")
    for variable in model.variables:
        variable.assign(variables[variable.path])
    return model if problem.tokens else _unscaled(model, problem.shape, fold)


def _unscaled(model: keras.Model, shape: tuple[int, ...], fold: Fold) -> keras.Model:
    """Return a model that scales its inputs itself, and gives real targets in the units of the data."""
    x = keras.Input(shape, dtype="float64", name="features")
    # Keras's Normalization layer would replace every scale below 1e-7
    scaled = keras.layers.Rescaling((1 / fold.scale).tolist(), (-fold.mean / fold.scale).tolist(), dtype="float64")(x)
    given = model(ops.cast(scaled, "float32"))
    if fold.real:
        given = keras.layers.Rescaling(fold.y_scale.tolist(), fold.y_mean.tolist())(given)
    return keras.Model(x, given)

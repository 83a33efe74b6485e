"""Keras's own initializers: Keras's classes for the laws of `design/initializers.py`."""

import math
import warnings

import keras
import numpy as np

from tasks.backends.keras.layers import check, layers, modules
from tasks.core.design.initializers import (
    Backend,
    Constant,
    Identity,
    Initializer,
    Law,
    MeanField,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    bias_bound,
    layerwise,
)
from tasks.core.design.layers import Kernel, Layer, Layers
from tasks.core.training.datasets import Floats

NAME: Backend = "keras"
AXES = hasattr(keras.initializers.VarianceScaling(), "input_axes")  # since Keras 3.15


def init_weights(model: keras.Layer, initializer: str = "he_normal", seed: int | None = None) -> Layers:
    """Initialize every layer of a built model whose kind is in `layers.KINDS`, and return what was initialized.

    Laws have the fans of the operation, also where Keras counts others: for depthwise, separable and transposed
    convolutions, for groups and strides, and for the gates of a recurrent layer, each of which is drawn as a kernel of
    its own. Biases become zeros, but ones for an LSTM's forget gate if the layer has `unit_forget_bias`; under
    pytorch_default they get U(±1/√fan_in) on top. The same seed gives the same weights. Without a seed
    `keras.utils.set_random_seed` decides, as for Keras's own initializers.

    Parameters of two or more dimensions that belong to no such layer stay as built; a warning names them, and so does
    the result.

    Raises:
        ValueError: if the initializer is unknown, or Keras has no class for it; or, before anything is changed, if a
            layer is not built, a kernel is computed from other weights, or its shape does not allow the initializer.
    """
    entry = layerwise(initializer)
    found, named_layers = layers(model), modules(model)
    for layer in found.layers:
        for parameter in layer.parameters:
            check(named_layers[layer.name], layer.name, parameter)
        for kernel in layer.kernels:
            kernel.allows(entry.law, layer.name)
    rng = np.random.default_rng(keras.initializers.RandomNormal().seed if seed is None else seed)
    tied = {name for name, _ in found.tied}
    for layer in found.layers:
        for parameter, value in _drawn(layer, named_layers[layer.name], entry, rng).items():
            if f"{layer.name}/{parameter}" not in tied:
                getattr(named_layers[layer.name], parameter).assign(value)
    found.warn()
    return found


def _drawn(layer: Layer, own: keras.Layer, entry: Initializer, rng: np.random.Generator) -> dict[str, Floats]:
    """Draw the parameters in which a layer's kernels and biases lie."""
    drawn = {parameter: np.empty(getattr(own, parameter).shape, np.float32) for parameter in layer.parameters}
    for kernel in layer.kernels:
        array = kernel.place.view(drawn[kernel.place.parameter])
        if array.size:
            array[...] = _kernel(kernel, entry.law, rng)
        else:
            warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)  # PyTorch's words
        if kernel.bias:
            bias = kernel.bias.view(drawn[kernel.bias.parameter])
            bias[...] = build(_bias_law(entry, kernel.fan_in), 0, _seed(rng))(bias.shape) + kernel.offset
    return drawn


def _kernel(kernel: Kernel, law: Law, rng: np.random.Generator) -> Floats:
    """Draw a kernel by its law; a law of matrices draws each of the kernel's matrices by itself."""
    if isinstance(law, Orthogonal | Identity):
        return kernel.assembled(lambda fan_in, fan_out: native(law, fan_in, fan_out, _seed(rng)))
    free = law.without_fans(kernel.fan_in, kernel.fan_out, NAME)
    return np.asarray(build(free, 0, _seed(rng))(kernel.shape))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))


def _bias_law(entry: Initializer, fan_in: float) -> Law:
    bound, std = bias_bound(entry, NAME, fan_in), entry.law.bias_std
    return Normal(std) if std else Uniform(bound) if bound else Constant(0)


def build(law: Law, fan_in: int, seed: int) -> keras.Initializer:
    """Return Keras's own initializer for the law of a layer with so many inputs.

    Raises:
        ValueError: if Keras has no class for the law.
    """
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


def counted(kernel: Kernel, kind: str) -> tuple[float, float]:
    """Return the fans that Keras takes for the parameter of a kernel, in a layer of a kind."""
    if kind == "EinsumDense" and AXES:  # tells its initializer the axes of inputs and outputs
        return kernel.fan_in, kernel.fan_out
    *taps, inputs, outputs = kernel.whole
    field = math.prod(taps)
    return float(field * inputs), float(field * outputs)


def native_array(law: Law, shape: tuple[int, ...], fans: tuple[float, float], seed: int) -> Floats:
    """Draw an array of a parameter's shape with Keras's own initializer for the law, and the fans that Keras counts."""
    return build(law.without_fans(*fans, NAME), 0, seed)(shape).numpy()


def native(law: Law, fan_in: int, fan_out: int, seed: int) -> Floats:
    """Draw a kernel (fan_in, fan_out) with Keras's own initializer for the law."""
    return build(law, fan_in, seed)((fan_in, fan_out)).numpy()

"""Keras's own initializers: Keras's classes for the laws of `design/initializers.py`."""

import keras
import numpy as np
from keras.src.layers.convolutional.base_conv import BaseConv

from tasks.core.design.initializers import (
    COVERED,
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
    fans_are_known,
    named,
)
from tasks.core.training.datasets import Floats

NAME: Backend = "keras"


def init_weights(model: keras.Layer, initializer: str = "he_normal", seed: int | None = None) -> None:
    """Initialize every dense and convolutional layer of a built model, or a single such layer.

    Biases become zeros; under pytorch_default they become U(±1/√fan_in). The same seed gives the same weights. Layers
    without weights of two or more dimensions, and normalizations, stay as they are.

    Raises:
        ValueError: if the initializer is unknown, if Keras has no class for it, or if a layer's shape does not allow
            it; or, before anything is changed, if a layer is not built, or has weights whose fans are not known here,
            such as an embedding.
    """
    entry = named(initializer)
    if not entry.law.native:
        raise ValueError(f"{initializer} is not built by a framework, layer by layer; choose another initializer")
    streams, layers = np.random.SeedSequence(seed), _layers(model)
    for layer in layers:
        if isinstance(layer, BaseConv):
            fans_are_known(_described(layer), entry, layer.groups, layer.strides)
    for layer in layers:
        kernel_seed, bias_seed = (int(number) for number in streams.spawn(1)[0].generate_state(2))
        fan_in = int(np.prod(layer.kernel.shape[:-1]))
        layer.kernel.assign(build(entry.law, fan_in, kernel_seed)(layer.kernel.shape))
        if layer.bias is not None:
            layer.bias.assign(build(_bias_law(entry, fan_in), fan_in, bias_seed)(layer.bias.shape))


def _layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return the dense and convolutional layers of a model, models within it included, or the layer if it is one.

    Raises:
        ValueError: if there is a layer that is not built, or one of another kind that has a kernel.
    """
    if isinstance(layer, keras.Model):
        return [found for part in layer.layers for found in _layers(part)]
    if not layer.built:
        raise ValueError(f"layers must be built before they are initialized; got {_described(layer)}")
    if isinstance(layer, keras.layers.Dense | BaseConv):
        return [layer]
    if isinstance(layer, keras.layers.LayerNormalization) or all(len(each.shape) < 2 for each in layer.weights):
        return []
    raise ValueError(f"init_weights covers {COVERED}; got {_described(layer)}")


def _described(layer: keras.Layer) -> str:
    return f"{type(layer).__name__} {layer.name!r}"


def _bias_law(entry: Initializer, fan_in: int) -> Law:
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


def native(law: Law, fan_in: int, fan_out: int, seed: int) -> Floats:
    """Draw a kernel (fan_in, fan_out) with Keras's own initializer for the law."""
    return build(law, fan_in, seed)((fan_in, fan_out)).numpy()

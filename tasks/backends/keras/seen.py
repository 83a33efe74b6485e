"""What is seen of a Keras model of one's own while it is called: the outputs of its layers and of its activations."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tasks.core.design.layers import Layers
from tasks.core.training import signals
from tasks.core.training.signals import SATURATED

ACTIVATIONS = (
    *(keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.PReLU),
)
BOUNDED = {"tanh": lambda values: values, "sigmoid": lambda values: 2 * values - 1}
"""Of each bounded activation, what brings its values to between -1 and 1."""
NORMALIZATIONS = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.GroupNormalization)


@contextmanager
def changed(layer: Any, **attributes: Any) -> Iterator[None]:
    """Give a layer other attributes for a while, past Keras's own way of setting them, which would track them."""
    before = {name: layer.__dict__.get(name, changed) for name in attributes}
    for name, value in attributes.items():
        object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is changed:
                object.__delattr__(layer, name)
            else:
                object.__setattr__(layer, name, value)


@contextmanager
def probing(found: dict[str, keras.Layer], **norms: Any) -> Iterator[None]:
    """Let a model that is called in training drop nothing for a while; norms: attributes of batch normalizations."""
    with ExitStack() as stack:
        for layer in found.values():
            rates = {name: 0.0 for name in ("rate", "dropout", "recurrent_dropout") if _number(layer, name)}
            if rates:
                stack.enter_context(changed(layer, **rates))
            if norms and isinstance(layer, keras.layers.BatchNormalization):
                stack.enter_context(changed(layer, **norms))
        yield


def _number(layer: keras.Layer, name: str) -> bool:
    return isinstance(layer.__dict__.get(name), float)


@contextmanager
def streamed(found: dict[str, keras.Layer]) -> Iterator[dict[str, tf.Tensor]]:
    """Note for a while, in order of execution, what each of a model's repeated blocks gives, by its name."""
    outputs: dict[str, tf.Tensor] = {}

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def noted(*args: Any, **options: Any) -> Any:
            given = call(*args, **options)
            output = given[0] if isinstance(given, list | tuple) else given
            if tf.is_tensor(output):
                outputs.setdefault(name, output)
            return given

        return noted

    with ExitStack() as stack:
        for name, layer in _blocks(found).items():
            stack.enter_context(changed(layer, call=noting(name, layer.call)))
        yield outputs


def _blocks(found: dict[str, keras.Layer]) -> dict[str, keras.Layer]:
    """Return the outermost sums, and layers that hold others and stand beside others of their class, by name.

    Keras's own layers that hold others, such as attention, are no blocks, but models are.
    """
    kinds = Counter((name.rpartition("/")[0], type(each)) for name, each in found.items())
    holders = {name.rpartition("/")[0] for name in found}
    blocks: dict[str, keras.Layer] = {}
    for name, layer in found.items():
        own = isinstance(layer, keras.Model) or not type(layer).__module__.startswith("keras.")
        several = name in holders and own and kinds[name.rpartition("/")[0], type(layer)] > 1
        within = name.startswith(tuple(f"{each}/" for each in blocks))
        if not within and (several or isinstance(layer, keras.layers.Add)):
            blocks[name] = layer
    return blocks


class Seen:
    """What calls of a model have given, since it was entered: for each weighted layer a list, of as many as its calls.

    `outputs` are pre-activations, where a layer has an activation of its own; `activated` what comes of them. Tensors
    inside of a loop cannot be taken out of it, so of a recurrent cell the layer around it is looked at.
    """

    def __init__(self, found: dict[str, keras.Layer], layers: Layers) -> None:
        self.weighted = [_around(found, layer.name) for layer in layers.layers]
        self.inner = [isinstance(found[layer.name], _CELLS) for layer in layers.layers]
        self.activations = [each for each in found.values() if isinstance(each, ACTIVATIONS)]
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        self.last: int | None = None
        self.outputs: list[list[tf.Tensor]] = [[] for _ in self.weighted]
        self.activated: list[list[tf.Tensor]] = [[] for _ in self.weighted]
        self.bounds: list[Any] = [None for _ in self.weighted]

    def __enter__(self) -> Self:
        self.stack = ExitStack()
        wrapped: dict[int, list[int]] = {}
        for at, layer in enumerate(self.weighted):
            wrapped.setdefault(id(layer), []).append(at)
        for places in wrapped.values():
            layer = self.weighted[places[0]]
            own = getattr(layer, "activation", None)
            if own not in (None, keras.activations.linear) and not self.inner[places[0]]:
                self.stack.enter_context(changed(layer, activation=self._activation(places[0], own)))
            self.stack.enter_context(changed(layer, call=self._call(places, layer.call)))
        for layer in self.activations:
            self.stack.enter_context(changed(layer, call=self._activated(layer, layer.call)))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _activation(self, at: int, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def activation(given: tf.Tensor) -> tf.Tensor:
            found = own(given)
            self.outputs[at].append(given)
            self.activated[at].append(found)
            self.bounds[at] = BOUNDED.get(getattr(own, "__name__", ""))
            return found

        return activation

    def _call(self, places: Sequence[int], call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def called(*args: Any, **options: Any) -> Any:
            before = len(self.activated[places[0]])
            given = call(*args, **options)
            output = given[0] if isinstance(given, list | tuple) else given
            self.last = places[0]
            if len(self.activated[places[0]]) == before:  # no activation of its own
                for at in places:
                    self.outputs[at].append(output)
            return given

        return called

    def _activated(self, layer: keras.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def called(*args: Any, **options: Any) -> Any:
            found = call(*args, **options)
            at, self.last = self.last, None
            if at is not None and not self.activated[at]:
                self.activated[at].append(found)
                own = getattr(layer, "activation", None)
                self.bounds[at] = BOUNDED.get(getattr(own, "__name__", ""))
            return found

        return called

    def finite(self) -> tf.Tensor:
        """Return 1 for each layer whose outputs are all finite, else 0, and NaN for a layer without any: (layers,)."""
        nothing = tf.constant(np.nan, tf.float32)
        return tf.stack([_finite(each) if each else nothing for each in self.outputs])

    def state(self) -> tf.Tensor:
        """Return `signals.STATE` of each layer, (3, layers)."""
        nothing = tf.constant(np.nan, tf.float32)
        pairs = list(zip(self.activated, self.bounds, strict=True))
        dead = [_dead(each) if each else nothing for each, _ in pairs]
        saturated = [
            signals.share(ops, tf.abs(bound(_units(each))) > SATURATED) if each and bound else nothing
            for each, bound in pairs
        ]
        return tf.stack([tf.stack(dead), tf.stack(saturated), self.finite()])

    def at_start(self, at: int, rows: int, slopes: Sequence[tf.Tensor | None], norm: tf.Tensor) -> tf.Tensor:
        """Return the signals in `columns.START` of a layer, but standard deviations in place of variances.

        rows: over how many rows the loss is a mean; slopes: its gradients in the layer's outputs; norm: that of the
        weights' gradient. Units are alike if their outputs are, and the gradients in these.
        """
        nan = tf.constant(np.nan, tf.float32)
        if not self.outputs[at]:
            return tf.stack([nan] * 5 + [norm, nan])
        output, known = _units(self.outputs[at]), [each for each in slopes if each is not None]
        slope = _units(known) if known else None
        found = [tf.reduce_mean(output), signals.std(ops, output)]
        if self.activated[at]:
            activated = _units(self.activated[at])
            found += [tf.reduce_mean(activated), signals.std(ops, activated)]
        else:
            found += [nan, nan]
        found.append(nan if slope is None else signals.std(ops, rows * slope))
        alike = signals.alike(ops, output) * (1.0 if slope is None else signals.alike(ops, slope))
        return tf.stack([*found, norm, alike])


_CELLS = (keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell)


def _around(found: dict[str, keras.Layer], name: str) -> keras.Layer:
    """Return a layer, or of a recurrent cell the layer that holds it."""
    holder = found.get(name.rpartition("/")[0])
    inside = isinstance(found[name], _CELLS) and isinstance(holder, keras.layers.RNN)
    return holder if inside else found[name]


def _units(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return outputs as (rows, units) in float32: every place of a convolution, or of a sequence, is a row."""
    return tf.cast(tf.concat([tf.reshape(each, (-1, each.shape[-1])) for each in tensors], 0), tf.float32)


def _finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.cast(tf.reduce_min(signals.finite(ops, tensors)), tf.float32)


def _dead(activated: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the share of units whose activation is zero everywhere."""
    return signals.share(ops, tf.reduce_max(tf.abs(_units(activated)), 0) == 0)

"""A Keras model that an audit builds again and again: what is in it, and its first pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tasks.backends.keras import initializers
from tasks.backends.keras.contained import contained
from tasks.backends.keras.layers import layers, modules
from tasks.backends.keras.losses import loss
from tasks.backends.keras.own import ends_in_softmax
from tasks.backends.keras.seen import Seen, probing, streamed
from tasks.core.audit.rows import NO_JACOBIANS, Rows
from tasks.core.audit.sample import Fans, FirstPass, Floats, refuse
from tasks.core.design.layers import Kernel, Layer, Layers
from tasks.core.training import signals
from tasks.core.training.signals import Start
from tasks.user_code import first_pass, telling

TINY = 1e-30  # stands for a probability of zero


class Audited:
    """A Keras model that an audit looks at; see `tasks.core.audit.sample.Auditable`.

    builder: what builds the model. rows: on which rows the first pass is made; None if nobody said what a row is. Then
    the model's own shape of inputs says so, if it has one.
    """

    backend = initializers.NAME
    version = keras.__version__
    layers: Layers

    def __init__(self, builder: Callable[[], Any], rows: Rows | None) -> None:
        self.builder, self.rows = builder, rows
        self.others: Mapping[str, str] = {}
        self.skipped: Sequence[str] = ()
        self.cuts: Mapping[str, float] = {}  # Keras cuts at multiples of the standard deviation
        self.places: Mapping[str, Sequence[str]] = {}  # Keras draws a variable once, when it is made
        self.model: Any = None
        self.found: dict[str, Any] = {}
        self.variables: dict[str, Any] = {}

    def build(self, seed: int) -> None:
        self.model, self.found, self.variables = None, {}, {}  # so that no two models are held at once
        with contained(seed):
            model = self.builder()
            if not isinstance(model, keras.Model):
                refuse(self.backend, "keras.Model", model)
            if self.rows is None and (shape := _shape(model)):
                self.rows = Rows.normal(shape)
            if not model.built and self.rows is not None:
                _called(model, self.rows)
        self.model, self.found = model, modules(model)
        self.layers = self._listed()
        self._list_others()

    def _listed(self, *inputs: Any) -> Layers:
        """List the weighted layers whose parameters are all real numbers, in order of execution on inputs."""
        found = layers(self.model, *inputs)
        return replace(found, layers=tuple(each for each in found.layers if not self._unreal(each)))

    def _unreal(self, layer: Layer) -> list[str]:
        """Return which parameters of a layer are no real numbers, in words."""
        kinds = {each: str(getattr(self.found[layer.name], each).dtype) for each in layer.parameters}
        return [
            f"{self.path(layer.name, each)} is left out: its type is {kind}"
            for each, kind in kinds.items()
            if not keras.backend.is_float_dtype(kind)
        ]

    def _list_others(self) -> None:
        mine = [(name, each) for name, layer in self.found.items() for each in layer._trainable_variables]
        self.frozen = {f"{name}/{each.name}" for name, each in mine if not each.trainable}
        taken = {
            id(getattr(self.found[layer.name], parameter))
            for layer in self.layers.layers
            for parameter in layer.parameters
        }
        others: dict[str, str] = {}
        skipped = [words for layer in layers(self.model).layers for words in self._unreal(layer)]
        for name, layer in self.found.items():
            for variable in layer._trainable_variables:
                here = f"{name}/{variable.name}"
                if not keras.backend.is_float_dtype(variable.dtype):
                    skipped.append(f"{here} is left out: its type is {variable.dtype}")
                elif id(variable) not in taken:
                    others[here], self.variables[here] = type(layer).__name__, variable
        self.others, self.skipped = others, list(dict.fromkeys(skipped))

    def path(self, layer: str, parameter: str) -> str:
        return f"{layer}/{parameter}"

    def read(self, layer: str, parameter: str) -> tuple[Floats, str]:
        value = getattr(self.found[layer], parameter) if layer else self.variables[parameter]
        kind = str(value.dtype)
        array = value.numpy()
        return (array if kind in ("float32", "float64") else array.astype(np.float32)), kind

    def counted(self, kernel: Kernel, kind: str) -> Fans:
        return initializers.counted(kernel, kind)

    # The first pass

    def first_pass(self) -> FirstPass:
        if len(getattr(self.model, "inputs", None) or ()) > 1:
            return FirstPass(note="no first pass was made: the model takes several inputs")
        if self.rows is None:
            return FirstPass(note="no first pass was made: --shape or --data says what a row is")
        with contained(0):
            return first_pass(self.rows.tries(self.layers), self._few, self._pass)

    def _few(self, rows: Rows) -> Layers:
        return self._listed(tf.constant(rows.first(2).x))

    def _pass(self, rows: Rows, found: Layers) -> FirstPass:
        few = tf.constant(rows.first(2).x)
        with Seen(self.found, found) as seen:
            self.model(few, training=False)
        numbers = sum(int(np.prod(each.shape)) for part in (*seen.outputs, *seen.activated) for each in part)
        rows = rows.first(rows.fitting(numbers // len(few)))
        kernels = [getattr(self.found[layer.name], layer.kernels[0].place.parameter).value for layer in found.layers]
        x = tf.constant(rows.x)
        with (
            probing(self.found),
            streamed(self.found) as stream,
            Seen(self.found, found) as seen,
            tf.GradientTape() as tape,
        ):
            tape.watch(kernels)
            given = _logits(self.model(x, training=True), ends_in_softmax(self.model))
            told = rows.targets(tuple(given.shape))
            total = loss(given, tf.constant(told.y), told.task)
        gradients, slopes, returns = tape.gradient(total, [kernels, seen.outputs, stream])
        norms = [tf.constant(0.0) if each is None else tf.norm(tf.cast(each, tf.float32)) for each in gradients]
        start = tf.stack([seen.at_start(at, len(rows.x), slopes[at], norm) for at, norm in enumerate(norms)], 1)
        share = tf.constant(np.nan, tf.float32)
        if told.task == "classification":
            share = signals.largest_class_share(ops, tf.reshape(given, (-1, given.shape[-1])))
        scores = np.array([[float(total), float(share), np.nan]], np.float32)
        arrays = start[None].numpy(), scores, NO_JACOBIANS, seen.state()[None].numpy()
        blocks = tuple((name, _variance(each), _variance(returns[name], len(x))) for name, each in stream.items())
        return FirstPass(rows.words, tuple(layer.name for layer in found.layers), Start(*arrays), told.guess, blocks)


def _variance(values: tf.Tensor | None, times: int = 1) -> float:
    """Return the variance of so many times a tensor's values, NaN if there is none."""
    return np.nan if values is None else float(times * signals.std(ops, tf.cast(values, tf.float32))) ** 2


def _called(model: keras.Model, rows: Rows) -> None:
    """Call a model that is not built on two rows, so that it is; on tokens, if it looks these up.

    Raises:
        ValueError: if it cannot take them.
    """
    counts = [each.input_dim for each in modules(model).values() if isinstance(each, keras.layers.Embedding)]
    with telling(f"a model must be built, or take rows of shape {rows.x.shape[1:]}"):
        model(tf.constant((rows.tokens_below(counts[0]) if counts else rows).first(2).x))


def _shape(model: keras.Model) -> tuple[int, ...] | None:
    """Return the shape of a row of a model's inputs, if the model has one input whose sides are all known."""
    shape = getattr(model, "input_shape", None) if model.built else None
    if not isinstance(shape, tuple) or len(shape) < 2:
        return None
    sides = tuple(side for side in shape[1:] if isinstance(side, int))
    return sides if len(sides) == len(shape) - 1 else None


def _logits(given: Any, softmax: bool) -> tf.Tensor:
    """Return the tensor of what a model gives; of probabilities their logarithms, which are logits."""
    while isinstance(given, list | tuple | dict):
        given = next(iter(given.values())) if isinstance(given, dict) else given[0]
    found = tf.cast(given, tf.float32)
    return tf.math.log(tf.maximum(found, TINY)) if softmax else found

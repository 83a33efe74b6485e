"""A Keras model of one's own in training: one cell at a time, by compiled functions that serve all cells.

The first model that is built stays: functions are traced with it once. A later cell's model gives its values to it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from tasks.backends.keras.contained import contained, generating
from tasks.backends.keras.layers import check, layers, modules
from tasks.backends.keras.losses import loss, score
from tasks.backends.keras.optimizer import alone, clipped, penalized, reset
from tasks.backends.keras.seen import NORMALIZATIONS, Seen, probing
from tasks.core.design.layers import Kernel, Layer, Layers
from tasks.core.design.settings import CellSettings, Recipe
from tasks.core.training import memory, signals
from tasks.core.training.backend import Builder, Progress, Size, in_order
from tasks.core.training.datasets import Floats, Fold, Problem
from tasks.core.training.signals import FLOW, JACOBIAN_ROWS, STATE, Start
from tasks.core.training.weights import LSUV_ROUNDS, LSUV_TOLERANCE

COMPILED = 4  # programs that are kept for reuse


class OwnProgram:
    """A model of one's own in training; see `tasks.core.training.backend.OwnProgram`.

    `generator` gives seeds to random operations that have none of their own.
    """

    layers: Layers
    size: Size

    def __init__(self, builder: Builder, recipe: Recipe, problem: Problem) -> None:
        self.builder, self.recipe, self.problem = builder, recipe, problem
        self.model: Any = None  # until the first cell is built
        self.generator = keras.random.SeedGenerator(0)
        self.quotient_known = True

    # How a cell starts

    def build(self, seed: int, x: NDArray[Any]) -> None:
        with contained(seed):
            built = self.builder(self.problem.shape, self.problem.outputs)
            self._check(built, x)
        if self.model is None:
            self._take(built, x)
            return
        values = {each.path: each for each in built.variables}
        if {path: tuple(each.shape) for path, each in values.items()} != self.shapes:
            mine = {(path, tuple(each.shape)) for path, each in values.items()}
            differing = sorted(mine ^ {*self.shapes.items()})[0][0]
            raise ValueError(f"a builder must build the same shapes under every seed; {differing} differs")
        for variable in self.model.variables:
            variable.assign(values[variable.path])

    def _check(self, built: Any, x: NDArray[Any]) -> None:
        if not isinstance(built, keras.Model):
            raise ValueError(f"a builder must return a keras.Model; it returned {type(built).__name__}")  # noqa: TRY004  # input
        if isinstance(getattr(built, "input", None), list | tuple | dict) and len(built.inputs) > 1:
            raise ValueError(f"a Keras model must have one input; it has {len(built.inputs)}")
        given = built(tf.constant(x), training=False)
        if isinstance(given, list | tuple | dict):
            raise ValueError(f"a model must give one tensor; it gives a {type(given).__name__}")  # noqa: TRY004  # input
        if tuple(given.shape) != (len(x), *self.problem.given):
            wanted, found = (", ".join(map(str, shape)) for shape in (self.problem.given, given.shape[1:]))
            raise ValueError(f"a model must give (rows, {wanted}) for these data; it gives (rows, {found})")
        if ends_in_softmax(built):
            raise ValueError("a model must give logits; its last layer has the activation softmax")

    def _take(self, built: keras.Model, x: NDArray[Any]) -> None:
        """Keep a model for all cells, and list what is in it."""
        self.layers = layers(built, tf.constant(x))
        if not self.layers.layers:
            raise ValueError("a model must have a weighted layer of a known kind (Dense, ConvND, LSTM and so on)")
        paths = [each.path for each in built.variables]
        if twice := [path for path in paths if paths.count(path) > 1]:
            raise ValueError(f"variables must differ in their names; two are {twice[0]}; give their layers names")
        self.model = built
        self.shapes = {each.path: tuple(each.shape) for each in built.variables}
        self.found = modules(built)
        self.trained = list(built.trainable_variables)
        self._list_kernels()
        with Seen(self.found, self.layers) as seen:
            built(tf.constant(x), training=False)
        given = chain.from_iterable([*seen.outputs, *seen.activated])
        numbers = sum(int(np.prod(each.shape)) for each in given)
        self.size = Size(sum(int(np.prod(each.shape)) for each in self.trained), numbers // len(x))
        self.optimizer = alone(self.recipe, self.trained, self.kernels)

    def _list_kernels(self) -> None:
        """List the places of kernels among the trained variables, and the layer of each."""
        places = {id(each): at for at, each in enumerate(self.trained)}
        owner: dict[int, int] = {}
        for at, layer in enumerate(self.layers.layers):
            for kernel in layer.kernels:
                place = places.get(id(getattr(self.found[layer.name], kernel.place.parameter)))
                if place is not None:
                    owner.setdefault(place, at)
        self.kernels, self.layer_of = list(owner), list(owner.values())

    def path(self, layer: str, parameter: str) -> str:
        return f"{layer}/{parameter}"

    def names_of(self, layer: Layer, kernel: Kernel) -> list[str]:
        return [layer.name, f"{layer.name}/{kernel.place.parameter}", f"{layer.name}/{kernel.name}"]

    @property
    def names(self) -> list[list[str]]:
        merged: dict[str, list[str]] = {}
        for layer in self.layers.layers:
            for kernel in layer.kernels:
                first, *others = self.names_of(layer, kernel)
                merged.setdefault(first, [first]).extend(others)
        return [*merged.values(), *([name] for name in self.layers.left)]

    def _variable(self, layer: str, parameter: str) -> keras.Variable:
        if layer:
            return getattr(self.found[layer], parameter)
        name, _, own = parameter.rpartition("/")
        return next(each for each in self.found[name]._trainable_variables if each.name == own)

    def read(self, layer: str, parameter: str) -> Floats:
        return np.array(self._variable(layer, parameter).numpy())

    def put(self, parameters: Mapping[tuple[str, str], Floats]) -> None:
        for (layer, parameter), value in parameters.items():
            if layer:
                check(self.found[layer], layer, parameter)
            self._variable(layer, parameter).assign(value)

    def rescale(self, layers: Sequence[str], x: NDArray[Any]) -> None:
        order = {layer.name: at for at, layer in enumerate(self.layers.layers)}
        rows = tf.constant(x[: memory.PROBED_ROWS])
        with self._kept():
            for name in layers:
                variable = self._variable(name, self.layers.layers[order[name]].kernels[0].place.parameter)
                for _ in range(LSUV_ROUNDS):
                    deviation = float(self._deviations(rows)[order[name]])
                    if abs(deviation**2 - 1) < LSUV_TOLERANCE or deviation == 0 or not np.isfinite(deviation):
                        break
                    variable.assign(variable / deviation)

    @tf.function(autograph=False)
    def _deviations(self, x: tf.Tensor) -> list[tf.Tensor]:
        with probing(self.found), self._watched() as seen:
            self.model(x, training=True)
        parts = [[tf.reshape(each, (-1,)) for each in outputs] for outputs in seen.outputs]
        return [tf.math.reduce_std(tf.concat(each, 0)) if each else tf.constant(np.nan) for each in parts]

    def start(self, fold: Fold, rate: float, seed: int) -> None:
        parts = ("train", "test", "validation") if len(fold.y_validation) else ("train", "test")
        arrays = ((getattr(fold, f"x_{part}"), getattr(fold, f"y_{part}")) for part in parts)
        self.data = [(tf.constant(x), tf.constant(y)) for x, y in arrays]
        reset(self.optimizer, rate)
        self.generator.state.assign([seed, 0])

    @contextmanager
    def _watched(self) -> Iterator[Seen]:
        """Watch what a call gives, and let random operations without a seed take one from the cell's generator."""
        with generating(self.generator), Seen(self.found, self.layers) as seen:
            yield seen

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Bring back, afterwards, what a call in training changes beside the weights."""
        others = [*self.model.variables, self.generator.state]
        before = [(each, each.numpy()) for each in others if not getattr(each, "trainable", False)]
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)

    # What is measured

    def measure(self) -> Progress:
        scores, state = self._now()
        layers = len(self.layers.layers)
        return Progress(scores[None, None], state[None, None], np.zeros((0, 1, len(FLOW), layers), np.float32))

    def _now(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the cell's part of `Progress.scores`, and `signals.STATE`, (3, layers)."""
        outputs, state = self._evaluated(self.data[0][0])
        given = [outputs, *(self._given(x) for x, _ in self.data[1:])]
        task = self.problem.task
        pairs = [(loss(each, y, task), score(each, y, task)) for each, (_, y) in zip(given, self.data, strict=True)]
        scores = in_order(*map(list, zip(*pairs, strict=True)))
        return np.array([each.numpy() for each in scores], np.float32), state

    def _evaluated(self, x: tf.Tensor) -> tuple[tf.Tensor, NDArray[np.float32]]:
        """Return outputs and `signals.STATE`; of many rows the state is that of the first part that fits in memory."""
        size = memory.rows_at_once(self.size.activations)
        outputs, state = self._evaluate(x[:size])
        rest = [self._evaluate(x[at : at + size])[0] for at in range(size, len(x), size)]
        return tf.concat([outputs, *rest], 0), state.numpy()

    def _given(self, x: tf.Tensor) -> tf.Tensor:
        return self._evaluated(x)[0]

    @tf.function(autograph=False, reduce_retracing=True)
    def _evaluate(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with self._watched() as seen:
            outputs = self.model(x, training=False)
        return outputs, seen.state()

    def run(self, order: NDArray[np.int32]) -> Progress:
        x, y = self.data[0]
        if not len(order):
            self._compile(order, x, y)
            return Progress(*(np.zeros((0, 1, *shape), np.float32) for shape in self._shapes()))
        measured, flow = [], []
        for epoch in order:
            flow.append(self._epoch(tf.constant(epoch), x, y).numpy()[None])
            measured.append(self._now())
        scores, states = (np.stack([each[None] for each in part]) for part in zip(*measured, strict=True))
        return Progress(scores, states, np.stack(flow))

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        found = len(self.layers.layers)
        return (2 * len(self.data),), (len(STATE), found), (len(FLOW), found)

    def _compile(self, order: NDArray[np.int32], x: tf.Tensor, y: tf.Tensor) -> None:
        self._epoch.get_concrete_function(tf.TensorSpec(order.shape[1:], tf.int32), x, y)

    @tf.function
    def _epoch(self, order: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Train for one epoch on the rows in an order; return `signals.FLOW` over its steps, (3, layers)."""
        rows = order.shape[0]
        size = rows if self.recipe.batch_size == "full" else min(self.recipe.batch_size, rows)
        whole = rows - rows % size  # a last batch that is smaller has another shape, and stands outside the loop
        total = tf.zeros((len(FLOW), len(self.layers.layers)))
        for at in tf.range(0, whole, size):
            visited = tf.ensure_shape(order[at : at + size], (size,))
            total += self._step(tf.gather(x, visited), tf.gather(y, visited))
        if whole < rows:
            total += self._step(tf.gather(x, order[whole:]), tf.gather(y, order[whole:]))
        return total / -(-rows // size)

    @tf.autograph.experimental.do_not_convert
    def _step(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Take one step; return its `signals.FLOW`, (3, layers)."""
        values = [each.value for each in self.trained]
        with self._watched() as seen, tf.GradientTape() as tape:
            tape.watch(values)
            total = self._loss(self.model(x, training=True), y)
        given = tape.gradient(total, values, unconnected_gradients="zero")
        gradients = _dense(given)
        norms = self._by_layer([gradients[place] for place in self.kernels])
        # Keras's optimizers have a way of their own with the gradient of an embedding, which a changed one misses
        changes = self.recipe.clip_norm or self.recipe.clip_value or self.recipe.weight_decay
        taken = penalized(clipped(gradients, self.recipe), values, self.kernels, self.recipe) if changes else given
        before = [tf.identity(self.trained[place].value) for place in self.kernels]
        self.optimizer.apply(taken, self.trained)
        after = [self.trained[place].value for place in self.kernels]
        moved = self._by_layer([new - old for new, old in zip(after, before, strict=True)])
        return tf.stack([norms, moved / self._by_layer(before), seen.finite()])

    def _loss(self, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Return the loss, and what the layers of the model add to it."""
        return tf.add_n([loss(outputs, y, self.problem.task), *self.model.losses])

    def _by_layer(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the norm of each layer's kernels together, (layers,), of tensors that belong to `kernels` in turn."""
        squares = tf.stack([tf.reduce_sum(each * each) for each in tensors])
        return tf.sqrt(tf.math.unsorted_segment_sum(squares, self.layer_of, len(self.layers.layers)))

    def outputs(self) -> Floats:
        return self._given(self.data[1][0]).numpy()

    def variables(self) -> dict[str, Floats]:
        return {each.path: np.array(each.numpy()) for each in self.model.variables}

    # Signals at the start

    def probe(self) -> Start:
        x, y = (each[: memory.PROBED_ROWS] for each in self.data[0])
        with self._kept():
            layers, scores, state, *gradients = (each.numpy()[None] for each in self._signals(x, y))
        with self._kept():
            quotient = self._quotient_of(x, y)
        with self._kept():
            jacobians = self._jacobians(x)
        names = [self.trained[place].path for place in self.kernels]
        scores = np.append(scores, np.float32(quotient))[None]
        return Start(layers, scores, jacobians[None], state, dict(zip(names, gradients, strict=True)))

    @tf.function(autograph=False)
    def _signals(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return each layer's signals, the loss with the largest class share, the state, and each kernel's gradient."""
        values = [self.trained[place].value for place in self.kernels]
        with probing(self.found), self._watched() as seen, tf.GradientTape() as tape:
            tape.watch(values)
            given = self.model(x, training=True)
            total = loss(given, y, self.problem.task)
        found, slopes = tape.gradient(total, [values, seen.outputs])
        pairs = zip(found, values, strict=True)
        gradients = _dense([tf.zeros_like(v) if each is None else each for each, v in pairs])
        norms = tf.unstack(self._by_layer(gradients))
        layers = [seen.at_start(at, x.shape[0], slopes[at], norm) for at, norm in enumerate(norms)]
        share = tf.constant(np.nan, tf.float32)
        if self.problem.task == "classification":
            share = signals.largest_class_share(ops, tf.reshape(given, (-1, given.shape[-1])))
        return tf.stack(layers, 1), tf.stack([total, share]), seen.state(), *gradients

    def _quotient_of(self, x: tf.Tensor, y: tf.Tensor) -> float:
        """Return the gradient quotient, NaN where TensorFlow has no second derivatives, or wrong ones.

        Keras's normalizations stop a gradient that is zero, and whose own gradient is not.
        """
        if any(isinstance(each, NORMALIZATIONS) for each in self.found.values()) or not self.quotient_known:
            return float("nan")
        try:
            return float(self._quotient(x, y))
        except (LookupError, NotImplementedError, tf.errors.OpError):  # a layer without a second derivative
            self.quotient_known = False
            return float("nan")

    @tf.function(autograph=False)
    def _quotient(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        values = [self.trained[place].value for place in self.kernels]
        with probing(self.found), generating(self.generator), tf.GradientTape() as outer:
            outer.watch(values)
            with tf.GradientTape() as tape:
                tape.watch(values)
                total = loss(self.model(x, training=True), y, self.problem.task)
            gradients = _dense(tape.gradient(total, values, unconnected_gradients="zero"))
            half = tf.add_n([tf.reduce_sum(each**2) for each in gradients]) / 2
        products = _dense(outer.gradient(half, values, unconnected_gradients="zero"))
        return signals.gradient_quotient(ops, gradients, products)

    def _jacobians(self, x: tf.Tensor) -> Floats:
        """Return the derivatives of the outputs in the inputs, (rows, outputs, numbers), or one NaN if there are none.

        There are none of tokens, nor where an output is not that of a row. A batch normalization uses the statistics
        of the rows, as constants.
        """
        if self.problem.tokens or self.problem.positions:
            return np.full((1, 1, 1), np.nan, np.float32)
        self._settle(x)
        rows = x[:JACOBIAN_ROWS]
        found = self._derivatives(rows).numpy()
        return np.asarray(found.reshape(len(rows), self.problem.outputs, -1))

    @tf.function(autograph=False)
    def _settle(self, x: tf.Tensor) -> None:
        with probing(self.found, momentum=0.0), generating(self.generator):
            self.model(x, training=True)

    @tf.function(autograph=False)
    def _derivatives(self, rows: tf.Tensor) -> tf.Tensor:
        with generating(self.generator), tf.GradientTape(persistent=True) as tape:
            tape.watch(rows)
            summed = tf.unstack(tf.reduce_sum(self.model(rows, training=False), 0))
        found = [tape.gradient(each, rows, unconnected_gradients="zero") for each in summed]
        return tf.stack(found, 1)


def _dense(gradients: Sequence[Any]) -> list[tf.Tensor]:
    """Return gradients as tensors; that of an embedding comes as the rows that were looked up."""
    return [tf.convert_to_tensor(each) for each in gradients]


def ends_in_softmax(model: keras.Model) -> bool:
    """Tell whether a functional model's last layer turns logits into probabilities."""
    last = model.layers[-1] if model.layers else None
    return getattr(last, "activation", None) is keras.activations.softmax or isinstance(last, keras.layers.Softmax)


_kept: OrderedDict[object, OwnProgram] = OrderedDict()
"""Programs of networks of one's own, the most recent one last."""


def own(builder: Builder, settings: CellSettings, problem: Problem) -> OwnProgram:
    """Return a program for a network of one's own; the most recent programs are kept, because Keras compiles them."""
    key = settings.network, settings.shared.recipe, problem
    found = _kept.pop(key, None) or OwnProgram(builder, settings.recipe, problem)
    while len(_kept) >= COMPILED:
        _kept.popitem(last=False)
    _kept[key] = found
    return found

"""A batch of cells in training, as one compiled program."""

import gc
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from tasks.backends.keras.cell import OneCell
from tasks.backends.keras.network import Perceptron, Tensors
from tasks.backends.keras.optimizer import optimizer, reset
from tasks.core.design.own import Task
from tasks.core.design.settings import Network, Recipe
from tasks.core.training import memory, signals
from tasks.core.training.backend import PROBED, Progress, Stack, Weights
from tasks.core.training.datasets import Floats
from tasks.core.training.memory import PLACES
from tasks.core.training.signals import FLOW, STATE, Start

GRAPH = 12 * 2**20  # bytes that TensorFlow's graph of a program takes for a layer, as measured with 40 layers
UNUSED = {name: Recipe.model_fields[name].default for name in ("epochs", "learning_rate", "shuffle")}
"""Settings that a compiled program does not depend on: its batches bring their own rates and orders of rows."""
KEPT_BYTES = 2**28  # of programs that are kept; the least recently used one is dropped first, the newest one never


class Program:
    """A batch of perceptrons in training; see `tasks.core.training.backend.Program`.

    A compiled program has a fixed number of places, each for one cell. Places that a batch leaves empty are filled with
    copies of its first cell. `stacks` and `state` hold the model's variables with a leading axis of places: what is
    trained, and the running statistics. `data` has the features and classes of each fold, and the fold of each place.
    """

    def __init__(self, network: Network, recipe: Recipe, fans: tuple[int, ...], places: int, task: Task) -> None:
        self.recipe = recipe
        self.sizes = fans
        self.places = places
        perceptron = Perceptron(network, fans)
        self.model = perceptron.model
        self.stacks = [keras.Variable(self._repeated(own)) for own in self.model.trainable_variables]
        self.state = [keras.Variable(self._repeated(own)) for own in self.model.non_trainable_variables]
        at = {own.path: place for place, own in enumerate(self.model.trainable_variables)}
        self.kernels = [at[layer.kernel.path] for layer in perceptron.layers]
        self.biases = [None if layer.bias is None else at[layer.bias.path] for layer in perceptron.layers]
        self.cell = OneCell(perceptron, recipe, self.kernels, task)
        self.optimizer = optimizer(recipe, self.stacks, self.kernels)

    def start(self, stack: Stack, weights: Weights, rates: Sequence[float]) -> None:
        self.cells = len(rates)
        self.data = (*map(tf.constant, stack.arrays), tf.constant(self._padded(stack.fold)))
        at_once = memory.at_once(stack.rows, self.sizes)
        self.at_once = self.places if at_once >= self.places else math.gcd(at_once, self.places)
        for variable, own in self._variables():  # normalizations start as Keras builds them
            variable.assign(self._repeated(own))
        for place, array in zip(self._given(), weights, strict=True):
            if place is not None:
                self.stacks[place].assign(self._padded(array))
        reset(self.optimizer, self._padded(np.array(rates, np.float32)))

    @property
    def size(self) -> int:
        """About how many bytes the program takes: its graph, and all variables, those of the optimizer among them."""
        variables = (*self.stacks, *self.state, *self.optimizer.variables)
        return GRAPH * len(self.kernels) + sum(4 * math.prod(each.shape) for each in variables)

    def _variables(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Return each stacked variable with the model's own, which keeps the value that Keras built it with."""
        own = [*self.model.trainable_variables, *self.model.non_trainable_variables]
        return list(zip([*self.stacks, *self.state], own, strict=True))

    def _given(self) -> list[int | None]:
        """Return the places of each layer's kernel and bias among the stacks, None where a layer has no bias."""
        return [place for pair in zip(self.kernels, self.biases, strict=True) for place in pair]

    def _repeated(self, own: keras.Variable) -> NDArray[np.generic]:
        return np.stack([own.numpy()] * self.places)

    def _padded(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Fill the leading axis, of cells, up to the number of places."""
        return np.concatenate([array, np.repeat(array[:1], self.places - len(array), axis=0)])

    def _values(self) -> tuple[Tensors, Tensors]:
        return [variable.value for variable in self.stacks], [variable.value for variable in self.state]

    def probe(self) -> Start:
        weights, state = self._values()
        zeros = [tf.zeros_like(value) for value in state]
        size = min(PROBED, max(2, self.at_once // 2))
        chunks = [
            self._probe(*_cut((weights, zeros), at, size), *_of_cells(_cut(self.data[-1], at, size), *self.data[:2]))
            for at in range(0, self.cells, size)
        ]
        arrays = (np.concatenate([part.numpy() for part in parts])[: self.cells] for parts in zip(*chunks, strict=True))
        layers, scores, jacobians, states, *gradients = arrays
        names = [self.model.trainable_variables[place].path for place in self.kernels]
        return Start(layers, scores, jacobians, states, dict(zip(names, gradients, strict=True)))

    @tf.function(autograph=False)
    def _probe(self, *cells: Any) -> tuple[tf.Tensor, ...]:
        return tf.vectorized_map(self.cell.probe, cells)

    def measure(self) -> Progress:
        scores, state = self._compiled(self._measure)(*self.data)
        return self._progress(scores[None], state[None], tf.zeros((0, self.places, len(FLOW), len(self.kernels))))

    def _compiled(self, function: Any, *first: tf.TensorSpec) -> Callable[..., Any]:
        """Return a function of the data as compiled for any number of folds; `first` are what it is given before."""
        folds = [tf.TensorSpec((None, *each.shape[1:]), each.dtype) for each in self.data[:-1]]
        return function.get_concrete_function(*first, *folds, tf.TensorSpec((self.places,), self.data[-1].dtype))

    @tf.function(autograph=False)
    def _measure(self, *data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the cells' part of `Progress.scores`, and their `signals.STATE`, (places, 3, layers)."""
        return self._in_parts(self.cell.measure, (tf.float32, tf.float32), *data)

    def _in_parts(self, function: Callable[..., Any], types: Any, *data: tf.Tensor) -> Any:
        """Return what a function of one cell returns for all places, `at_once` of which are computed at a time.

        The last of the data is the places' folds; the rows of the others are copied for each place.
        """
        *folds, fold = data
        if self.at_once == self.places:
            return tf.vectorized_map(function, (*self._values(), *_of_cells(fold, *folds)))

        def part(at: tf.Tensor) -> Any:
            weights, state, own = _cut((*self._values(), fold), at, self.at_once)
            return tf.vectorized_map(function, (weights, state, *_of_cells(own, *folds)))

        starts = tf.range(0, self.places, self.at_once)
        parts = tf.map_fn(part, starts, fn_output_signature=types, parallel_iterations=1)  # by default 10 at once
        return tf.nest.map_structure(lambda each: tf.reshape(each, (self.places, *each.shape[2:])), parts)

    def _progress(self, *parts: tf.Tensor) -> Progress:
        return Progress(*(part.numpy()[:, : self.cells] for part in parts))

    def run(self, order: NDArray[np.int32]) -> Progress:
        padded = np.swapaxes(self._padded(np.swapaxes(order, 0, 1)), 0, 1)
        any_epochs = tf.TensorSpec((None, *padded.shape[1:]), tf.int32)  # one compilation for any number of epochs
        return self._progress(*self._compiled(self._run, any_epochs)(tf.constant(padded), *self.data))

    @tf.function
    def _run(self, order: tf.Tensor, *data: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return the parts of `Progress` for the epochs of an order, (epochs, places, rows)."""
        epochs = tf.shape(order)[0]
        scores, states, flows = self._empty(epochs, len(data) - 1)  # a loss and an accuracy of features and classes
        for epoch in tf.range(epochs):
            flow = self._epoch(order, epoch, *data[:2], data[-1])
            score, state = self._measure(*data)
            scores, states = scores.write(epoch, score), states.write(epoch, state)
            flows = flows.write(epoch, flow)
        return scores.stack(), states.stack(), flows.stack()

    def _empty(self, epochs: tf.Tensor, scores: int) -> list[tf.TensorArray]:
        """Return arrays to write each epoch's scores, state and flow to; `scores` says how many scores a cell has."""
        layers = len(self.kernels)
        shapes = (scores,), (len(STATE), layers), (len(FLOW), layers)
        return [tf.TensorArray(tf.float32, epochs, element_shape=(self.places, *shape)) for shape in shapes]

    def _epoch(self, order: tf.Tensor, epoch: tf.Tensor, *data: tf.Tensor) -> tf.Tensor:
        """Train for one epoch of an order; return `signals.FLOW` over its steps, (places, 3, layers).

        A step is compiled once, for any number of rows: the last batch of an epoch may be smaller than the others.
        """
        rows = order.shape[-1]
        size = rows if self.recipe.batch_size == "full" else min(self.recipe.batch_size, rows)
        whole = rows - rows % size  # a smaller last batch has another shape, and stands outside the loop
        total = tf.zeros((self.places, len(FLOW), len(self.kernels)))
        any_rows = tf.TensorSpec((self.places, None), order.dtype)
        step = self._step.get_concrete_function(any_rows, *(tf.TensorSpec(each.shape, each.dtype) for each in data))
        # The order is cut in one slice: cut by epoch first, networks with a normalization end in another last digit
        for at in tf.range(0, whole, size):
            total += step(order[epoch, :, at : at + size], *data)
        if whole < rows:
            total += step(order[epoch, :, whole:], *data)
        return total / -(-rows // size)

    @tf.function(autograph=False)
    def _step(self, visited: tf.Tensor, x: tf.Tensor, y: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        """Take one step on the visited rows, (places, rows); return its `signals.FLOW`, (places, 3, layers)."""
        rows = fold[:, None] * x.shape[1] + tf.cast(visited, fold.dtype)  # of all folds below each other
        below = (tf.reshape(each, (-1, *each.shape[2:])) for each in (x, y))
        batch = (*self._values(), *(tf.gather(each, rows) for each in below))
        gradients, state, norms, finite = tf.vectorized_map(self.cell.step, batch)
        before = [tf.identity(self.stacks[place].value) for place in self.kernels]
        self.optimizer.apply(gradients, self.stacks)
        for variable, new in zip(self.state, state, strict=True):
            variable.assign(new)
        after = [self.stacks[place].value for place in self.kernels]
        return tf.stack([norms, signals.update_ratios(ops, before, after), finite], 1)

    def logits(self) -> Floats:
        return self._compiled(self._outputs)(*self.data).numpy()[: self.cells]

    @tf.function(autograph=False)
    def _outputs(self, *data: tf.Tensor) -> tf.Tensor:
        return self._in_parts(self.cell.logits, tf.float32, data[2], data[-1])

    def weights(self) -> Weights:
        return [self.stacks[place].numpy()[: self.cells] for place in self._given() if place is not None]

    def variables(self) -> dict[str, Floats]:
        return {own.path: stack.numpy()[: self.cells] for stack, own in self._variables()}


def _of_cells(fold: tf.Tensor, *folds: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return the rows, or classes, of each cell's fold, with a leading axis of cells."""
    return tuple(tf.gather(each, fold) for each in folds)


def _cut(tensors: Any, at: Any, size: int) -> Any:
    """Return `size` cells of tensors with a leading axis of cells, or as many as there are."""
    return tf.nest.map_structure(lambda each: each[at : at + size], tensors)


_kept: OrderedDict[tuple[object, ...], Program] = OrderedDict()
"""Compiled programs, the most recent one last."""


def program(
    network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int, task: Task = "classification"
) -> Program:
    """Return the program for these settings with the fewest places that hold so many cells.

    The most recent programs are kept, with their variables and without their data.
    """
    places = next((places for places in PLACES if places >= cells), cells)
    recipe = recipe.model_copy(update=UNUSED)
    key = network, recipe, fans, places, task
    found = _kept.pop(key, None)
    for other in _kept.values():
        other.data = ()
    if found is None:
        _make_room(GRAPH * (len(fans) - 1))  # before it is built, too
        found = Program(network, recipe, fans, places, task)
    _make_room(found.size)
    _kept[key] = found
    return found


def _make_room(size: int) -> None:
    """Drop programs, the least recently used one first, until those that are left and one of this size may be kept."""
    while _kept and size + sum(each.size for each in _kept.values()) > KEPT_BYTES:
        _kept.popitem(last=False)
        gc.collect()  # the functions that TensorFlow has compiled, and their program, refer to each other

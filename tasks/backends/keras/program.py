"""A batch of cells in training, as one compiled program."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from tasks.backends.keras.cell import OneCell
from tasks.backends.keras.network import Perceptron, Tensors
from tasks.backends.keras.optimizer import optimizer, reset
from tasks.core.design.settings import Network, Recipe
from tasks.core.training import signals
from tasks.core.training.backend import PROBED, Progress, Stack, Weights
from tasks.core.training.datasets import Floats
from tasks.core.training.signals import FLOW, STATE, Start

PLACES = (2, 16, 128)  # sizes of compiled programs, few of them because each takes two seconds to compile
COMPILED_PROGRAMS = 16  # how many programs are kept for reuse; the least recently used one is dropped first


class Program:
    """A batch of perceptrons in training; see `tasks.core.training.backend.Program`.

    A compiled program has a fixed number of places, each for one cell. Places that a batch leaves empty are filled with
    copies of its first cell. `stacks` and `state` hold the model's variables with a leading axis of places: what is
    trained, and the running statistics.
    """

    def __init__(self, network: Network, recipe: Recipe, fans: tuple[int, ...], places: int) -> None:
        self.recipe = recipe
        self.places = places
        perceptron = Perceptron(network, fans)
        self.model = perceptron.model
        self.stacks = [keras.Variable(self._repeated(own)) for own in self.model.trainable_variables]
        self.state = [keras.Variable(self._repeated(own)) for own in self.model.non_trainable_variables]
        at = {own.path: place for place, own in enumerate(self.model.trainable_variables)}
        self.kernels = [at[layer.kernel.path] for layer in perceptron.layers]
        self.biases = [None if layer.bias is None else at[layer.bias.path] for layer in perceptron.layers]
        self.cell = OneCell(perceptron, recipe, self.kernels)
        self.optimizer = optimizer(recipe, self.stacks, self.kernels)

    def start(self, stack: Stack, weights: Weights, rates: Sequence[float]) -> None:
        self.cells = len(rates)
        self.data = tuple(tf.constant(self._padded(array)) for array in stack.arrays)
        for variable, own in self._variables():  # normalizations start as Keras builds them
            variable.assign(self._repeated(own))
        for place, array in zip(self._given(), weights, strict=True):
            if place is not None:
                self.stacks[place].assign(self._padded(array))
        reset(self.optimizer, self._padded(np.array(rates, np.float32)))

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
        cells = (weights, [tf.zeros_like(value) for value in state], *self.data[:2])
        chunks = [
            self._probe(*tf.nest.map_structure(lambda tensor, at=at: tensor[at : at + PROBED], cells))
            for at in range(0, self.cells, PROBED)
        ]
        return Start(
            *(np.concatenate([part.numpy() for part in parts])[: self.cells] for parts in zip(*chunks, strict=True))
        )

    @tf.function(autograph=False)
    def _probe(self, *cells: Any) -> tuple[tf.Tensor, ...]:
        return tf.vectorized_map(self.cell.probe, cells)

    def measure(self) -> Progress:
        scores, state = self._measure(*self.data)
        return self._progress(scores[None], state[None], tf.zeros((0, self.places, len(FLOW), len(self.kernels))))

    @tf.function(autograph=False)
    def _measure(self, *data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the cells' part of `Progress.scores`, and their `signals.STATE`, (places, 3, layers)."""
        return tf.vectorized_map(self.cell.measure, (*self._values(), *data))

    def _progress(self, *parts: tf.Tensor) -> Progress:
        return Progress(*(part.numpy()[:, : self.cells] for part in parts))

    def run(self, order: NDArray[np.int32]) -> Progress:
        padded = np.swapaxes(self._padded(np.swapaxes(order, 0, 1)), 0, 1)
        any_epochs = tf.TensorSpec((None, *padded.shape[1:]), tf.int32)  # one compilation for any number of epochs
        compiled = self._run.get_concrete_function(any_epochs, *self.data)
        return self._progress(*compiled(tf.constant(padded), *self.data))

    @tf.function
    def _run(self, order: tf.Tensor, *data: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return the parts of `Progress` for the epochs of an order, (epochs, places, rows)."""
        epochs = tf.shape(order)[0]
        scores, states, flows = self._empty(epochs, len(data))  # a loss and an accuracy of features and classes
        for epoch in tf.range(epochs):
            flow = self._epoch(order, epoch, *data[:2])
            score, state = self._measure(*data)
            scores, states = scores.write(epoch, score), states.write(epoch, state)
            flows = flows.write(epoch, flow)
        return scores.stack(), states.stack(), flows.stack()

    def _empty(self, epochs: tf.Tensor, scores: int) -> list[tf.TensorArray]:
        """Return arrays to write each epoch's scores, state and flow to; `scores` says how many scores a cell has."""
        layers = len(self.kernels)
        shapes = (scores,), (len(STATE), layers), (len(FLOW), layers)
        return [tf.TensorArray(tf.float32, epochs, element_shape=(self.places, *shape)) for shape in shapes]

    def _epoch(self, order: tf.Tensor, epoch: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Train for one epoch of an order; return `signals.FLOW` over its steps, (places, 3, layers)."""
        rows = order.shape[-1]
        size = rows if self.recipe.batch_size == "full" else min(self.recipe.batch_size, rows)
        whole = rows - rows % size  # a last batch that is smaller has another shape, and stands outside the loop
        total = tf.zeros((self.places, len(FLOW), len(self.kernels)))
        # The order is cut in one slice: cut by epoch first, networks with a normalization end in another last digit
        for at in tf.range(0, whole, size):
            visited = tf.ensure_shape(order[epoch, :, at : at + size], (self.places, size))
            total += self._step(x, y, visited)
        if whole < rows:
            total += self._step(x, y, order[epoch, :, whole:])
        return total / -(-rows // size)

    def _step(self, x: tf.Tensor, y: tf.Tensor, visited: tf.Tensor) -> tf.Tensor:
        """Take one step on the visited rows, (places, rows); return its `signals.FLOW`, (places, 3, layers)."""
        batch = (*self._values(), tf.gather(x, visited, batch_dims=1), tf.gather(y, visited, batch_dims=1))
        gradients, state, norms, finite = tf.vectorized_map(self.cell.step, batch)
        before = [tf.identity(self.stacks[place].value) for place in self.kernels]
        self.optimizer.apply(gradients, self.stacks)
        for variable, new in zip(self.state, state, strict=True):
            variable.assign(new)
        after = [self.stacks[place].value for place in self.kernels]
        return tf.stack([norms, signals.update_ratios(ops, before, after), finite], 1)

    def logits(self) -> Floats:
        return self._outputs(self.data[2]).numpy()[: self.cells]

    @tf.function(autograph=False)
    def _outputs(self, x: tf.Tensor) -> tf.Tensor:
        return tf.vectorized_map(self.cell.logits, (*self._values(), x))

    def weights(self) -> Weights:
        return [self.stacks[place].numpy()[: self.cells] for place in self._given() if place is not None]

    def variables(self) -> dict[str, Floats]:
        return {own.path: stack.numpy()[: self.cells] for stack, own in self._variables()}


@lru_cache(COMPILED_PROGRAMS)
def _program(network: Network, recipe: Recipe, fans: tuple[int, ...], places: int) -> Program:
    return Program(network, recipe, fans, places)


def program(network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int) -> Program:
    """Return the program for these settings with the fewest places that hold so many cells."""
    return _program(network, recipe, fans, next((places for places in PLACES if places >= cells), cells))

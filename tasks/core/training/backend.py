"""The protocols of a backend: what `tasks/backends` must offer for each framework, and what its programs return.

A `Framework` is the module of one backend. It makes a `Program`, which trains all cells of a batch together. Arrays are
stacked if their first axis numbers the cells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.initializers import Backend, Law
from tasks.core.design.layers import Kernel, Layer, Layers
from tasks.core.design.own import Task
from tasks.core.design.settings import CellSettings, Network, Recipe
from tasks.core.training.datasets import Floats, Fold, Ints, Problem
from tasks.core.training.signals import Start

TF32 = False  # TensorFlow has it on by default: products on GPUs since Ampere then have 10 bits of precision
DETERMINISTIC = True
NORMALIZATION_EPSILON = 1e-5  # added to variances, as in PyTorch by default; Keras adds 1e-3
# A batch normalization's running mean and (biased) variance take this share from each step, and keep the rest.
NEWEST = 0.1
NORM_EPSILON = 1e-6  # a norm is clipped after this is added to it, as in torch.nn.utils.clip_grad_norm_
PROBED = 16  # how many cells are probed at once, because second derivatives take much memory

Weights = list[NDArray[np.floating]]
"""Kernel (fan_in, fan_out) and bias (fan_out,) of each layer in turn; stacked weights have a first axis of cells."""


@dataclass(frozen=True)
class Stack:
    """The data of a batch of cells. Cells that share a fold share its rows: each fold is there once.

    arrays: features and classes of the train rows, then those of each part that is scored besides: the test rows and,
    where there are any, the validation rows. The first axis of each array numbers the folds. fold: the number of each
    cell's fold, (cells,).
    """

    arrays: tuple[Floats | Ints, ...]
    fold: Ints

    @classmethod
    def of(cls, folds: Sequence[Fold]) -> "Stack":
        """Stack the folds of cells, which are of equal size; cells share a fold if it is the same object."""
        once = {id(fold): fold for fold in folds}
        number = {key: at for at, key in enumerate(once)}
        parts = ("train", "test", "validation") if len(folds[0].y_validation) else ("train", "test")
        names = [f"{kind}_{part}" for part in parts for kind in ("x", "y")]
        stacks = tuple(np.stack([getattr(fold, name) for fold in once.values()]) for name in names)
        return cls(stacks, np.array([number[id(fold)] for fold in folds]))

    @property
    def rows(self) -> int:
        """How many rows a fold has, in all its parts."""
        return sum(classes.shape[1] for classes in self.arrays[1::2])


def in_order(losses: list[Any], accuracies: list[Any]) -> list[Any]:
    """Return a cell's scores in the order of `outcome.Curves`, given those of train, test and perhaps validation rows.

    >>> in_order(["train loss", "test loss"], ["train accuracy", "test accuracy"])
    ['train loss', 'test loss', 'train accuracy', 'test accuracy']
    """
    return [*losses[:2], *accuracies[:2], *losses[2:], *accuracies[2:]]


@dataclass(frozen=True)
class Progress:
    """What a program measures of a batch of cells after each epoch that it trains.

    scores: train loss, test loss, train accuracy, test accuracy and, where there are validation rows, validation loss
    and accuracy, (epochs, cells, 4 or 6); state: `signals.STATE` on the train rows, (epochs, cells, 3, layers); flow:
    `signals.FLOW` over an epoch's steps, (epochs, cells, 3, layers).
    """

    scores: NDArray[np.float32]
    state: NDArray[np.float32]
    flow: NDArray[np.float32]


class Program(Protocol):
    """A batch of cells in training: it holds their weights and optimizer states and trains all cells together.

    The numbers of a cell depend neither on the other cells of the batch nor on how many they are.
    """

    def start(self, stack: Stack, weights: Weights, rates: Sequence[float]) -> None:
        """Take the data, the initial weights and the learning rate of each cell, and start with a fresh optimizer."""

    def probe(self) -> Start:
        """Return the signals of the networks before training."""

    def measure(self) -> Progress:
        """Measure the networks as they are: scores and state of one epoch, and a flow of zero epochs."""

    def run(self, order: NDArray[np.int32]) -> Progress:
        """Train on the rows in the given order, (epochs, cells, rows), and measure after each epoch; can be repeated.

        An order of zero epochs trains nothing. It compiles the program, so that the next call does not have to.
        """

    def logits(self) -> Floats:
        """Return the networks' outputs on the test rows, (cells, rows, classes)."""

    def weights(self) -> Weights:
        """Return the current kernels and biases, stacked."""

    def variables(self) -> dict[str, Floats]:
        """Return all variables, stacked, with the names and shapes that the framework's own model gives them."""


Builder = Callable[[tuple[int, ...], int], Any]
"""What builds a model of one's own, from the shape of a row of x and the number of outputs."""


@dataclass(frozen=True)
class Size:
    """How large a model is: its parameters, and the numbers that its layers give for one row."""

    parameters: int
    activations: int


class OwnProgram(Protocol):
    """A model of one's own in training: one cell at a time, by the methods of `Program` and those by which it starts.

    A program is used for one cell after another. What it gives has a leading axis of one cell. `start` is given the
    cell's fold, its learning rate, and the seed of what is random in training.
    """

    layers: Layers
    size: Size

    def build(self, seed: int, x: NDArray[Any]) -> None:
        """Build the model under a seed, as its author wrote it, and list its layers by a call on a few rows x.

        Whatever the builder does to global generators and settings is undone.

        Raises:
            ValueError: if it is no model for the problem, or not the model that an earlier seed gave.
        """

    def path(self, layer: str, parameter: str) -> str:
        """Return the name of a layer's parameter in the whole model."""

    def names_of(self, layer: Layer, kernel: Kernel) -> list[str]:
        """Return the names by which a rule can mean a kernel: of its layer, of its parameter, and its own."""

    @property
    def names(self) -> list[list[str]]:
        """The names of everything that a rule can mean."""

    def read(self, layer: str, parameter: str) -> Floats:
        """Return a copy of a layer's parameter; the layer of a parameter that belongs to none is an empty name."""

    def put(self, parameters: Mapping[tuple[str, str], Floats]) -> None:
        """Write parameters, by the name of the layer and their own."""

    def rescale(self, layers: Sequence[str], x: NDArray[Any]) -> None:
        """Rescale the kernels of these layers, in order of execution, to outputs of variance 1 on rows x (LSUV)."""

    def start(self, fold: Fold, rate: float, seed: int) -> None:
        """Take the data and start with a fresh optimizer and fresh generators."""

    def probe(self) -> Start:
        """Return the signals of the model before training."""

    def measure(self) -> Progress:
        """Measure the model as it is: scores and state of one epoch, and a flow of zero epochs."""

    def run(self, order: NDArray[np.int32]) -> Progress:
        """Train on the rows in the given order, (epochs, rows), and measure after each epoch; can be repeated.

        An order of zero epochs trains nothing. It compiles the program, so that the next call does not have to.
        """

    def outputs(self) -> Floats:
        """Return the model's outputs on the test rows, (rows, ..., outputs)."""

    def variables(self) -> dict[str, Floats]:
        """Return all parameters and what else the model keeps, by the names that the framework gives them."""


class Framework(Protocol):
    """The functions that the module of a backend offers."""

    NAME: Backend
    OUT_OF_MEMORY: type[Exception]
    """The error by which the framework says that its device has too little memory."""

    def setup(self, threads: int) -> str:
        """Set threads, precision and determinism for this process; return the name of the device."""

    def native(self, law: Law, fan_in: int, fan_out: int, seed: int) -> Floats:
        """Draw a kernel (fan_in, fan_out) with the framework's own initializer, for a law whose `native` is true."""

    def counted(self, kernel: Kernel, kind: str) -> tuple[float, float]:
        """Return the fans that the framework takes for the parameter of a kernel, in a layer of a kind."""

    def native_array(self, law: Law, shape: tuple[int, ...], fans: tuple[float, float], seed: int) -> Floats:
        """Draw an array of a parameter's shape by the framework's own function, with the fans that it counts."""

    def own(self, builder: Builder, settings: CellSettings, problem: Problem) -> OwnProgram:
        """Return a program for a network of one's own; a program for the same arguments is used again."""

    def program(
        self, network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int, task: Task = "classification"
    ) -> Program:
        """Return a program for this number of cells; a program compiled for the same arguments is used again.

        The learning rates of the cells are given at the start, and that of the recipe is not used.
        """

    def deployed(self, network: Network, fans: tuple[int, ...], variables: Mapping[str, Floats], fold: Fold) -> Any:
        """Return a trained network as the framework's own model, which turns unscaled float64 features into logits.

        Real targets come in the units of the data. fold: what scales features and targets.
        """

    def deployed_own(self, builder: Builder, problem: Problem, variables: Mapping[str, Floats], fold: Fold) -> Any:
        """Return a trained model of one's own, as `deployed` does; tokens stay as they are."""


def traced(
    network: Network,
    layers: Sequence[Callable[[Any], Any]],
    activation: Callable[[Any], Any],
    x: Any,
    taps: Sequence[Any],
) -> tuple[list[Any], list[Any]]:
    """Return pre-activations and activations of each layer for inputs x (rows, features): two lists.

    This function is the network, for the tensors of any framework. Each of `layers` maps its input to pre-activations,
    normalized if the network says so. The last layer has no activation: its logits stand in both lists. Taps, one
    tensor per layer or none at all, are added to the pre-activations, so that a framework can differentiate in them.
    """
    pre_activations, activated = [], []
    h = x
    for at, layer in enumerate(layers):
        z = layer(h) + taps[at] if taps else layer(h)
        pre_activations.append(z)
        if at == len(layers) - 1:
            break
        a = activation(z)
        activated.append(a)
        h = h + a if network.residual and h.shape == a.shape else a
    return pre_activations, [*activated, pre_activations[-1]]

"""A batch of cells in training, as one vectorised program."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from tasks.backends.pytorch.cell import OneCell
from tasks.backends.pytorch.device import device
from tasks.backends.pytorch.network import Named
from tasks.backends.pytorch.optimizer import optimizer, runs
from tasks.core.design.own import Task
from tasks.core.design.settings import Network, Recipe
from tasks.core.training import memory, signals
from tasks.core.training.backend import PROBED, Progress, Stack, Weights
from tasks.core.training.datasets import Floats
from tasks.core.training.signals import FLOW, STATE, Start


class Program:
    """A batch of perceptrons in training; see `tasks.core.training.backend.Program`.

    Every tensor of the batch has a leading axis of cells. `given` names the kernels and biases, which `start` is given.
    `alike` has the tensors of neighbours that have one learning rate, which share memory with those of the batch.
    `fixed` and `running` have the shapes, in one cell, of the normalizations' parameters and running statistics.
    """

    def __init__(self, network: Network, recipe: Recipe, fans: tuple[int, ...], task: Task) -> None:
        self.recipe = recipe
        self.device = device()
        cell = OneCell(network, recipe, fans, task)
        self.linears, self.kernels = cell.linears, cell.kernels
        parameters = {name: part.shape for name, part in cell.training.named_parameters()}
        self.given = [name for name in self._kernels_and_biases() if name in parameters]
        self.fixed = {name: shape for name, shape in parameters.items() if name not in self.given}
        self.running = {name: part.shape for name, part in cell.training.named_buffers() if "running" in name}
        self.sizes = fans
        self._step, self._measure, self._logits = vmap(cell.step), vmap(cell.measure), vmap(cell.logits)
        self._probe = vmap(cell.probe)

    def _kernels_and_biases(self) -> list[str]:
        """Return the names of each layer's kernel and bias; a layer without a bias has that name nevertheless."""
        return [f"{name}.{part}" for name in self.linears for part in ("weight", "bias")]

    def start(self, stack: Stack, weights: Weights, rates: Sequence[float]) -> None:
        self.data = [torch.from_numpy(array).to(self.device) for array in stack.arrays]
        self.x, self.y, self.x_test, *_ = self.data
        self.fold = torch.from_numpy(stack.fold).to(self.device)
        self.at_once = memory.at_once(stack.rows, self.sizes)
        # Copies, for the optimizer changes them; contiguous ones, for other strides give another last digit
        given = {
            name: torch.tensor(np.ascontiguousarray(np.swapaxes(array, 1, -1)), device=self.device)
            for name, array in zip(self._kernels_and_biases(), weights, strict=True)
            if name in self.given
        }
        # A normalization starts with weights of 1 and biases of 0, and with running variances of 1 and means of 0
        fixed = {name: self._filled(shape, name.endswith("weight")) for name, shape in self.fixed.items()}
        self.tensors = given | fixed
        self.state = {name: self._filled(shape, name.endswith("var")) for name, shape in self.running.items()}
        self.alike = [(part, {name: each[part] for name, each in self.tensors.items()}) for part in runs(rates)]
        self.optimizer = optimizer(
            self.recipe, self.kernels, [(rates[part.start], tensors) for part, tensors in self.alike]
        )

    def _filled(self, shape: torch.Size, value: bool) -> Tensor:
        """Return ones or zeros of a shape, with a leading axis of cells."""
        return torch.full((len(self.fold), *shape), float(value), device=self.device)

    def _current_kernels(self) -> list[Tensor]:
        return [self.tensors[name] for name in self.kernels]

    def probe(self) -> Start:
        zeros: Named = {name: torch.zeros_like(value) for name, value in self.state.items()}
        parts = self._in_parts(self._probe, min(PROBED, self.at_once // 2), zeros, self.x, self.y)
        layers, scores, jacobians, state, *gradients = (part.cpu().numpy() for part in parts)
        return Start(layers, scores, jacobians, state, dict(zip(self.kernels, gradients, strict=True)))

    def _in_parts(self, function: Callable[..., Any], size: int, state: Named, *data: Tensor) -> list[Tensor]:
        """Return what a function of cells returns, computed for `size` cells at a time, whose rows are copied."""
        parts = []
        for at in range(0, len(self.fold), size):
            cells = slice(at, at + size)
            named = ({name: each[cells] for name, each in part.items()} for part in (self.tensors, state))
            parts.append(function(*named, *(each[self.fold[cells]] for each in data)))
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    def measure(self) -> Progress:
        return self._progress([self._now()], [])

    def _now(self) -> tuple[Tensor, Tensor]:
        """Return the cells' part of `Progress.scores`, and their `signals.STATE`, (cells, 3, layers)."""
        scores, state = self._in_parts(self._measure, self.at_once, self.state, *self.data)
        return scores, state

    def _progress(self, measured: Sequence[tuple[Tensor, Tensor]], flow: Sequence[Tensor]) -> Progress:
        layers = len(self.kernels)
        scores, state = zip(*measured, strict=True) if measured else ((), ())
        return Progress(
            self._stacked(scores, (len(self.data),)),  # a loss and an accuracy for each pair of features and classes
            self._stacked(state, (len(STATE), layers)),
            self._stacked(flow, (len(FLOW), layers)),
        )

    def _stacked(self, epochs: Sequence[Tensor], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the epochs' tensors as one array (epochs, cells, *shape), of no epochs too."""
        arrays: Any = [each.cpu().numpy() for each in epochs]
        return np.array(arrays, np.float32).reshape(len(epochs), len(self.fold), *shape)

    def run(self, order: NDArray[np.int32]) -> Progress:
        rows = order.shape[-1]
        size = rows if self.recipe.batch_size == "full" else self.recipe.batch_size
        measured, flow = [], []
        for epoch in torch.from_numpy(order).to(self.device):
            flows = [self._advance(epoch[:, at : at + size]) for at in range(0, rows, size)]
            flow.append(torch.stack(flows).mean(0))
            measured.append(self._now())
        return self._progress(measured, flow)

    def _advance(self, visited: Tensor) -> Tensor:
        """Take one step on the visited rows, (cells, rows); return the step's `signals.FLOW`, (cells, 3, layers)."""
        fold = self.fold[:, None]
        gradients, self.state, norms, finite = self._step(
            self.tensors, self.state, self.x[fold, visited], self.y[fold, visited]
        )
        kernels = self._current_kernels()
        before = [kernel.clone() for kernel in kernels]
        for part, tensors in self.alike:
            for name, tensor in tensors.items():
                tensor.grad = gradients[name][part]
        self.optimizer.step()
        return torch.stack([norms, signals.update_ratios(torch, before, kernels), finite], 1)

    def logits(self) -> Floats:
        (logits,) = self._in_parts(lambda *cells: (self._logits(*cells),), self.at_once, self.state, self.x_test)
        return logits.cpu().numpy()

    def weights(self) -> Weights:
        return [np.swapaxes(self.tensors[name].cpu().numpy(), 1, -1).copy() for name in self.given]

    def variables(self) -> dict[str, Floats]:
        return {name: tensor.cpu().numpy().copy() for name, tensor in (self.tensors | self.state).items()}


def program(
    network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int, task: Task = "classification"
) -> Program:
    """Return a program for these settings. One program serves batches of any size, and none is kept: none compiles."""
    return Program(network, recipe, fans, task)

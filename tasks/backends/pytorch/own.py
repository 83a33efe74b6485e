"""A network of one's own in training: one cell at a time, as a plain loop in PyTorch would train it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from tasks.backends.pytorch import losses
from tasks.backends.pytorch.contained import contained
from tasks.backends.pytorch.device import device
from tasks.backends.pytorch.layers import assign, check, layers, path, stored
from tasks.backends.pytorch.network import Named
from tasks.backends.pytorch.optimizer import clipped, optimizer
from tasks.backends.pytorch.seen import Seen, evaluated, probing
from tasks.core.design.initializers import Constant
from tasks.core.design.layers import Kernel, Layer, Layers
from tasks.core.design.settings import CellSettings, Recipe
from tasks.core.training import memory, signals
from tasks.core.training.backend import Builder, Progress, Size, in_order
from tasks.core.training.datasets import Floats, Fold, Problem
from tasks.core.training.signals import FLOW, JACOBIAN_ROWS, STATE, Start
from tasks.core.training.weights import LSUV_ROUNDS, LSUV_TOLERANCE


class OwnProgram:
    """A module of one's own in training; see `tasks.core.training.backend.OwnProgram`.

    `state` is that of the global generator: each call that may draw begins where the last one of the cell ended.
    """

    layers: Layers
    size: Size

    def __init__(self, builder: Builder, recipe: Recipe, problem: Problem) -> None:
        self.builder, self.recipe, self.problem = builder, recipe, problem
        self.device = device()
        self.shapes: dict[str, tuple[int, ...]] = {}
        torch.backends.mha.set_fastpath_enabled(False)  # it computes attention in one step, past all hooks

    # How a cell starts

    def build(self, seed: int, x: NDArray[Any]) -> None:
        with contained(seed):
            model = self.builder(self.problem.shape, self.problem.outputs)
        if not isinstance(model, nn.Module):
            raise ValueError(f"a builder must return a torch.nn.Module; it returned {type(model).__name__}")  # noqa: TRY004  # input
        if lazy := [name for name, each in model.named_parameters() if is_lazy(each)]:
            raise ValueError(
                f"lazy modules must be called once in the builder, so that they have shapes; got {lazy[0]}"
            )
        self.model = model.float().to(self.device)
        with contained(seed):
            self.layers = layers(self.model, self._tensor(x))
            self._check_outputs(x)
        self._check_layers()
        self.modules = dict(self.model.named_modules())
        self.parameters: Named = {name: each for name, each in self.model.named_parameters() if each.requires_grad}
        self._list_kernels()
        self.state = torch.get_rng_state()

    def _check_outputs(self, x: NDArray[Any]) -> None:
        with evaluated(self.model), torch.no_grad(), Seen(self.model, self.layers) as seen:
            given = self.model(self._tensor(x))
        if not isinstance(given, Tensor):
            raise ValueError(f"a model must give one tensor; it gives {type(given).__name__}")  # noqa: TRY004  # input
        if tuple(given.shape) != (len(x), *self.problem.given):
            wanted, found = (("rows", *shape) for shape in (self.problem.given, tuple(given.shape[1:])))
            raise ValueError(f"a model must give {_shape(wanted)} for these data; it gives {_shape(found)}")
        numbers = sum(each.numel() for each in self.model.parameters())
        self.size = Size(numbers, seen.numbers // len(x))

    def _check_layers(self) -> None:
        if not self.layers.layers:
            known = "Linear, ConvNd, Embedding, MultiheadAttention, LSTM and so on"
            raise ValueError(f"a model must have a weighted layer of a known kind ({known}); it has none")
        shapes = {name: tuple(value.shape) for name, value in self.model.state_dict().items()}
        if self.shapes and shapes != self.shapes:
            differing = sorted({*shapes.items()} ^ {*self.shapes.items()})[0][0]
            raise ValueError(f"a builder must build the same shapes under every seed; {differing} differs")
        self.shapes = shapes

    def _list_kernels(self) -> None:
        """List the tensors in which kernels lie, by name, and the layer of each."""
        names = {id(each): name for name, each in self.parameters.items()}
        owner: dict[str, int] = {}
        for at, layer in enumerate(self.layers.layers):
            for parameter in dict.fromkeys(kernel.place.parameter for kernel in layer.kernels):
                for tensor in stored(self._module(layer.name), parameter).values():
                    if id(tensor) in names:
                        owner.setdefault(names[id(tensor)], at)
        self.kernels = list(owner)
        self.layer_of = torch.tensor([*owner.values()], dtype=torch.long, device=self.device)

    def _module(self, layer: str) -> nn.Module:
        found: nn.Module = self.modules.get(layer, self.model)
        return found

    def _tensor(self, x: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device)

    def path(self, layer: str, parameter: str) -> str:
        return path(layer, parameter)

    def names_of(self, layer: Layer, kernel: Kernel) -> list[str]:
        return [layer.name, path(layer.name, kernel.place.parameter), path(layer.name, kernel.name)]

    @property
    def names(self) -> list[list[str]]:
        listed = [self.names_of(layer, kernel) for layer in self.layers.layers for kernel in layer.kernels]
        merged: dict[str, list[str]] = {}
        for first, *others in listed:
            merged.setdefault(first, [first]).extend(others)
        return [*merged.values(), *([name] for name in self.layers.left)]

    def read(self, layer: str, parameter: str) -> Floats:
        if not layer:
            return self.parameters[parameter].detach().cpu().numpy().copy()
        found: Floats = getattr(self._module(layer), parameter).detach().cpu().numpy().copy()
        return found

    def put(self, parameters: Mapping[tuple[str, str], Floats]) -> None:
        for (layer, parameter), value in parameters.items():
            tensor = torch.tensor(np.ascontiguousarray(value), device=self.device)
            if not layer:
                with torch.no_grad():
                    self.parameters[parameter].copy_(tensor)
                continue
            check(self._module(layer), layer, parameter, Constant(0) if not value.any() else Constant(1))
            assign(self._module(layer), parameter, tensor)
        for module in self.model.modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                with torch.no_grad():
                    module.weight[module.padding_idx] = 0

    @torch.no_grad()
    def rescale(self, layers: Sequence[str], x: NDArray[Any]) -> None:
        rows = self._tensor(x[: memory.PROBED_ROWS])
        order = {layer.name: at for at, layer in enumerate(self.layers.layers)}
        for name in layers:
            parameter = self.layers.layers[order[name]].kernels[0].place.parameter
            for _ in range(LSUV_ROUNDS):
                with self._random(), probing(self.model), Seen(self.model, self.layers) as seen:
                    self.model(rows)
                outputs = seen.outputs[order[name]]
                deviation = (
                    float(torch.cat([each.reshape(-1) for each in outputs]).std(correction=0)) if outputs else 0.0
                )
                if abs(deviation**2 - 1) < LSUV_TOLERANCE or deviation == 0 or not np.isfinite(deviation):
                    break
                assign(self._module(name), parameter, getattr(self._module(name), parameter).detach() / deviation)

    def start(self, fold: Fold, rate: float, seed: int) -> None:
        parts = ("train", "test", "validation") if len(fold.y_validation) else ("train", "test")
        self.data = [
            (self._tensor(getattr(fold, f"x_{part}")), self._tensor(getattr(fold, f"y_{part}"))) for part in parts
        ]
        self.optimizer = optimizer(self.recipe, self.kernels, [(rate, self.parameters)])
        with contained(seed):
            self.state = torch.get_rng_state()

    @contextmanager
    def _random(self) -> Iterator[None]:
        """Let the global generator go on where the cell's last call left it, and leave it alone afterwards."""
        with torch.random.fork_rng():
            torch.set_rng_state(self.state)
            yield
            self.state = torch.get_rng_state()

    # What is measured

    def _loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return losses.loss(outputs, y, self.problem.task)

    def measure(self) -> Progress:
        scores, state = self._now()
        return self._progress([scores], [state], [])

    @torch.no_grad()
    def _now(self) -> tuple[Tensor, Tensor]:
        """Return the cell's part of `Progress.scores`, and `signals.STATE`, (3, layers)."""
        with self._random(), evaluated(self.model):
            with Seen(self.model, self.layers, keep=False) as seen:
                given = [self._outputs(self.data[0][0])]
            given += [self._outputs(x) for x, _ in self.data[1:]]
        scored = [losses.scores(each, y, self.problem.task) for each, (_, y) in zip(given, self.data, strict=True)]
        return torch.stack(in_order(*map(list, zip(*scored, strict=True)))), seen.state()

    def _outputs(self, x: Tensor) -> Tensor:
        """Return the model's outputs, of as many rows at a time as fit into memory."""
        size = memory.rows_at_once(self.size.activations)
        return torch.cat([self.model(part) for part in torch.split(x, size)])

    def _progress(self, scores: Sequence[Tensor], states: Sequence[Tensor], flow: Sequence[Tensor]) -> Progress:
        found = len(self.layers.layers)
        shapes = (2 * len(self.data),), (len(STATE), found), (len(FLOW), found)
        return Progress(
            *(
                np.array([each.cpu().numpy() for each in part], np.float32).reshape(len(part), 1, *shape)
                for part, shape in zip((scores, states, flow), shapes, strict=True)
            )
        )

    def run(self, order: NDArray[np.int32]) -> Progress:
        measured, flow = [], []
        x, y = self.data[0]
        rows = order.shape[-1]
        size = rows if self.recipe.batch_size == "full" else self.recipe.batch_size
        for epoch in torch.from_numpy(order).long().to(self.device):
            self.model.train()
            with self._random(), Seen(self.model, self.layers, keep=False) as seen:
                steps = [self._advance(x[visited], y[visited], seen) for visited in torch.split(epoch, size)]
            flow.append(self._flow(*map(torch.stack, zip(*steps, strict=True))))
            measured.append(self._now())
        return self._progress([scores for scores, _ in measured], [state for _, state in measured], flow)

    def _advance(self, x: Tensor, y: Tensor, seen: Seen) -> tuple[Tensor, ...]:
        """Take one step; return what `_flow` is made of, which leaves the rest to the end of an epoch.

        These are the norms of the kernels' gradients, of their changes, and of the kernels before, each (kernels,), and
        what `Seen.finite` returns, (layers,).
        """
        self.optimizer.zero_grad()
        seen.clear()
        self._loss(self.model(x), y).backward()  # type: ignore[no-untyped-call]  # torch's
        finite = seen.finite()
        gradients = [self.parameters[name].grad for name in self.kernels]
        norms = _norms([each if each is not None else torch.zeros(1, device=self.device) for each in gradients])
        self._clip()
        kernels = [self.parameters[name].detach() for name in self.kernels]
        before = [kernel.clone() for kernel in kernels]
        self.optimizer.step()
        return norms, _norms(torch._foreach_sub(kernels, before)), _norms(before), finite

    def _flow(self, gradients: Tensor, changes: Tensor, kernels: Tensor, finite: Tensor) -> Tensor:
        """Return `signals.FLOW` over the steps of an epoch, (3, layers), of what each step gave, (steps, ...)."""
        norms, moved, before = (self._joined(each) for each in (gradients, changes, kernels))
        return torch.stack([norms, moved / before, finite], 1).mean(0)

    def _joined(self, norms: Tensor) -> Tensor:
        """Return the norm of each layer's kernels together, (..., layers), of the norms of kernels, (..., kernels)."""
        found = torch.zeros(*norms.shape[:-1], len(self.layers.layers), device=self.device)
        return found.index_add(-1, self.layer_of, norms**2).sqrt()

    def _clip(self) -> None:
        if not (self.recipe.clip_norm or self.recipe.clip_value):
            return
        given = {name: each.grad for name, each in self.parameters.items() if each.grad is not None}
        for name, gradient in clipped(given, self.recipe).items():
            self.parameters[name].grad = gradient

    @torch.no_grad()
    def outputs(self) -> Floats:
        with self._random(), evaluated(self.model):
            found: Floats = self._outputs(self.data[1][0]).cpu().numpy()
        return found

    def variables(self) -> dict[str, Floats]:
        return {name: np.ascontiguousarray(each.cpu().numpy()) for name, each in self.model.state_dict().items()}

    # Signals at the start

    def probe(self) -> Start:
        x, y = (each[: memory.PROBED_ROWS] for each in self.data[0])
        with probing(self.model), sdpa_kernel(SDPBackend.MATH):
            layers, told, state, gradients = self._signals(x, y)
            quotient = self._quotient(x, y)
        jacobians = self._jacobians(x)
        found = torch.stack([*told, quotient])
        arrays = (layers, found, jacobians, state, *gradients)
        at_start, scores, derivatives, states, *first = (
            each[None].detach().cpu().numpy().astype(np.float32) for each in arrays
        )
        return Start(at_start, scores, derivatives, states, dict(zip(self.kernels, first, strict=True)))

    def _signals(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor], Tensor, list[Tensor]]:
        """Return the signals of each layer, the loss with the largest class share, the state, and the gradients."""
        with self._random(), Seen(self.model, self.layers, gradients=True) as seen:
            given = self.model(x)
            loss = self._loss(given, y)
            found = torch.autograd.grad(loss, [self.parameters[name] for name in self.kernels], allow_unused=True)
        gradients = [torch.zeros(1, device=x.device) if each is None else each for each in found]
        norms = self._joined(_norms(gradients))
        layers = torch.stack([seen.at_start(at, len(x), norm) for at, norm in enumerate(norms)], 1)
        share = torch.tensor(np.nan, device=x.device)
        if self.problem.task == "classification":
            share = signals.largest_class_share(torch, given.detach().reshape(-1, given.shape[-1]))
        return layers, [loss.detach(), share], seen.state(), gradients

    def _quotient(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient quotient, NaN if PyTorch cannot differentiate twice through the model."""
        kernels = [self.parameters[name] for name in self.kernels]
        try:
            with self._random(), _without_onednn():
                gradients = torch.autograd.grad(
                    self._loss(self.model(x), y), kernels, create_graph=True, materialize_grads=True
                )
                half = torch.stack([(each**2).sum() for each in gradients]).sum() / 2
                products = torch.autograd.grad(half, kernels, materialize_grads=True)
        except (RuntimeError, NotImplementedError):  # a layer without a second derivative
            return torch.tensor(np.nan, device=x.device)
        quotient: Tensor = signals.gradient_quotient(torch, [each.detach() for each in gradients], products)
        return quotient

    def _jacobians(self, x: Tensor) -> Tensor:
        """Return the derivatives of the outputs in the inputs, (rows, outputs, numbers), or one NaN if there are none.

        There are none of tokens, nor where rows depend on each other or an output is not that of a row.
        """
        rows = x[:JACOBIAN_ROWS].clone()
        if self.problem.tokens or self.problem.positions:
            return torch.full((1, 1, 1), np.nan)
        rows.requires_grad_(True)
        with self._settled(x), self._random(), sdpa_kernel(SDPBackend.MATH):
            given = self.model(rows).sum(0)
            found = [torch.autograd.grad(each, rows, retain_graph=True, materialize_grads=True)[0] for each in given]
        return torch.stack(found, 1).reshape(len(rows), len(given), -1)

    @contextmanager
    def _settled(self, x: Tensor) -> Iterator[None]:
        """Put the model in evaluation, with the statistics of rows x in its batch normalizations, for a while."""
        kept = {name: each.clone() for name, each in self.model.named_buffers()}
        with probing(self.model, momentum=1.0), torch.no_grad(), self._random():
            self.model(x)
        try:
            with evaluated(self.model):
                yield
        finally:
            with torch.no_grad():
                for name, each in self.model.named_buffers():
                    each.copy_(kept[name])


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Compute without oneDNN for a while: its recurrent layers have no second derivatives."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm of each tensor."""
    return torch.stack(torch._foreach_norm([*tensors]))


def _shape(words: Sequence[object]) -> str:
    return f"({', '.join(map(str, words))})"


def own(builder: Builder, settings: CellSettings, problem: Problem) -> OwnProgram:
    """Return a program for a network of one's own; nothing is compiled, so none is kept."""
    return OwnProgram(builder, settings.recipe, problem)

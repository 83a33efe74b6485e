"""A PyTorch model that an audit builds again and again: what is in it, and its first pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tasks.backends.pytorch import initializers, losses
from tasks.backends.pytorch.contained import contained
from tasks.backends.pytorch.drawn import watched
from tasks.backends.pytorch.layers import evaluated, layers, path, stored
from tasks.backends.pytorch.seen import Seen, probing, streamed
from tasks.core.audit.rows import NO_JACOBIANS, Rows
from tasks.core.audit.sample import Fans, FirstPass, Floats, refuse
from tasks.core.design.layers import Kernel, Layer, Layers
from tasks.core.training import signals
from tasks.core.training.signals import Start
from tasks.user_code import first_pass


class Audited:
    """A module that an audit looks at; see `tasks.core.audit.sample.Auditable`. It stays on the CPU, in its own type.

    builder: what builds the module. rows: on which rows the first pass is made, if there are any.
    """

    backend = initializers.NAME
    version = torch.__version__.partition("+")[0]
    layers: Layers

    def __init__(self, builder: Callable[[], Any], rows: Rows | None) -> None:
        self.builder, self.rows = builder, rows
        self.others: Mapping[str, str] = {}
        self.skipped: Sequence[str] = ()
        self.cuts: Mapping[str, float] = {}
        self.places: Mapping[str, Sequence[str]] = {}
        self.model: Any = None
        self.modules: dict[str, nn.Module] = {}

    def build(self, seed: int) -> None:
        self.model, self.modules = None, {}  # so that no two models are held at once
        with contained(seed), watched() as drawn:
            model = self.builder()
        if not isinstance(model, nn.Module):
            refuse(self.backend, "torch.nn.Module", model)
        self.model = model
        named = dict(model.named_parameters())
        for name, each in named.items():
            if is_lazy(each):
                raise ValueError(f"lazy modules must be called once in the builder; got {name}")
            if each.is_meta:
                raise ValueError(f"modules must be moved off the device meta by the builder; got {name}")
        self.frozen = {name for name, each in named.items() if not each.requires_grad}
        self.modules = dict(model.named_modules())
        self.layers = self._listed()
        self.cuts = {name: bound for name, each in named.items() if (bound := drawn.bound(each)) is not None}
        self.places = {name: drawn.places(each) for name, each in named.items()}
        self._list_others(named)

    def _listed(self, *inputs: Any) -> Layers:
        """List the weighted layers whose parameters are all real numbers, in order of execution on inputs."""
        found = layers(self.model, *inputs)
        return replace(found, layers=tuple(each for each in found.layers if self._real(each)))

    def _real(self, layer: Layer) -> bool:
        return all(getattr(self._module(layer.name), each).is_floating_point() for each in layer.parameters)

    def _list_others(self, named: Mapping[str, Tensor]) -> None:
        taken = {
            id(tensor)
            for layer in self.layers.layers
            for parameter in layer.parameters
            for tensor in stored(self._module(layer.name), parameter).values()
        }
        found, skipped = {}, []
        for name, each in named.items():
            if not each.is_floating_point():
                skipped.append(f"{name} is left out: its type is {each.dtype}")
            elif id(each) not in taken:
                found[name] = type(self._module(name.rpartition(".")[0])).__name__
        self.others, self.skipped = found, skipped

    def _module(self, name: str) -> nn.Module:
        found: nn.Module = self.modules.get(name, self.model)
        return found

    def path(self, layer: str, parameter: str) -> str:
        return path(layer if layer in self.modules else "", parameter)

    def read(self, layer: str, parameter: str) -> tuple[Floats, str]:
        if layer:
            with evaluated(self._module(layer)):  # in training, a spectral norm would change its vectors
                value = getattr(self._module(layer), parameter)
        else:
            value = self.model.get_parameter(parameter)
        kind = str(value.dtype).removeprefix("torch.")
        value = value.detach().cpu()
        return (value if value.dtype in (torch.float32, torch.float64) else value.float()).numpy(), kind

    def counted(self, kernel: Kernel, kind: str) -> Fans:
        return initializers.counted(kernel, kind)

    # The first pass

    def first_pass(self) -> FirstPass:
        if self.rows is None:
            return FirstPass(note="no first pass was made: --shape or --data says what a row is")
        with contained(0), probing(self.model):
            return first_pass(self.rows.tries(self.layers), self._few, self._pass)

    def _few(self, rows: Rows) -> Layers:
        return self._listed(self._tensor(rows.first(2).x))

    def _pass(self, rows: Rows, found: Layers) -> FirstPass:
        few = self._tensor(rows.first(2).x)
        with torch.no_grad(), Seen(self.model, found, keep=False) as seen:
            self.model(few)
        kinds = [layer.kind for layer, ends in zip(found.layers, seen.ends, strict=True) if ends]
        convolved = bool(kinds) and "Conv" in kinds[-1]
        rows = rows.first(rows.fitting(seen.numbers // len(few)))
        order = [layer.name for layer in found.layers]
        kernels = [getattr(self._module(layer.name), layer.kernels[0].place.parameter) for layer in found.layers]
        model = self.model
        with _differentiable(model), streamed(model) as stream, Seen(model, found, gradients=True) as seen:
            given = _logits(model(self._tensor(rows.x)))
            if convolved and given.ndim > 2:
                given = given.movedim(1, -1)  # classes are the last axis, not an image's width
            told = rows.targets(tuple(given.shape))
            loss = losses.loss(given.float(), torch.from_numpy(told.y), told.task)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
        share = torch.tensor(np.nan)
        if told.task == "classification":
            share = signals.largest_class_share(torch, given.detach().float().reshape(-1, given.shape[-1]))
        norms = [torch.zeros(()) if each.grad is None else each.grad.float().norm() for each in kernels]
        start = torch.stack([seen.at_start(at, len(rows.x), norm) for at, norm in enumerate(norms)], 1)
        model.zero_grad(set_to_none=True)
        scores = np.array([[loss.item(), share.item(), np.nan]], np.float32)
        arrays = start[None].detach().float().numpy(), scores, NO_JACOBIANS, seen.state()[None].float().numpy()
        blocks = tuple(
            (name, own[0].item() ** 2, (len(rows.x) * own[1].item()) ** 2 if own[1:] else np.nan)
            for name, own in stream.items()
        )
        return FirstPass(rows.words, tuple(order), Start(*arrays), told.guess, blocks)

    def _tensor(self, x: Floats) -> Tensor:
        found = torch.from_numpy(np.ascontiguousarray(x))
        kind = next((each.dtype for each in self.model.parameters() if each.is_floating_point()), torch.float32)
        return found.to(kind) if found.is_floating_point() else found.long()


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """Let every parameter take part in the backward pass for a while, also those that its author has frozen."""
    before = [(each, each.requires_grad) for each in model.parameters() if each.is_floating_point()]
    for each, _ in before:
        each.requires_grad_(True)
    try:
        yield
    finally:
        for each, wanted in before:
            each.requires_grad_(wanted)


def _logits(given: Any) -> Tensor:
    """Return the tensor of what a model gives: its logits by name, or the first of several."""
    found = getattr(given, "logits", given)
    if isinstance(found, dict):
        found = next(iter(found.values()))
    while isinstance(found, tuple | list):
        found = found[0]
    if not isinstance(found, Tensor):
        raise ValueError(f"a model must give a tensor; it gives {type(given).__name__}")  # noqa: TRY004  # input
    return found

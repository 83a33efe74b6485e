"""What hooks see of a module of one's own: the outputs of its weighted layers, and of the activations after them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tasks.backends.pytorch.layers import evaluated
from tasks.core.design.layers import Layers
from tasks.core.training import signals
from tasks.core.training.signals import SATURATED

__all__ = ["Seen", "evaluated", "probing"]

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardtanh, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softsign),
)
BOUNDED = (nn.Tanh, nn.Sigmoid)


@contextmanager
def probing(model: nn.Module, momentum: float = 0.0) -> Iterator[None]:
    """Put a module in evaluation but for its batch normalizations, which use the statistics of the rows, for a while.

    momentum: the share of these statistics that the running ones take; 0 leaves the running ones as they are.
    """
    norms = [each for each in model.modules() if isinstance(each, _NormBase) and each.num_batches_tracked is not None]
    kept = [(each, each.momentum, each.num_batches_tracked) for each in norms]
    with evaluated(model):
        for norm in norms:
            norm.train()
            norm.momentum = momentum
            norm.num_batches_tracked = torch.zeros(())  # the one that is kept does not count on
        try:
            yield
        finally:
            for norm, share, batches in kept:
                norm.momentum = share
                norm.num_batches_tracked = batches


@contextmanager
def streamed(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Note for a while, in order of execution, what flows between a module's repeated blocks.

    By a block's name come the standard deviation of its output, and that of the gradient in it once there is one.
    """
    found: dict[str, list[Tensor]] = {}

    def noting(name: str, _: nn.Module, __: Any, given: Any) -> None:
        output = given[0] if isinstance(given, tuple) else given
        if name in found or not isinstance(output, Tensor):
            return
        own = found[name] = [signals.std(torch, output.detach().float())]
        if output.requires_grad:
            output.register_hook(lambda slope: own.append(signals.std(torch, slope.float())))  # type: ignore[no-untyped-call]  # torch's

    with ExitStack() as stack:
        for name, block in _blocks(model).items():
            stack.callback(block.register_forward_hook(partial(noting, name)).remove)
        yield found


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the outermost modules that hold others and stand in a list beside others of their class, by name."""
    found: dict[str, nn.Module] = {}
    for start, sequence in model.named_modules():
        within = f"{start}.".startswith(tuple(f"{name}." for name in found))
        if within or not isinstance(sequence, nn.Sequential | nn.ModuleList):
            continue
        kinds = Counter(map(type, sequence))
        for name, each in sequence.named_children():
            if kinds[type(each)] > 1 and next(each.children(), None) is not None:
                found[f"{start}.{name}" if start else name] = each
    return found


class Seen:
    """Hooks on a module's weighted layers, and what they have seen since they were put there.

    keep: whether whole outputs are kept, as copies, because an activation may write over its input; else only what the
    state needs. gradients: whether the gradients in the outputs are kept as well. `outputs`, `activated` and `slopes`
    have lists by layer, of as many tensors as the layer was called.
    """

    def __init__(self, model: nn.Module, layers: Layers, *, keep: bool = True, gradients: bool = False) -> None:
        found = dict(model.named_modules())
        self.weighted = [found.get(layer.name, model) for layer in layers.layers]
        self.channels = [1 if "Conv" in layer.kind else -1 for layer in layers.layers]
        self.activations = [each for each in found.values() if isinstance(each, ACTIVATIONS)]
        self.keep, self.gradients = keep, gradients
        self.counts: tuple[int, ...] = ()
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        count = len(self.weighted)
        self.last: int | None = None
        self.numbers = 0
        self.outputs: list[list[Tensor]] = [[] for _ in range(count)]
        self.activated: list[list[Tensor]] = [[] for _ in range(count)]
        self.slopes: list[list[Tensor]] = [[] for _ in range(count)]
        self.ends: list[list[Tensor]] = [[] for _ in range(count)]
        self.alive: list[Tensor | None] = [None] * count
        self.bounded: list[list[Tensor]] = [[] for _ in range(count)]

    def __enter__(self) -> Self:
        self.stack = ExitStack()
        for at, module in enumerate(self.weighted):
            self.stack.callback(module.register_forward_hook(partial(self._of_layer, at)).remove)
        for module in self.activations:
            self.stack.callback(module.register_forward_hook(self._of_activation).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _of_layer(self, at: int, _: nn.Module, __: Any, given: Any) -> None:
        output = given[0] if isinstance(given, tuple) else given
        if not isinstance(output, Tensor):
            return
        self.last = at
        self.numbers += output.numel()
        self.ends[at].extend(torch.aminmax(output.detach()))
        if self.keep:
            self.outputs[at].append(self._units(at, output.detach()).clone())
        if self.gradients and output.requires_grad:
            output.register_hook(lambda slope: self.slopes[at].append(self._units(at, slope).clone()))  # type: ignore[no-untyped-call]  # torch's

    def _of_activation(self, module: nn.Module, _: Any, given: Tensor) -> None:
        """Note the output of an activation, which belongs to the weighted layer before it."""
        at, self.last = self.last, None
        self.numbers += given.numel()
        if at is None or torch.is_grad_enabled() != self.gradients:
            return  # while it trains, only outputs matter
        values = given.detach()
        largest = self._largest(at, values)
        before = self.alive[at]
        self.alive[at] = largest if before is None else torch.maximum(before, largest)
        if self.keep:
            self.activated[at].append(self._units(at, values).clone())
        if isinstance(module, BOUNDED):
            bounded = values if isinstance(module, nn.Tanh) else 2 * values - 1
            self.bounded[at].append((bounded.abs() > SATURATED).float().mean())

    def _units(self, at: int, output: Tensor) -> Tensor:
        """Return an output as (rows, units): every place of a convolution, or of a sequence, is a row."""
        units = output.movedim(self.channels[at], -1)
        return units.reshape(-1, units.shape[-1])

    def _largest(self, at: int, output: Tensor) -> Tensor:
        """Return the largest absolute value of each unit of an output, over its rows as `_units` has them.

        It is taken of the output as it lies, because an output with few units takes many times longer as (rows, units).
        """
        channel = self.channels[at] % output.ndim
        rows = [axis for axis in range(output.ndim) if axis != channel]
        return output.abs().amax(rows) if rows else output.abs()

    def finite(self) -> Tensor:
        """Return 1 for each layer whose outputs were all finite, else 0, and NaN for a layer without any: (layers,)."""
        ends = torch.stack([end for each in self.ends for end in each])
        counts = tuple(map(len, self.ends))
        if counts != self.counts:  # the places of the ends, which are the same in every step
            self.counts = counts
            self.places = torch.tensor([at for at, each in enumerate(counts) for _ in range(each)], device=ends.device)
            self.known = torch.tensor([1.0 if each else np.nan for each in counts], device=ends.device)
        bad = torch.zeros_like(self.known).index_add(0, self.places, (~torch.isfinite(ends)).float())
        return torch.where(bad > 0, 0.0, self.known)

    def state(self) -> Tensor:
        """Return `signals.STATE` of each layer, (3, layers)."""
        finite = self.finite()
        nan = torch.tensor(np.nan, device=finite.device)
        dead = torch.stack([nan if each is None else (each == 0).float().mean() for each in self.alive])
        saturated = torch.stack([torch.stack(each).mean() if each else nan for each in self.bounded])
        return torch.stack([dead, saturated, finite])

    def at_start(self, at: int, rows: int, norm: Tensor) -> Tensor:
        """Return the signals in `columns.START` of a layer, but standard deviations in place of variances.

        rows: over how many rows the loss is a mean; norm: that of the weights' gradient. Units are alike if their
        outputs are, and the gradients in these: only then training keeps them so.
        """
        nan = torch.full_like(norm, np.nan)
        output, activated, slope = (
            torch.cat(each[at]) if each[at] else None for each in (self.outputs, self.activated, self.slopes)
        )
        if output is None:
            return torch.stack([nan] * 5 + [norm, nan])
        found = [output.mean(), signals.std(torch, output)]
        found += [nan, nan] if activated is None else [activated.mean(), signals.std(torch, activated)]
        found.append(nan if slope is None else signals.std(torch, rows * slope))
        alike = signals.alike(torch, output) * (1 if slope is None else signals.alike(torch, slope))
        return torch.stack([*found, norm, alike])

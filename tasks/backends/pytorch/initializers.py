"""PyTorch's own initializers: torch's functions for the laws of `design/initializers.py`."""

from typing import TypeGuard

import torch
from torch import Tensor, nn

from tasks.core.design.initializers import (
    COVERED,
    CUT,
    TRUNCATION,
    Backend,
    Constant,
    Identity,
    Initializer,
    Law,
    MeanField,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    bias_bound,
    fans_are_known,
    named,
)
from tasks.core.training.datasets import Floats

NAME: Backend = "pytorch"


def init_weights(module: nn.Module, initializer: str = "he_normal", generator: torch.Generator | None = None) -> None:
    """Initialize the module if it is a linear or convolutional layer.

    `model.apply(init_weights)` initializes every such layer of a model. `functools.partial` passes the other
    arguments. Biases become zeros; under pytorch_default they become U(±1/√fan_in). The generator decides the draw.
    Without one, torch's global generator decides it, as in `torch.nn.init`. Modules without weights of two or more
    dimensions, and normalizations, stay as they are.

    Raises:
        ValueError: if the initializer is unknown, if torch has no function for it, or if the layer's shape does not
            allow it; or if the module has weights whose fans are not known here, such as a transposed convolution.
    """
    entry = named(initializer)
    if not entry.law.native:
        raise ValueError(f"{initializer} is not built by a framework, layer by layer; choose another initializer")
    if not _covered(module):
        return
    if isinstance(module, nn.modules.conv._ConvNd):
        fans_are_known(str(module), entry, module.groups, module.stride)
    fill(module.weight, entry.law, generator)
    if module.bias is not None:
        _fill_bias(module.bias, entry, module.weight[0].numel(), generator)


def _covered(module: nn.Module) -> TypeGuard[nn.Linear | nn.modules.conv._ConvNd]:
    """Tell whether a module is to be initialized; it is not if it has no kernel.

    Raises:
        ValueError: if it has a kernel of another kind.
    """
    if isinstance(module, nn.Linear):
        return True
    if isinstance(module, nn.modules.conv._ConvNd) and not module.transposed:
        return True
    kernels = [each for each in module.parameters(recurse=False) if each.dim() > 1]
    if kernels and not isinstance(module, nn.LayerNorm | nn.RMSNorm):
        raise ValueError(f"init_weights covers {COVERED}; got {module}")
    return False


def _fill_bias(bias: Tensor, entry: Initializer, fan_in: int, generator: torch.Generator | None) -> None:
    bound = bias_bound(entry, "keras", fan_in)  # Keras's biases are zeros, unless the initializer is PyTorch's default
    nn.init.uniform_(bias, -bound, bound, generator=generator)
    if entry.law.bias_std:
        nn.init.normal_(bias, 0, entry.law.bias_std, generator=generator)


def fill(weight: Tensor, law: Law, generator: torch.Generator | None) -> None:
    """Fill a weight, laid out (fan_out, fan_in, ...), by torch's own function for the law.

    Raises:
        ValueError: if torch has no function for the law.
    """
    match _for_fans(law, fan_in=weight[0].numel(), fan_out=weight[:, 0].numel()):
        case Normal(std):
            nn.init.normal_(weight, 0, std, generator=generator)
        case TruncatedNormal(std):
            # torch's bounds are absolute numbers: its defaults of ±2 would cut nothing from a small std
            nn.init.trunc_normal_(weight, 0, std, -CUT * std, CUT * std, generator=generator)
        case Uniform(bound):
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        case Orthogonal() as orthogonal:
            nn.init.orthogonal_(weight, orthogonal.factor, generator=generator)
        case Identity(gain):
            nn.init.eye_(weight)
            with torch.no_grad():
                weight.mul_(gain)
        case Constant(value):
            nn.init.constant_(weight, value)
        case _:
            raise ValueError(f"PyTorch builds no {law}")


def _for_fans(law: Law, fan_in: int, fan_out: int) -> Law:
    """Return the law of a kernel with these fans, as a law that no longer depends on fans."""
    match law:
        case VarianceScaling(_, _, "uniform"):
            return Uniform(3**0.5 * law.std(fan_in, fan_out))
        case VarianceScaling():
            std = law.std(fan_in, fan_out)
            return TruncatedNormal(std / TRUNCATION) if law.cut(NAME) else Normal(std)
        case MeanField():
            return law.kernel(fan_in)
    return law


def native(law: Law, fan_in: int, fan_out: int, seed: int) -> Floats:
    """Draw a kernel (fan_in, fan_out) with torch's own function for the law."""
    weight = torch.empty(fan_out, fan_in)
    fill(weight, law, torch.Generator().manual_seed(seed))
    return weight.numpy().T

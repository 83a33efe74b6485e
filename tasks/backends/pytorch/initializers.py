"""PyTorch's own initializers: torch's functions for the laws of `design/initializers.py`."""

import warnings
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from tasks.backends.pytorch.layers import assign, check, layers, path
from tasks.core.design.initializers import (
    CUT,
    Backend,
    Constant,
    Identity,
    Initializer,
    Law,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    bias_bound,
    layerwise,
)
from tasks.core.design.layers import Kernel, Layer, Layers
from tasks.core.training.datasets import Floats

NAME: Backend = "pytorch"


def init_weights(model: nn.Module, initializer: str = "he_normal", generator: torch.Generator | None = None) -> Layers:
    """Initialize every layer of a model whose kind is in `layers.KINDS`, and return what was initialized.

    Laws have the fans of the operation, also where torch counts others: for convolutions with groups and strides,
    transposed convolutions, the three projections of an attention and the gates of a recurrent layer, each of which is
    drawn as a kernel of its own. Biases become zeros; under pytorch_default they become U(±1/√fan_in). The row of an
    embedding's padding becomes zero. A parameter that layers share follows the law of the layer with the largest
    fan_in. The generator decides the draw. Without one, torch's global generator decides it, as in `torch.nn.init`.

    Parameters of two or more dimensions that belong to no such layer stay as built; a warning names them, and so does
    the result. `model.apply(init_weights)` does the same, more slowly: it initializes each module within first.

    Raises:
        ValueError: if the initializer is unknown, or torch has no function for it; or, before anything is changed, if a
            kernel is computed from other parameters, in a way that no assignment can reach, or its shape does not allow
            the initializer.
    """
    entry = layerwise(initializer)
    if isinstance(model, ParametrizationList):
        return Layers(())  # `apply` hands over the parts of modules, too
    found, named_modules = layers(model), dict(model.named_modules())
    jobs = [(layer, named_modules.get(layer.name, model)) for layer in found.layers]
    for layer, module in jobs:
        for parameter in layer.parameters:
            check(module, layer.name, parameter, entry.law)
        for kernel in layer.kernels:
            kernel.allows(entry.law, layer.name)
    tied = {name for name, _ in found.tied}
    for layer, module in jobs:
        for parameter, value in _drawn(layer, module, entry, generator).items():
            if path(layer.name, parameter) not in tied:
                assign(module, parameter, value)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            weight = module.weight.detach().clone()
            weight[module.padding_idx] = 0
            assign(module, "weight", weight)
    found.warn()
    return found


def _drawn(layer: Layer, module: nn.Module, entry: Initializer, generator: torch.Generator | None) -> dict[str, Tensor]:
    """Draw the parameters in which a layer's kernels and biases lie."""
    drawn = {parameter: torch.empty_like(getattr(module, parameter)) for parameter in layer.parameters}
    for kernel in layer.kernels:
        weight = kernel.place.view(drawn[kernel.place.parameter])
        if weight.numel():
            _fill_kernel(weight, kernel, entry.law, generator)
        else:
            warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)  # torch's words
        if kernel.bias:
            _fill_bias(kernel.bias.view(drawn[kernel.bias.parameter]), entry, kernel.fan_in, generator)
    return drawn


def _fill_kernel(weight: Tensor, kernel: Kernel, law: Law, generator: torch.Generator | None) -> None:
    """Fill a weight by the law of a kernel; a law of matrices fills each of the kernel's matrices by itself."""
    law = law.without_fans(kernel.fan_in, kernel.fan_out, NAME)
    if isinstance(law, Orthogonal | Identity):
        draw = partial(_matrix, law, generator=generator, device=weight.device)
        weight.copy_(torch.from_numpy(kernel.assembled(draw)))
    else:
        fill(weight, law, generator)


def _fill_bias(bias: Tensor, entry: Initializer, fan_in: float, generator: torch.Generator | None) -> None:
    bound = bias_bound(entry, "keras", fan_in)  # Keras's biases are zeros, unless the initializer is PyTorch's default
    nn.init.uniform_(bias, -bound, bound, generator=generator)
    if entry.law.bias_std:
        nn.init.normal_(bias, 0, entry.law.bias_std, generator=generator)


def fill(weight: Tensor, law: Law, generator: torch.Generator | None) -> None:
    """Fill a weight, laid out (fan_out, fan_in), by torch's own function for a law that does not depend on fans.

    Raises:
        ValueError: if torch has no function for the law.
    """
    match law:
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


def _matrix(
    law: Law,
    fan_in: int,
    fan_out: int,
    generator: torch.Generator | None,
    device: torch.device | None = None,
) -> Floats:
    """Draw a kernel (fan_in, fan_out)."""
    weight = torch.empty(fan_out, fan_in, device=device)
    fill(weight, law.without_fans(fan_in, fan_out, NAME), generator)
    return weight.cpu().numpy().T


def counted(kernel: Kernel, kind: str) -> tuple[float, float]:  # noqa: ARG001  # every backend has one signature
    """Return the fans that torch takes for the parameter of a kernel, in a layer of a kind."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(kernel.whole, device="meta"))
    return float(fan_in), float(fan_out)


def native_array(law: Law, shape: tuple[int, ...], fans: tuple[float, float], seed: int) -> Floats:
    """Draw an array of a parameter's shape with torch's own function for the law, and the fans that torch counts."""
    weight = torch.empty(shape)
    fill(weight, law.without_fans(*fans, NAME), torch.Generator().manual_seed(seed))
    return weight.numpy()


def native(law: Law, fan_in: int, fan_out: int, seed: int) -> Floats:
    """Draw a kernel (fan_in, fan_out) with torch's own function for the law."""
    return _matrix(law, fan_in, fan_out, torch.Generator().manual_seed(seed))

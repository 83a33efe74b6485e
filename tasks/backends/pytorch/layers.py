"""The weighted layers of any PyTorch module: their kernels, with the fans of the operation, read and written."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from tasks.core.design.initializers import Constant, Law
from tasks.core.design.layers import Claim, Kernel, Layer, Layers, Place, owners, parts, tied
from tasks.core.training.datasets import Floats

POWER_ITERATIONS = 15  # after which torch takes the vectors of a spectral norm for settled


def _kernel(module: nn.Module, axes: str, parameter: str = "weight", bias: str = "bias", **geometry: Any) -> Kernel:
    """Return a kernel that is a whole parameter."""
    (kernel,) = parts(module, axes, parameter, bias, ("",), axis=0, **geometry)
    return kernel


def _attention(module: nn.MultiheadAttention) -> list[Kernel]:
    """Return the projections of queries, keys and values. The one of the outputs is a linear layer of its own."""
    if module.in_proj_weight is not None:
        return parts(module, "o i", "in_proj_weight", "in_proj_bias", "qkv", axis=0)
    biased = module.in_proj_bias is not None
    return [
        Kernel(
            parameter,
            Place(parameter, axis=0),
            tuple(getattr(module, parameter).shape),
            "o i",
            bias=Place("in_proj_bias", at, 3, axis=0) if biased else None,
        )
        for at, parameter in enumerate(("q_proj_weight", "k_proj_weight", "v_proj_weight"))
    ]


def _recurrent(module: nn.RNNBase | nn.RNNCellBase, gates: str) -> list[Kernel]:
    """Return the kernels of each gate, of inputs and of the state before, and the projection of an LSTM."""
    if isinstance(module, nn.RNNCellBase):
        ends = [""]
    else:
        directions = ("", "_reverse")[: 1 + module.bidirectional]
        ends = [f"_l{layer}{direction}" for layer in range(module.num_layers) for direction in directions]
    kernels = []
    for end in ends:
        for which in ("ih", "hh"):
            own = f"weight_{which}{end}", f"bias_{which}{end}"
            kernels += parts(module, "o i", *own, gates.split(" "), axis=0)
        if getattr(module, "proj_size", 0):
            kernels.append(_kernel(module, "o i", f"weight_hr{end}", bias=""))
    return kernels


def _convolution(module: Any) -> list[Kernel]:
    axes = "gi o *" if module.transposed else "go i *"
    return [
        _kernel(
            module,
            axes,
            groups=module.groups,
            strides=module.stride,
            dilation=module.dilation,
            transposed=module.transposed,
        )
    ]


KINDS: dict[type[nn.Module], Callable[[Any], list[Kernel]]] = {
    nn.Linear: lambda module: [_kernel(module, "o i")],
    nn.Bilinear: lambda module: [_kernel(module, "o i i")],  # a pair of inputs counts as one input
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.ConvTranspose3d: _convolution,
    nn.Embedding: lambda module: [_kernel(module, "i o", lookup=True)],
    nn.MultiheadAttention: _attention,
    nn.RNN: partial(_recurrent, gates=""),
    nn.RNNCell: partial(_recurrent, gates=""),
    nn.GRU: partial(_recurrent, gates="r z n"),
    nn.GRUCell: partial(_recurrent, gates="r z n"),
    nn.LSTM: partial(_recurrent, gates="i f g o"),
    nn.LSTMCell: partial(_recurrent, gates="i f g o"),
}
"""What lies in the kernels of each kind of module. A subclass is of the kind of its nearest base."""


def _kind(module: nn.Module) -> type[nn.Module] | None:
    return next((base for base in type(module).__mro__ if base in KINDS), None)


def modules(model: nn.Module, *inputs: Any) -> dict[str, nn.Module]:
    """Return the modules of a model by name, in order of execution if it is given inputs, else of definition.

    With inputs the model is called once, in evaluation and without gradients. A module that is not called itself, such
    as the projection of the outputs in an attention, comes with the module that holds it, or else at the end.
    """
    found = dict(model.named_modules())
    called = _called(model, found, inputs) if inputs else {}

    def order(name: str) -> int:
        while name and name not in called:
            name = name.rpartition(".")[0]
        return called[name] if name else len(called)

    return dict(sorted(found.items(), key=lambda item: order(item[0])))


def _called(model: nn.Module, found: dict[str, nn.Module], inputs: Sequence[Any]) -> dict[str, int]:
    """Return at which place each module is called first."""
    called: dict[str, int] = {}

    def note(name: str, *_: Any) -> None:
        called.setdefault(name, len(called))

    hooks = [module.register_forward_pre_hook(partial(note, name)) for name, module in found.items()]
    try:
        with evaluated(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return called


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Put a module and all within it in evaluation for a while."""
    before = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, training in before:
            each.training = training


def layers(model: nn.Module, *inputs: Any) -> Layers:
    """Return the weighted layers of a model, in the order of `modules`.

    Raises:
        ValueError: if a module is lazy and has not been called yet.
    """
    listed, notes = [], []
    claims: list[Claim] = []
    for name, module in modules(model, *inputs).items():
        for parameter, value in module.named_parameters(recurse=False):
            if is_lazy(value):
                raise ValueError(f"lazy modules must be called before they are listed; got {path(name, parameter)}")
        if (kind := _kind(module)) is None:
            continue
        layer = Layer(name or kind.__name__, kind.__name__, tuple(KINDS[kind](module)))
        listed.append(layer)
        for parameter in layer.parameters:
            here = path(layer.name, parameter)
            claims.append((layer, here, [*stored(module, parameter).values()]))
            notes += [f"{here}: {said}" for said in _rescaled(module, parameter)]
    owned = owners(claims)
    left = [name for name, value in model.named_parameters() if value.dim() > 1 and id(value) not in owned]
    return Layers(tuple(listed), tuple(left), tied(claims, owned), tuple(notes))


def path(name: str, parameter: str) -> str:
    """Return the name of a module's parameter, in the model in which the module has this name."""
    return f"{name}.{parameter}" if name else parameter


def read(module: nn.Module, kernel: Kernel) -> Floats:
    """Return a kernel as (groups, taps, inputs, outputs), as the module uses it."""
    with evaluated(module):  # in training, a spectral norm would change its vectors
        value = getattr(module, kernel.place.parameter)
    return kernel.matrices(kernel.place.view(value.detach().float().cpu().numpy()))


def write(module: nn.Module, kernel: Kernel, matrices: Floats) -> None:
    """Write a kernel that is given as (groups, taps, inputs, outputs)."""
    value = getattr(module, kernel.place.parameter).detach().clone()
    kernel.place.view(value).copy_(torch.from_numpy(kernel.array(matrices)))
    assign(module, kernel.place.parameter, value)


# A parameter may be computed from others: by parametrizations, or by torch's older hooks before each call. What is
# assigned to such a parameter itself is lost at the next call.
def _hook(module: nn.Module, parameter: str) -> WeightNorm | SpectralNorm | BasePruningMethod | None:
    """Return the hook that computes the parameter before each call."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm) and hook.name == parameter:
            return hook
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == parameter:
            return hook
    return None


def _parametrizations(module: nn.Module, parameter: str) -> Any:
    """Return the list of a parameter's parametrizations, with the tensors that they are given; or an empty list."""
    return module.parametrizations[parameter] if parametrize.is_parametrized(module, parameter) else []  # type: ignore[index]


def _only(found: Any, kind: type[nn.Module]) -> Any:
    """Return the first parametrization if all are of a kind, else None."""
    return found[0] if len(found) and all(isinstance(each, kind) for each in found) else None


def stored(module: nn.Module, parameter: str) -> dict[str, Tensor]:
    """Return the tensors from which a parameter is computed, by name; or the parameter itself."""
    if found := _parametrizations(module, parameter):
        return dict(found.named_parameters(recurse=False))
    match _hook(module, parameter):
        case None:
            return {parameter: getattr(module, parameter)}
        case WeightNorm():
            names = [f"{parameter}_g", f"{parameter}_v"]
        case _:
            names = [f"{parameter}_orig"]
    return {name: getattr(module, name) for name in names}


def _normed(module: nn.Module, parameter: str) -> bool:
    """Tell whether a spectral norm divides a parameter by its largest singular value."""
    by_hook = isinstance(_hook(module, parameter), SpectralNorm)
    return by_hook or bool(_only(_parametrizations(module, parameter), _SpectralNorm))


def _rescaled(module: nn.Module, parameter: str) -> list[str]:
    """Return how the values that the module uses differ from those that are assigned, in words."""
    if _normed(module, parameter):
        return ["spectral_norm divides what is drawn by its largest singular value"]
    if isinstance(_hook(module, parameter), BasePruningMethod):
        return ["pruned weights stay zero, so outputs have less variance than the law gives"]
    return []


def check(module: nn.Module, name: str, parameter: str, law: Law) -> None:
    """Check that a draw from a law can be assigned to a parameter.

    Raises:
        ValueError: if it has no memory, or is computed from others in a way that does not give what is assigned.
    """
    here, found = path(name, parameter), _parametrizations(module, parameter)
    if getattr(module, parameter).is_meta:
        raise ValueError(f"modules must be moved off the device meta before they are initialized; got {here}")
    if found and not _only(found, _SpectralNorm) and not _returned(module, parameter):
        kinds = ", ".join(type(each).__name__ for each in found)
        raise ValueError(
            f"{here} is parametrized by {kinds}, which does not give back what is assigned; initialize the module "
            "before it is parametrized"
        )
    if law == Constant(0) and _normed(module, parameter):
        raise ValueError(f"{here} is under spectral_norm, which cannot divide zeros; choose another initializer")
    if not found and not {*stored(module, parameter)} <= {*module._parameters}:
        raise ValueError(
            f"{here} is computed from other parameters before each call, in a way that is not known here; initialize "
            "the module before it is wrapped"
        )


def _returned(module: nn.Module, parameter: str) -> bool:
    """Tell whether a parametrization gives back what is assigned, by a trial on a copy."""
    trial = copy.deepcopy(module)
    value = getattr(trial, parameter).detach()
    value = torch.randn(value.shape, generator=torch.Generator().manual_seed(0)).to(value)
    try:
        with torch.no_grad():
            setattr(trial, parameter, value)
            return torch.allclose(getattr(trial, parameter), value, rtol=1e-3, atol=1e-3)
    except (NotImplementedError, RuntimeError, ValueError):  # what torch raises where there is no way back
        return False


@torch.no_grad()
def assign(module: nn.Module, parameter: str, value: Tensor) -> None:
    """Make a parameter have a value, by the tensors from which the module computes the parameter; see `check`."""
    hook, found, kept = _hook(module, parameter), _parametrizations(module, parameter), stored(module, parameter)
    norm = hook if isinstance(hook, WeightNorm) else _only(found, _WeightNorm)
    if norm:
        g, v = kept.values()
        g.copy_(torch.norm_except_dim(value, 2, norm.dim))
        v.copy_(torch.where(g > 0, value, v))  # a kernel of zeros has no direction
    elif found:
        setattr(module, parameter, value)
    else:
        (original,) = kept.values()
        original.copy_(value)
    if isinstance(hook, SpectralNorm):
        for _ in range(POWER_ITERATIONS):
            hook.compute_weight(module, do_power_iteration=True)
    elif spectral := _only(found, _SpectralNorm):
        spectral._power_method(spectral._reshape_weight_to_matrix(value), POWER_ITERATIONS)
    if hook:
        hook(module, ())

"""What is seen while a PyTorch model is built: where parameters are drawn, and at which bounds they are cut."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

TORCH = str(Path(torch.__file__).parent) + os.sep
DEFAULTS = str(Path(TORCH, "nn", "modules")) + os.sep  # where layers draw their own defaults
DEFAULT = "the layer's own default"
METHODS = ("normal_", "uniform_")  # of tensors, by which every law is drawn
NOTED = 16  # values of a tensor that was cut, by which it is told whether it was drawn again since


class Drawn:
    """What is known of the parameters that modules have registered, while `watched` lasts."""

    def __init__(self) -> None:
        self._draws: dict[int, tuple[ref[Tensor], list[str]]] = {}  # by the id of a parameter
        self._ids: dict[int, int] = {}  # by the address of a parameter's numbers when it was registered
        self._cuts: dict[int, tuple[Tensor, Tensor, float]] = {}  # by id: the tensor, its first values, the bound

    def places(self, parameter: Tensor) -> Sequence[str]:
        """Return the places in which a parameter was drawn as a whole, in order, but for the layer's first default."""
        found = self._draws[id(parameter)][1] if self._known(parameter) else []
        return found[1:] if found[:1] == [DEFAULT] else found

    def bound(self, parameter: Tensor) -> float | None:
        """Return how far from the mean a parameter was cut, None if it was not, or was drawn again since."""
        cut, first, bound = self._cuts.get(id(parameter), (None, None, 0.0))
        return bound if cut is parameter and first is not None and torch.equal(first, _first(parameter)) else None

    def registered(self, _module: nn.Module, _name: str, parameter: Tensor | None) -> None:
        """Note a parameter that a module has registered; what was drawn before is another tensor's."""
        if parameter is not None and not self._known(parameter):
            self._draws[id(parameter)] = ref(parameter), []
            self._ids[_address(parameter)] = id(parameter)

    def drew(self, tensor: Tensor) -> None:
        """Note that a tensor was drawn, if it is a parameter or has all numbers of one, as `parameter.data` has."""
        at = _address(tensor)
        known = id(tensor) if self._known(tensor) else self._ids.get(at, 0) if at else 0
        own = self._draws[known][0]() if known in self._draws else None
        if own is tensor or (own is not None and _address(own) == at and own.numel() == tensor.numel()):
            self._draws[known][1].append(_place())

    def cut(self, tensor: Tensor, bound: float) -> None:
        """Note that a tensor was cut so far from its mean."""
        self._cuts[id(tensor)] = tensor, _first(tensor), bound

    def _known(self, parameter: Tensor) -> bool:
        return id(parameter) in self._draws and self._draws[id(parameter)][0]() is parameter


@contextmanager
def watched() -> Iterator[Drawn]:
    """Note, for a while, where parameters are drawn, and at which bounds `trunc_normal_` cuts them."""
    found, cutting = Drawn(), nn.init._no_grad_trunc_normal_
    before = {name: vars(Tensor).get(name) for name in METHODS}

    def noting(tensor: Tensor, mean: float, std: float, a: float, b: float, *more: Any, **named: Any) -> Tensor:
        given = cutting(tensor, mean, std, a, b, *more, **named)
        found.cut(tensor, min(abs(a - mean), abs(b - mean)))
        return given

    hook = register_module_parameter_registration_hook(found.registered)
    nn.init._no_grad_trunc_normal_ = noting
    for name in METHODS:
        setattr(Tensor, name, _noting(getattr(Tensor, name), found))
    try:
        yield found
    finally:
        hook.remove()
        nn.init._no_grad_trunc_normal_ = cutting
        for name, own in before.items():
            if own is not None:
                setattr(Tensor, name, own)
            elif name in vars(Tensor):
                delattr(Tensor, name)  # it is inherited


def _noting(method: Any, found: Drawn) -> Any:
    def drawing(tensor: Tensor, *arguments: Any, **named: Any) -> Tensor:
        given: Tensor = method(tensor, *arguments, **named)
        found.drew(tensor)
        return given

    return drawing


def _address(tensor: Tensor) -> int:
    """Return where a tensor's numbers lie; 0 if it has none: it is lazy, on the device meta, sparse, or in a vmap."""
    try:
        return tensor.data_ptr()
    except (RuntimeError, ValueError, NotImplementedError):  # each kind of tensor has its own
        return 0


def _place() -> str:
    """Return where a tensor is being drawn: the nearest function that is not PyTorch's, or DEFAULT."""
    for frame, line in traceback.walk_stack(sys._getframe(2)):
        file = frame.f_code.co_filename
        if file.startswith(DEFAULTS):
            return DEFAULT
        if file != __file__ and not file.startswith(TORCH):
            return f"{frame.f_code.co_name} ({Path(file).name}:{line})"
    return DEFAULT


def _first(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten()[:NOTED].clone()

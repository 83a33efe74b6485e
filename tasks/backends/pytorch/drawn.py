"""What is seen while a PyTorch model is built: where parameters are drawn, and at which bounds they are cut."""

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

TORCH = str(Path(torch.__file__).parent)
DEFAULTS = str(Path(TORCH, "nn", "modules"))  # where layers draw their own defaults
DEFAULT = "the layer's own default"
METHODS = ("normal_", "uniform_")  # of tensors, by which every law is drawn
NOTED = 16  # values of a tensor that was cut, by which it is told whether it was drawn again since


class Drawn:
    """What is known of the parameters that modules have registered, while `watched` lasts."""

    def __init__(self) -> None:
        self._draws: dict[int, tuple[ref[Tensor], list[str]]] = {}  # by the address of a parameter's numbers
        self._cuts: dict[int, tuple[Tensor, Tensor, float]] = {}  # by id: the tensor, its first values, the bound

    def places(self, parameter: Tensor) -> Sequence[str]:
        """Return the places in which a parameter was drawn as a whole, in order, but for the layer's first default."""
        found = self._draws[parameter.data_ptr()][1] if self._known(parameter) else []
        return found[1:] if found[:1] == [DEFAULT] else found

    def bound(self, parameter: Tensor) -> float | None:
        """Return how far from the mean a parameter was cut, None if it was not, or was drawn again since."""
        cut, first, bound = self._cuts.get(id(parameter), (None, None, 0.0))
        return bound if cut is parameter and first is not None and torch.equal(first, _first(parameter)) else None

    def registered(self, _module: nn.Module, _name: str, parameter: Tensor | None) -> None:
        """Note a parameter that a module has registered; what was drawn before is another tensor's."""
        if type(parameter) is nn.Parameter and parameter.data_ptr() and not self._known(parameter):
            self._draws[parameter.data_ptr()] = ref(parameter), []

    def drew(self, tensor: Tensor) -> None:
        """Note that a tensor was drawn, if it holds all numbers of a parameter."""
        if type(tensor) not in (Tensor, nn.Parameter):
            return  # it has no numbers: it is fake, or in a transformed function
        at = tensor.data_ptr()
        own = self._draws[at][0]() if at in self._draws else None
        if own is not None and own.data_ptr() == at and own.numel() == tensor.numel():
            self._draws[at][1].append(_place())

    def cut(self, tensor: Tensor, bound: float) -> None:
        """Note that a tensor was cut so far from its mean."""
        self._cuts[id(tensor)] = tensor, _first(tensor), bound

    def _known(self, parameter: Tensor) -> bool:
        return parameter.data_ptr() in self._draws and self._draws[parameter.data_ptr()][0]() is parameter


@contextmanager
def watched() -> Iterator[Drawn]:
    """Note, for a while, where parameters are drawn, and at which bounds `trunc_normal_` cuts them."""
    found, cutting = Drawn(), nn.init._no_grad_trunc_normal_

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
        for name in METHODS:
            delattr(Tensor, name)  # it is inherited


def _noting(method: Any, found: Drawn) -> Any:
    def drawing(tensor: Tensor, *arguments: Any, **named: Any) -> Tensor:
        given: Tensor = method(tensor, *arguments, **named)
        found.drew(tensor)
        return given

    return drawing


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

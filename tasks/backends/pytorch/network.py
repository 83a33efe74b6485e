"""The network as PyTorch modules: for training, for its trace, and for deployment."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tasks.backends.pytorch.contained import contained
from tasks.core.design.activations import LEAKY_SLOPE, ActivationName
from tasks.core.design.settings import Network
from tasks.core.training.backend import NEWEST, NORMALIZATION_EPSILON, Builder, traced
from tasks.core.training.datasets import Floats, Fold, Problem

Named = dict[str, Tensor]
"""Tensors by the name that the module's state dict gives them."""

ACTIVATIONS: dict[ActivationName, nn.Module] = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(LEAKY_SLOPE),
    "elu": nn.ELU(),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "linear": nn.Identity(),
}


class BatchNorm(nn.BatchNorm1d):
    """A batch normalization that returns its running statistics instead of changing them.

    A functional call may not change a module, so nn.BatchNorm1d cannot be vectorised. The running variance averages
    biased variances, as Keras's does; nn.BatchNorm1d averages unbiased ones.
    """

    def forward(self, z: Tensor) -> tuple[Tensor, Named]:  # type: ignore[override]
        """Return the normalized rows, and the running statistics after them.

        In training the rows are normalized by their own mean and variance, which enter the running statistics with a
        share of NEWEST. In evaluation the running statistics normalize the rows and stay as they are.
        """
        used = running = {name: self.get_buffer(name) for name in ("running_mean", "running_var")}
        if self.training:
            used = {"running_mean": z.mean(0), "running_var": z.var(0, correction=0)}
            running = {name: (1 - NEWEST) * running[name] + NEWEST * used[name] for name in running}
        scaled = (z - used["running_mean"]) * torch.rsqrt(used["running_var"] + NORMALIZATION_EPSILON)
        return scaled * self.weight + self.bias, running


class Trace(NamedTuple):
    """The pre-activations and activations of each layer, see `backend.traced`, and the running statistics by name."""

    pre_activations: list[Tensor]
    activated: list[Tensor]
    state: Named

    @property
    def logits(self) -> Tensor:
        """The last layer's pre-activations, (rows, classes)."""
        return self.pre_activations[-1]


class Perceptron(nn.Module):
    """The multilayer perceptron with layers of the given sizes, inputs first and logits last."""

    def __init__(self, network: Network, fans: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        # A batch normalization subtracts any constant. A bias before it would only drift with rounding errors.
        bias = network.normalization != "batch"
        self.hidden = nn.ModuleList([nn.Linear(fan_in, fan_out, bias) for fan_in, fan_out in pairwise(fans[:-1])])
        self.norms = nn.ModuleList()
        if network.normalization == "batch":
            self.norms.extend(BatchNorm(units, NORMALIZATION_EPSILON, NEWEST) for units in fans[1:-1])
        elif network.normalization == "layer":
            self.norms.extend(nn.LayerNorm(units, NORMALIZATION_EPSILON) for units in fans[1:-1])
        self.output = nn.Linear(fans[-2], fans[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (rows, classes)."""
        return self.trace(x).logits

    def trace(self, x: Tensor, taps: Sequence[Tensor] = ()) -> Trace:
        """Return the trace of rows x (rows, features).

        `taps` are zeros that are added to the pre-activations, so that one can differentiate in the pre-activations.
        """
        state: Named = {}
        hidden = (partial(self._pre_activation, at, state) for at in range(len(self.hidden)))
        layers: list[Callable[[Tensor], Tensor]] = [*hidden, self.output]
        return Trace(*traced(self.network, layers, ACTIVATIONS[self.network.activation], x, taps), state)

    def _pre_activation(self, at: int, state: Named, h: Tensor) -> Tensor:
        """Return what the activation of a hidden layer is given; add the layer's running statistics to the state."""
        z: Tensor = self.hidden[at](h)
        if self.network.normalization == "batch":
            z, running = self.norms[at](z)
            state.update({f"norms.{at}.{name}": value for name, value in running.items()})
        elif self.network.normalization == "layer":
            z = self.norms[at](z)
        return z


class Traced(Perceptron):
    """A perceptron whose call returns the trace. `functional_call` calls a module and reaches no other method."""

    forward = Perceptron.trace  # type: ignore[assignment]


class Deployed(nn.Module):
    """A model that takes unscaled rows, float64 or tokens, and scales them itself."""

    mean: Tensor
    scale: Tensor
    y_mean: Tensor
    y_scale: Tensor

    def __init__(self, model: nn.Module, fold: Fold, *, tokens: bool = False) -> None:
        super().__init__()
        self.model, self.tokens, self.real = model, tokens, fold.real
        for name in ("mean", "scale", "y_mean", "y_scale"):
            self.register_buffer(name, torch.from_numpy(np.asarray(getattr(fold, name))))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (rows, ..., classes), or real numbers (rows, outputs) in the units of the data."""
        given: Tensor = self.model(x if self.tokens else ((x - self.mean) / self.scale).float())
        return (given * self.y_scale + self.y_mean).float() if self.real else given


def deployed(network: Network, fans: tuple[int, ...], variables: Mapping[str, Floats], fold: Fold) -> Deployed:
    """Return a trained network as one model, from unscaled features to logits."""
    perceptron = Perceptron(network, fans)
    trained = {name: torch.from_numpy(value) for name, value in variables.items()}
    # The state dict also counts the batches that a normalization saw. The count is not recorded, and nothing uses it.
    perceptron.load_state_dict(perceptron.state_dict() | trained)
    return Deployed(perceptron, fold).eval()


def deployed_own(builder: Builder, problem: Problem, variables: Mapping[str, Floats], fold: Fold) -> Deployed:
    """Return a trained model of one's own as one model, from unscaled rows to what it gives."""
    with contained(0):
        model = builder(problem.shape, problem.outputs).float()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in variables.items()})
    return Deployed(model, fold, tokens=problem.tokens).eval()

"""The PyTorch backend: the only importer of torch.

Cells train together: `vmap` over the stacked weights of a real `nn.Module`, a gradient per cell, and one `torch.optim`
optimizer on the stacks, for optimizers act elementwise. On a CPU a cell's weights are, bit for bit, those of a plain
loop, whatever the batch.
"""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from tasks.core.datasets import Floats
from tasks.core.initializers import (
    CUT,
    INITIALIZERS,
    Backend,
    Constant,
    Identity,
    Initializer,
    Law,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    known,
)
from tasks.core.study import Network, Recipe
from tasks.core.training import DETERMINISTIC, TF32, Stack, Weights

NAME: Backend = "pytorch"
ADAM_EPSILON = 1e-8  # torch.optim.Adam's default
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}


def setup(threads: int) -> str:
    """Set threads, precision and determinism for this process; return the device's name."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(DETERMINISTIC)
    torch.backends.cuda.matmul.allow_tf32 = TF32
    torch.backends.cudnn.allow_tf32 = TF32
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def init_weights(module: nn.Module, initializer: str = "he_normal", generator: torch.Generator | None = None) -> None:
    """Initialize a linear or convolutional layer and leave any other alone: `model.apply(init_weights)`.

    Biases become zeros, or U(±1/√fan_in) for pytorch_default. Give the other arguments with `functools.partial`;
    without a generator the draw is torch's global one, as in `torch.nn.init`.

    Raises:
        ValueError: for an unknown initializer, or one that the layer's shape does not allow.
    """
    entry = INITIALIZERS[known(initializer)]
    if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        return
    fill(module.weight, entry.law, generator)
    if module.bias is not None:
        fan_in = module.weight[0].numel()
        bound = 1 / math.sqrt(fan_in) if entry.default_of == NAME else 0.0
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def fill(weight: Tensor, law: Law, generator: torch.Generator | None) -> None:
    """Fill a weight, laid out (fan_out, fan_in, ...), by torch's own function for the law."""
    match law:
        case VarianceScaling(scale, "fan_avg", "normal"):
            nn.init.xavier_normal_(weight, gain=math.sqrt(scale), generator=generator)
        case VarianceScaling(scale, "fan_avg", "uniform"):
            nn.init.xavier_uniform_(weight, gain=math.sqrt(scale), generator=generator)
        case VarianceScaling(scale, "fan_in", "normal"):
            nn.init.kaiming_normal_(weight, a=_slope(scale), generator=generator)
        case VarianceScaling(scale, "fan_in", "uniform"):
            nn.init.kaiming_uniform_(weight, a=_slope(scale), generator=generator)
        case Normal(std):
            nn.init.normal_(weight, 0, std, generator=generator)
        case TruncatedNormal(std):
            # the bounds are absolute: torch's defaults of ±2 would cut nothing from a small std
            nn.init.trunc_normal_(weight, 0, std, -CUT * std, CUT * std, generator=generator)
        case Uniform(bound):
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        case Orthogonal():
            nn.init.orthogonal_(weight, generator=generator)
        case Identity():
            nn.init.eye_(weight)
        case Constant(value):
            nn.init.constant_(weight, value)


def _slope(scale: float) -> float:
    """Return the leaky-ReLU slope a for which torch's Kaiming gain, sqrt(2 / (1 + a²)), is sqrt(scale)."""
    return math.sqrt(2 / scale - 1)


def native(initializer: Initializer, fan_in: int, fan_out: int, seed: int) -> Floats:
    """Draw a kernel (fan_in, fan_out) with torch's own function."""
    weight = torch.empty(fan_out, fan_in)
    fill(weight, initializer.law, torch.Generator().manual_seed(seed))
    return weight.numpy().T


def perceptron(network: Network, fans: tuple[int, ...]) -> nn.Sequential:
    """Return the multilayer perceptron with layers of the given sizes, inputs first and logits last."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(fans):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[network.activation]()]
    return nn.Sequential(*layers[:-1])


def optimizer(recipe: Recipe, weights: list[Tensor]) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the weights."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(weights, lr=recipe.learning_rate)
    epsilon = ADAM_EPSILON if recipe.epsilon == "framework" else recipe.epsilon
    return torch.optim.Adam(weights, lr=recipe.learning_rate, eps=epsilon)


class Program:
    """A batch of perceptrons in training; see `tasks.core.training.Program`."""

    def __init__(self, network: Network, recipe: Recipe, fans: tuple[int, ...]) -> None:
        with torch.device("meta"):  # the weights are given at the start, so none are drawn or held here
            module = perceptron(network, fans)
        self.recipe = recipe
        self.names = [name for name, _ in module.named_parameters()]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

        def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(functional_call(module, weights, (x,)), y)

        def measure(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            logits = functional_call(module, weights, (x,))
            return cross_entropy(logits, y), (logits.argmax(-1) == y).float().mean()

        self._gradients = vmap(grad(loss))
        self._measure = vmap(measure)
        self._logits = vmap(lambda weights, x: functional_call(module, weights, (x,)))

    def start(self, stack: Stack, weights: Weights) -> None:
        self.x, self.y, self.x_test, self.y_test = (
            torch.from_numpy(array).to(self.device)
            for array in (stack.x_train, stack.y_train, stack.x_test, stack.y_test)
        )
        self.tensors = {
            name: torch.from_numpy(np.ascontiguousarray(np.swapaxes(array, 1, -1))).to(self.device)
            for name, array in zip(self.names, weights, strict=True)
        }
        self.optimizer = optimizer(self.recipe, list(self.tensors.values()))

    def measure(self) -> NDArray[np.float32]:
        train_loss, train_accuracy = self._measure(self.tensors, self.x, self.y)
        test_loss, test_accuracy = self._measure(self.tensors, self.x_test, self.y_test)
        return torch.stack([train_loss, test_loss, train_accuracy, test_accuracy]).cpu().numpy()

    def run(self, order: NDArray[np.int32]) -> NDArray[np.float32]:
        rows = order.shape[-1]
        size = rows if self.recipe.batch_size == "full" else self.recipe.batch_size
        cells = torch.arange(order.shape[1], device=self.device)[:, None]
        measures = []
        for epoch in torch.from_numpy(order).to(self.device):
            for at in range(0, rows, size):
                visited = epoch[:, at : at + size]
                gradients = self._gradients(self.tensors, self.x[cells, visited], self.y[cells, visited])
                for name, tensor in self.tensors.items():
                    tensor.grad = gradients[name]
                self.optimizer.step()
            measures.append(self.measure())
        return np.array(measures, np.float32).reshape(len(order), 4, order.shape[1])

    def logits(self) -> Floats:
        logits: Tensor = self._logits(self.tensors, self.x_test)
        return logits.cpu().numpy()

    def weights(self) -> Weights:
        return [np.swapaxes(tensor.cpu().numpy(), 1, -1).copy() for tensor in self.tensors.values()]

    def named(self, weights: Weights) -> dict[str, Floats]:
        return {name: np.ascontiguousarray(array.T) for name, array in zip(self.names, weights, strict=True)}


@cache
def _program(network: Network, recipe: Recipe, fans: tuple[int, ...]) -> Program:
    return Program(network, recipe, fans)


def program(network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int) -> Program:
    """Return the program for these settings; one serves batches of any size."""
    return _program(network, recipe, fans)

"""The PyTorch backend: the only importer of torch.

Cells train together: `vmap` over the stacked weights of a real `nn.Module`, a gradient per cell, and one `torch.optim`
optimizer on the stacks, for optimizers act elementwise. On a CPU a cell's weights are, bit for bit, those of a plain
loop, whatever the batch.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.functional import cross_entropy

from tasks.core.design.activations import LEAKY_SLOPE, ActivationName
from tasks.core.design.initializers import (
    CUT,
    TRUNCATION,
    Backend,
    Constant,
    Identity,
    Law,
    MeanField,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    bias_bound,
    named,
)
from tasks.core.design.settings import Network, Recipe
from tasks.core.training import signals
from tasks.core.training.backend import (
    DETERMINISTIC,
    NEWEST,
    NORMALIZATION_EPSILON,
    TF32,
    Progress,
    Stack,
    Weights,
    traced,
)
from tasks.core.training.datasets import Floats
from tasks.core.training.signals import FLOW, JACOBIAN_ROWS, STATE, Start

NAME: Backend = "pytorch"
ADAM_EPSILON = 1e-8  # torch.optim.Adam's default
NORM_EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_'s
PROBED = 16  # cells probed at once, for second derivatives take much memory
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


def setup(threads: int) -> str:
    """Set threads, precision and determinism for this process; return the device's name."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(DETERMINISTIC)
    torch.set_flush_denormal(True)  # as TensorFlow does: signals that vanish end in the same zeros
    torch.backends.cuda.matmul.allow_tf32 = TF32
    torch.backends.cudnn.allow_tf32 = TF32
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def init_weights(module: nn.Module, initializer: str = "he_normal", generator: torch.Generator | None = None) -> None:
    """Initialize a linear or convolutional layer and leave any other alone: `model.apply(init_weights)`.

    Biases become zeros, or U(±1/√fan_in) for pytorch_default. Give the other arguments with `functools.partial`;
    without a generator the draw is torch's global one, as in `torch.nn.init`.

    Raises:
        ValueError: for an unknown initializer, one that torch does not build by itself, or one that the layer's shape
            does not allow.
    """
    entry = named(initializer)
    if not entry.law.native:
        raise ValueError(f"{initializer} is not built by a framework, layer by layer; choose another initializer")
    if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        return
    fill(module.weight, entry.law, generator)
    if module.bias is not None:
        bound = bias_bound(entry, "keras", module.weight[0].numel())  # zeros, unless it is PyTorch's own default
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        if entry.law.bias_std:
            nn.init.normal_(module.bias, 0, entry.law.bias_std, generator=generator)


def fill(weight: Tensor, law: Law, generator: torch.Generator | None) -> None:
    """Fill a weight, laid out (fan_out, fan_in, ...), by torch's own function for the law."""
    fan_in, fan_out = weight[0].numel(), weight[:, 0].numel()
    match law:
        case VarianceScaling(_, _, "uniform"):
            bound = 3**0.5 * law.std(fan_in, fan_out)
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        case VarianceScaling():
            std = law.std(fan_in, fan_out)
            if law.cut(NAME):
                fill(weight, TruncatedNormal(std / TRUNCATION), generator)
            else:
                nn.init.normal_(weight, 0, std, generator=generator)
        case MeanField():
            nn.init.normal_(weight, 0, law.kernel(fan_in).std, generator=generator)
        case Normal(std):
            nn.init.normal_(weight, 0, std, generator=generator)
        case TruncatedNormal(std):
            # the bounds are absolute: torch's defaults of ±2 would cut nothing from a small std
            nn.init.trunc_normal_(weight, 0, std, -CUT * std, CUT * std, generator=generator)
        case Uniform(bound):
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        case Orthogonal():
            nn.init.orthogonal_(weight, law.factor, generator=generator)
        case Identity(gain):
            nn.init.eye_(weight)
            with torch.no_grad():
                weight.mul_(gain)
        case Constant(value):
            nn.init.constant_(weight, value)
        case _:
            raise ValueError(f"PyTorch builds no {law}")


def native(law: Law, fan_in: int, fan_out: int, seed: int) -> Floats:
    """Draw a kernel (fan_in, fan_out) with torch's own function."""
    weight = torch.empty(fan_out, fan_in)
    fill(weight, law, torch.Generator().manual_seed(seed))
    return weight.numpy().T


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization that returns its running statistics instead of changing them, as functional calls need.

    They are of biased variances, as in Keras; nn.BatchNorm1d's are unbiased.
    """

    def forward(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """Return the normalized rows and the statistics: with the rows', mixed in, or in evaluation as they were."""
        used = running = {name: self.get_buffer(name) for name in ("running_mean", "running_var")}
        if self.training:
            used = {"running_mean": z.mean(0), "running_var": z.var(0, correction=0)}
            running = {name: (1 - NEWEST) * running[name] + NEWEST * used[name] for name in running}
        scaled = (z - used["running_mean"]) * torch.rsqrt(used["running_var"] + NORMALIZATION_EPSILON)
        return scaled * self.weight + self.bias, running


class Trace(NamedTuple):
    """What passes through a network, see `backend.traced`, and the running statistics behind it."""

    pre_activations: list[Tensor]
    activated: list[Tensor]
    state: dict[str, Tensor]

    @property
    def logits(self) -> Tensor:
        """The last layer's (rows, classes)."""
        return self.pre_activations[-1]


class Perceptron(nn.Module):
    """The multilayer perceptron with layers of the given sizes, inputs first and logits last."""

    def __init__(self, network: Network, fans: tuple[int, ...]) -> None:
        super().__init__()
        units = fans[1:-1]
        self.network = network
        bias = network.normalization != "batch"  # it takes constants away: a bias would drift on rounding errors
        self.hidden = nn.ModuleList([nn.Linear(fan_in, fan_out, bias) for fan_in, fan_out in pairwise(fans[:-1])])
        self.norms = nn.ModuleList()
        if network.normalization == "batch":
            self.norms.extend(BatchNorm(count, NORMALIZATION_EPSILON, NEWEST) for count in units)
        elif network.normalization == "layer":
            self.norms.extend(nn.LayerNorm(count, NORMALIZATION_EPSILON) for count in units)
        self.output = nn.Linear(fans[-2], fans[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (rows, classes)."""
        return self.trace(x).logits

    def trace(self, x: Tensor, taps: Sequence[Tensor] = ()) -> Trace:
        """Return all that passes through; taps are added to the pre-activations, to differentiate in them."""
        state: dict[str, Tensor] = {}

        def layer(at: int, h: Tensor) -> Tensor:
            z: Tensor = self.hidden[at](h)
            if self.network.normalization == "batch":
                z, running = self.norms[at](z)
                state.update({f"norms.{at}.{name}": value for name, value in running.items()})
            elif self.network.normalization == "layer":
                z = self.norms[at](z)
            return z

        layers: list[Any] = [*(partial(layer, at) for at in range(len(self.hidden))), self.output]
        return Trace(*traced(self.network, layers, ACTIVATIONS[self.network.activation], x, taps), state)


class Deployed(nn.Module):
    """A perceptron that takes features as they are, (rows, features) float64, and scales them itself."""

    mean: Tensor
    scale: Tensor

    def __init__(self, perceptron: Perceptron, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        super().__init__()
        self.perceptron = perceptron
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (rows, classes)."""
        logits: Tensor = self.perceptron(((x - self.mean) / self.scale).float())
        return logits


def deployed(
    network: Network,
    fans: tuple[int, ...],
    variables: Mapping[str, Floats],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> Deployed:
    """Return a trained network as one model, from unscaled features to logits."""
    perceptron = Perceptron(network, fans)
    trained = {name: torch.from_numpy(value) for name, value in variables.items()}
    perceptron.load_state_dict(perceptron.state_dict() | trained)  # batches are counted, and nothing counts on it
    return Deployed(perceptron, mean, scale).eval()


class Traced(Perceptron):
    """A perceptron whose call returns the trace, for functional calls reach no other method."""

    forward = Perceptron.trace  # type: ignore[assignment]


def optimizer(recipe: Recipe, kernels: list[Tensor], others: list[Tensor]) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; only kernels decay."""
    groups: Any = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if not recipe.weight_decay:
        groups = [{"params": [*kernels, *others], "weight_decay": 0.0}]  # one is quicker
    if recipe.optimizer in ("sgd", "momentum"):
        momentum = recipe.momentum if recipe.optimizer == "momentum" else 0
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=momentum)
    epsilon = ADAM_EPSILON if recipe.epsilon == "framework" else recipe.epsilon
    rule = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return rule(groups, lr=recipe.learning_rate, eps=epsilon)


def clipped(gradients: dict[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Return one cell's gradients as the recipe cuts them."""
    if recipe.clip_value:
        return {name: each.clamp(-recipe.clip_value, recipe.clip_value) for name, each in gradients.items()}
    if recipe.clip_norm:
        (total,) = signals.norms(torch, [signals.norms(torch, list(gradients.values()))])
        factor = torch.clamp(recipe.clip_norm / (total + NORM_EPSILON), max=1.0)
        return {name: factor * each for name, each in gradients.items()}
    return gradients


class Program:
    """A batch of perceptrons in training; see `tasks.core.training.backend.Program`."""

    def __init__(self, network: Network, recipe: Recipe, fans: tuple[int, ...]) -> None:
        with torch.device("meta"):  # the weights are given at the start, so none are drawn or held here
            training, evaluating = Traced(network, fans), Traced(network, fans).eval()
        self.recipe = recipe
        linears = [name for name, part in training.named_modules() if isinstance(part, nn.Linear)]
        self.kernels = [f"{name}.weight" for name in linears]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        parameters = {name: part.shape for name, part in training.named_parameters()}
        self.given = [
            f"{name}.{part}" for name in linears for part in ("weight", "bias") if f"{name}.{part}" in parameters
        ]
        self.fixed = {name: shape for name, shape in parameters.items() if name not in self.given}
        self.running = {name: part.shape for name, part in training.named_buffers() if "running" in name}

        def loss(
            weights: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor, taps: Sequence[Tensor] = ()
        ) -> tuple[Tensor, Trace]:
            trace: Trace = functional_call(training, (weights, state), (x, taps))
            return cross_entropy(trace.logits, y), trace

        def step(weights: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Any, ...]:
            def slim(*given: Any) -> tuple[Tensor, tuple[dict[str, Tensor], list[Tensor]]]:
                value, trace = loss(*given)
                return value, (trace.state, trace.pre_activations)  # each tensor that leaves costs time in every step

            gradients, (state, pre_activations) = grad(slim, has_aux=True)(weights, state, x, y)
            norms = signals.norms(torch, [gradients[name] for name in self.kernels])
            return clipped(gradients, recipe), state, norms, signals.finite(torch, pre_activations)

        def scores(trace: Trace, y: Tensor) -> tuple[Tensor, Tensor]:
            return cross_entropy(trace.logits, y), (trace.logits.argmax(-1) == y).float().mean()

        def measure(
            weights: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor
        ) -> tuple[Tensor, Tensor]:
            trace: Trace = functional_call(evaluating, (weights, state), (x,))
            train_loss, train_accuracy = scores(trace, y)
            test_loss, test_accuracy = scores(functional_call(evaluating, (weights, state), (x_test,)), y_test)
            return (
                torch.stack([train_loss, test_loss, train_accuracy, test_accuracy]),
                signals.state(torch, trace.activated, trace.pre_activations, network.activation),
            )

        def probe(weights: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            taps = [torch.zeros(len(x), units, device=x.device) for units in fans[1:]]
            kernels = {name: weights[name] for name in self.kernels}

            def half_square(kernels: dict[str, Tensor]) -> tuple[Tensor, Any]:
                (gradients, in_taps), trace = grad(loss, argnums=(0, 4), has_aux=True)(
                    weights | kernels, state, x, y, taps
                )
                square = sum((gradients[name] ** 2).sum() for name in self.kernels)
                return square / 2, (gradients, in_taps, trace)

            products, (gradients, in_taps, trace) = grad(half_square, has_aux=True)(kernels)
            layers = [
                torch.stack(signals.at_start(torch, z, a, len(x) * in_tap, gradients[name]))
                for z, a, in_tap, name in zip(
                    trace.pre_activations, trace.activated, in_taps, self.kernels, strict=True
                )
            ]
            rows_own = {name: value / NEWEST for name, value in trace.state.items()}  # they were mixed into zeros

            def summed(rows: Tensor) -> Tensor:
                own: Trace = functional_call(evaluating, (weights, rows_own), (rows,))
                return own.logits.sum(0)

            jacobian = jacrev(summed)(x[:JACOBIAN_ROWS])
            quotient = signals.gradient_quotient(
                torch, [gradients[name] for name in self.kernels], [products[name] for name in self.kernels]
            )
            overall = [cross_entropy(trace.logits, y), signals.largest_class_share(torch, trace.logits), quotient]
            state_then = signals.state(torch, trace.activated, trace.pre_activations, network.activation)
            return torch.stack(layers, 1), torch.stack(overall), jacobian.movedim(0, 1), state_then

        self._step, self._measure = vmap(step), vmap(measure)
        self._probe = vmap(probe, chunk_size=PROBED)
        self._logits = vmap(lambda weights, state, x: functional_call(evaluating, (weights, state), (x,)).logits)

    def start(self, stack: Stack, weights: Weights) -> None:
        self.x, self.y, self.x_test, self.y_test = (
            torch.from_numpy(array).to(self.device)
            for array in (stack.x_train, stack.y_train, stack.x_test, stack.y_test)
        )
        cells = len(stack.x_train)
        names = [f"{kernel.removesuffix('weight')}{part}" for kernel in self.kernels for part in ("weight", "bias")]
        self.tensors = {
            name: torch.from_numpy(np.ascontiguousarray(np.swapaxes(array, 1, -1))).to(self.device)
            for name, array in zip(names, weights, strict=True)
            if name in self.given
        }
        for name, shape in self.fixed.items():
            self.tensors[name] = torch.full((cells, *shape), float(name.endswith("weight")), device=self.device)
        self.state = {
            name: torch.full((cells, *shape), float(name.endswith("var")), device=self.device)
            for name, shape in self.running.items()
        }
        kernels = [self.tensors[name] for name in self.kernels]
        others = [tensor for name, tensor in self.tensors.items() if name not in self.kernels]
        self.optimizer = optimizer(self.recipe, kernels, others)

    def probe(self) -> Start:
        zeros = {name: torch.zeros_like(value) for name, value in self.state.items()}
        return Start(*(part.cpu().numpy() for part in self._probe(self.tensors, zeros, self.x, self.y)))

    def measure(self) -> Progress:
        return self._progress([self._now()], [])

    def _now(self) -> tuple[Tensor, Tensor]:
        now: tuple[Tensor, Tensor] = self._measure(self.tensors, self.state, self.x, self.y, self.x_test, self.y_test)
        return now

    def _progress(self, measured: Sequence[tuple[Tensor, Tensor]], flow: Sequence[Tensor]) -> Progress:
        cells, layers = len(self.x), len(self.kernels)
        scores, state = zip(*measured, strict=True) if measured else ((), ())
        return Progress(
            *(
                np.array([part.cpu().numpy() for part in parts], np.float32).reshape(len(parts), cells, *shape)
                for parts, shape in ((scores, (4,)), (state, (len(STATE), layers)), (flow, (len(FLOW), layers)))
            )
        )

    def run(self, order: NDArray[np.int32]) -> Progress:
        rows = order.shape[-1]
        size = rows if self.recipe.batch_size == "full" else self.recipe.batch_size
        cells = torch.arange(order.shape[1], device=self.device)[:, None]
        measured, flow = [], []
        for epoch in torch.from_numpy(order).to(self.device):
            flows = [self._advance(cells, epoch[:, at : at + size]) for at in range(0, rows, size)]
            flow.append(torch.stack(flows).mean(0))
            measured.append(self._now())
        return self._progress(measured, flow)

    def _advance(self, cells: Tensor, visited: Tensor) -> Tensor:
        """Take one step; return the cells' `signals.FLOW` in it, (cells, 3, layers)."""
        gradients, self.state, norms, finite = self._step(
            self.tensors, self.state, self.x[cells, visited], self.y[cells, visited]
        )
        kernels = [self.tensors[name] for name in self.kernels]
        before = [kernel.clone() for kernel in kernels]
        for name, tensor in self.tensors.items():
            tensor.grad = gradients[name]
        self.optimizer.step()
        return torch.stack([norms, signals.update_ratios(torch, before, kernels), finite], 1)

    def logits(self) -> Floats:
        logits: Tensor = self._logits(self.tensors, self.state, self.x_test)
        return logits.cpu().numpy()

    def weights(self) -> Weights:
        return [np.swapaxes(self.tensors[name].cpu().numpy(), 1, -1).copy() for name in self.given]

    def variables(self) -> dict[str, Floats]:
        return {name: tensor.cpu().numpy().copy() for name, tensor in (self.tensors | self.state).items()}


@cache
def _program(network: Network, recipe: Recipe, fans: tuple[int, ...]) -> Program:
    return Program(network, recipe, fans)


def program(network: Network, recipe: Recipe, fans: tuple[int, ...], cells: int) -> Program:
    """Return the program for these settings; one serves batches of any size."""
    return _program(network, recipe, fans)

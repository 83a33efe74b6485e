"""What a program computes of one cell. The program vectorises each of these functions over the cells of a batch."""

from collections.abc import Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev

from tasks.backends.pytorch.losses import loss, score
from tasks.backends.pytorch.network import Named, Trace, Traced
from tasks.backends.pytorch.optimizer import clipped
from tasks.core.design.own import Task
from tasks.core.design.settings import Network, Recipe
from tasks.core.training import signals
from tasks.core.training.backend import NEWEST, in_order
from tasks.core.training.signals import JACOBIAN_ROWS


class OneCell:
    """The functions of one cell: a training step's gradients, the measures, the signals at the start, the logits.

    Each function takes the cell's `weights`, its `state`, which is the running statistics of its batch normalizations,
    rows x (rows, features) and their classes y (rows,).
    """

    def __init__(self, network: Network, recipe: Recipe, fans: tuple[int, ...], task: Task) -> None:
        with torch.device("meta"):  # every call brings its weights, so that the modules need not hold any
            self.training, self.evaluating = Traced(network, fans), Traced(network, fans).eval()
        self.activation = network.activation
        self.recipe, self.task = recipe, task
        self.units = fans[1:]
        self.linears = [name for name, part in self.training.named_modules() if isinstance(part, nn.Linear)]
        self.kernels = [f"{name}.weight" for name in self.linears]

    def logits(self, weights: Named, state: Named, x: Tensor) -> Tensor:
        """Return the logits in evaluation, (rows, classes)."""
        return self._evaluated(weights, state, x).logits

    def step(self, weights: Named, state: Named, x: Tensor, y: Tensor) -> tuple[Named, Named, Tensor, Tensor]:
        """Return what a training step takes from a batch of rows.

        These are the gradients as the optimizer gets them, the new state, the norm of each kernel's gradient before
        clipping, (layers,), and for each layer whether its pre-activations are finite, (layers,).
        """
        gradients, (state, pre_activations) = grad(self._slim_loss, has_aux=True)(weights, state, x, y)
        norms = signals.norms(torch, [gradients[name] for name in self.kernels])
        return clipped(gradients, self.recipe), state, norms, signals.finite(torch, pre_activations)

    def measure(self, weights: Named, state: Named, x: Tensor, y: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cell's part of `Progress.scores`, and `signals.STATE`, (3, layers).

        held: rows and classes of the test rows and, where there are any, of the validation rows.
        """
        trace = self._evaluated(weights, state, x)
        others = [self.logits(weights, state, rows) for rows in held[::2]]
        scored = list(zip([trace.logits, *others], [y, *held[1::2]], strict=True))
        losses = [loss(logits, labels, self.task) for logits, labels in scored]
        accuracies = [score(logits, labels, self.task) for logits, labels in scored]
        return torch.stack(in_order(losses, accuracies)), self._state(trace)

    def probe(self, weights: Named, state: Named, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Return the cell's part of `signals.Start`, the kernels' gradients one by one; the state is zeros."""
        taps = [torch.zeros(len(x), units, device=x.device) for units in self.units]
        kernels = {name: weights[name] for name in self.kernels}
        products, (gradients, in_taps, trace) = grad(self._half_square, has_aux=True)(
            kernels, weights, state, x, y, taps
        )
        layers = [
            torch.stack(signals.at_start(torch, z, activated, len(x) * in_tap, gradients[name]))
            for z, activated, in_tap, name in zip(*trace[:2], in_taps, self.kernels, strict=True)
        ]
        pairs = ([tensors[name] for name in self.kernels] for tensors in (gradients, products))
        quotient = signals.gradient_quotient(torch, *pairs)
        share = signals.largest_class_share(torch, trace.logits)
        scores = [loss(trace.logits, y, self.task), share if self.task == "classification" else share * nan, quotient]
        found = torch.stack(layers, 1), torch.stack(scores), self._jacobian(weights, trace, x), self._state(trace)
        return *found, *(gradients[name] for name in self.kernels)

    def _evaluated(self, weights: Named, state: Named, x: Tensor) -> Trace:
        trace: Trace = functional_call(self.evaluating, (weights, state), (x,))
        return trace

    def _state(self, trace: Trace) -> Tensor:
        """Return `signals.STATE` of each layer, (3, layers)."""
        state: Tensor = signals.state(torch, trace.activated, trace.pre_activations, self.activation)
        return state

    def _loss(
        self, weights: Named, state: Named, x: Tensor, y: Tensor, taps: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Trace]:
        """Return the mean loss of a batch in training, and the trace behind it."""
        trace: Trace = functional_call(self.training, (weights, state), (x, taps))
        return loss(trace.logits, y, self.task), trace

    def _slim_loss(
        self, weights: Named, state: Named, x: Tensor, y: Tensor
    ) -> tuple[Tensor, tuple[Named, list[Tensor]]]:
        """Return the loss with only those parts of the trace that a step needs.

        Each tensor that leaves a differentiated function costs time in every step.
        """
        loss, trace = self._loss(weights, state, x, y)
        return loss, (trace.state, trace.pre_activations)

    def _half_square(
        self, kernels: Named, weights: Named, state: Named, x: Tensor, y: Tensor, taps: Sequence[Tensor]
    ) -> tuple[Tensor, Any]:
        """Return |g|²/2, where g is the gradient of the loss in the kernels.

        The gradient of |g|²/2 in the kernels is Hg, where H is the Hessian. Beside the number, return the gradients in
        all weights, the gradients in the taps, and the trace.
        """
        (gradients, in_taps), trace = grad(self._loss, argnums=(0, 4), has_aux=True)(
            weights | kernels, state, x, y, taps
        )
        square = sum((gradients[name] ** 2).sum() for name in self.kernels)
        return square / 2, (gradients, in_taps, trace)

    def _jacobian(self, weights: Named, trace: Trace, x: Tensor) -> Tensor:
        """Return the Jacobian of the logits in the features of some rows, (rows, classes, features).

        The trace is that of all rows, computed in training from a state of zeros. A batch normalization uses the
        statistics of all rows, as constants. They are in the trace's state, with a share of NEWEST.
        """
        statistics = {name: value / NEWEST for name, value in trace.state.items()}
        in_rows = jacrev(self._summed_logits, argnums=2)(weights, statistics, x[:JACOBIAN_ROWS])
        jacobian: Tensor = in_rows.movedim(0, 1)
        return jacobian

    def _summed_logits(self, weights: Named, state: Named, rows: Tensor) -> Tensor:
        """Return the sum of the logits over the rows, (classes,).

        In evaluation a row's logits depend on that row alone, so the derivative of the sum in a row is that of the
        row's own logits.
        """
        return self._evaluated(weights, state, rows).logits.sum(0)

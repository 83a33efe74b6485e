"""What happens between a gradient and a changed weight: clipping, then a torch.optim optimizer."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from tasks.backends.pytorch.network import Named
from tasks.core.design.settings import Recipe
from tasks.core.training import signals
from tasks.core.training.backend import NORM_EPSILON

ADAM_EPSILON = 1e-8  # the default of torch.optim.Adam


def clipped(gradients: Named, recipe: Recipe) -> Named:
    """Return one cell's gradients, clipped as the recipe says."""
    if recipe.clip_value:
        return {name: each.clamp(-recipe.clip_value, recipe.clip_value) for name, each in gradients.items()}
    if recipe.clip_norm:
        (total,) = signals.norms(torch, [signals.norms(torch, list(gradients.values()))])
        factor = torch.clamp(recipe.clip_norm / (total + NORM_EPSILON), max=1.0)
        return {name: factor * each for name, each in gradients.items()}
    return gradients


def runs(rates: Sequence[float]) -> list[slice]:
    """Return the places of neighbours that have one learning rate.

    >>> runs([0.1, 0.1, 0.01])
    [slice(0, 2, None), slice(2, 3, None)]
    """
    ends = [at for at in range(1, len(rates)) if rates[at] != rates[at - 1]]
    return [slice(*pair) for pair in pairwise([0, *ends, len(rates)])]


def optimizer(recipe: Recipe, kernels: Sequence[str], parts: Sequence[tuple[float, Named]]) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of the tensors of each part, which has a learning rate of its own.

    Weight decay acts on the kernels alone, of which the names are given. The parts are groups of one optimizer: a rate
    that is a number gives the same digits whatever the rates of the other parts are.
    """
    groups: Any = [group for rate, tensors in parts for group in _groups(recipe, kernels, rate, tensors)]
    if recipe.optimizer in ("sgd", "momentum"):
        momentum = recipe.momentum if recipe.optimizer == "momentum" else 0
        return torch.optim.SGD(groups, momentum=momentum)
    epsilon = ADAM_EPSILON if recipe.epsilon == "framework" else recipe.epsilon
    rule = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return rule(groups, eps=epsilon)


def _groups(recipe: Recipe, kernels: Sequence[str], rate: float, tensors: Named) -> list[dict[str, Any]]:
    """Return the groups of a part; one group takes less time than two."""
    if not recipe.weight_decay:
        return [{"params": [*tensors.values()], "lr": rate, "weight_decay": 0.0}]
    decaying = [tensors[name] for name in kernels]
    others = [tensor for name, tensor in tensors.items() if name not in kernels]
    return [
        {"params": decaying, "lr": rate, "weight_decay": recipe.weight_decay},
        {"params": others, "lr": rate, "weight_decay": 0.0},
    ]

"""What happens between a gradient and a changed weight: clipping, then a torch.optim optimizer."""

from typing import Any

import torch
from torch import Tensor

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


def optimizer(recipe: Recipe, kernels: list[Tensor], others: list[Tensor]) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of these tensors. Weight decay acts on the kernels alone."""
    groups: Any = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if not recipe.weight_decay:
        groups = [{"params": [*kernels, *others], "weight_decay": 0.0}]  # one group takes less time than two
    if recipe.optimizer in ("sgd", "momentum"):
        momentum = recipe.momentum if recipe.optimizer == "momentum" else 0
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=momentum)
    epsilon = ADAM_EPSILON if recipe.epsilon == "framework" else recipe.epsilon
    rule = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return rule(groups, lr=recipe.learning_rate, eps=epsilon)

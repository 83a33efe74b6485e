"""What a network is trained to make small, and how well it does: of classes, and of real targets."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from tasks.core.design.own import Task


def loss(outputs: Tensor, y: Tensor, task: Task) -> Tensor:
    """Return the mean loss: cross-entropy of logits (..., classes), or the mean squared error of real outputs."""
    if task == "regression":
        return mse_loss(outputs, y)
    return cross_entropy(outputs.reshape(-1, outputs.shape[-1]), y.reshape(-1))


def score(outputs: Tensor, y: Tensor, task: Task) -> Tensor:
    """Return the accuracy or, of real targets, R²: 1 less the squared error's share of the targets' variance."""
    if task == "regression":
        return 1 - ((outputs - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    return (outputs.argmax(-1) == y).float().mean()


def scores(outputs: Tensor, y: Tensor, task: Task) -> list[Tensor]:
    """Return loss and score."""
    with torch.no_grad():
        return [loss(outputs, y, task), score(outputs, y, task)]

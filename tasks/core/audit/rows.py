"""The rows of a first pass: a user's own, rows of N(0, 1), or random tokens; and what the model is to give for them."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.layers import Layers
from tasks.core.design.own import Task
from tasks.core.design.settings import Split
from tasks.core.training import datasets
from tasks.core.training.datasets import Dataset
from tasks.core.training.memory import PROBED_ROWS, rows_at_once

FEWEST = 2  # rows, whatever the memory: with one row nothing varies over rows
NO_JACOBIANS = np.full((1, 1, 1, 1), np.nan, np.float32)  # an audit computes none


@dataclass(frozen=True)
class Targets:
    """What a model is to give for rows. guess: the loss of a guess, ln(classes) or the variance of real targets.

    Real targets that are all equal have no variance; the guess is then 1, as for standardized ones.
    """

    y: NDArray[Any]
    task: Task
    guess: float


@dataclass(frozen=True)
class Rows:
    """Rows of x, and of y if they are a user's own. words: what they are; classes: of y, 0 if y is real or unknown."""

    words: str
    x: NDArray[Any]
    y: NDArray[Any] | None = None
    classes: int = 0

    @classmethod
    def normal(cls, shape: tuple[int, ...]) -> "Rows":
        """Return rows of N(0, 1) of a shape."""
        x = np.random.default_rng(0).standard_normal((PROBED_ROWS, *shape), np.float32)
        return cls("rows of N(0, 1)", x)

    @classmethod
    def of(cls, dataset: Dataset, split: Split = Split()) -> "Rows":
        """Return train rows of a dataset, scaled as in a study."""
        fold = datasets.divide(dataset, split, 0)
        return cls(f"rows of {dataset.name}", fold.x_train[:PROBED_ROWS], fold.y_train[:PROBED_ROWS], dataset.classes)

    def tokens_below(self, count: int) -> "Rows":
        """Return rows of random tokens in place of rows of N(0, 1), for a model that looks up so many tokens."""
        if self.y is not None:
            return self
        x = np.random.default_rng(0).integers(0, count, self.x.shape)
        return Rows(f"random tokens below {count}", x)

    def tries(self, layers: Layers) -> list["Rows"]:
        """Return the rows to try: tokens first if a layer looks them up, but they may not be the model's inputs."""
        lookup = next((each.kernels[0] for each in layers.layers if each.kernels[0].lookup), None)
        return [self] if lookup is None or self.y is not None else [self.tokens_below(lookup.shape[0]), self]

    def first(self, count: int) -> "Rows":
        """Return the first so many rows."""
        return replace(self, x=self.x[:count], y=None if self.y is None else self.y[:count])

    def fitting(self, numbers: int) -> int:
        """Return how many rows fit into memory, where layers give so many numbers for a row."""
        return max(FEWEST, min(len(self.x), rows_at_once(numbers)))

    def targets(self, shape: tuple[int, ...]) -> Targets:
        """Return the targets for outputs of a shape (rows, ..., classes): the user's own, or random ones.

        A model that gives a single number a row has real targets.
        """
        rng = np.random.default_rng(1)
        if self.y is not None and self.classes:
            return Targets(self.y, "classification", math.log(self.classes))
        if self.y is not None:
            return Targets(self.y, "regression", float(self.y.var()) or 1.0)
        if shape[-1] < 2:
            return Targets(rng.standard_normal(shape, np.float32), "regression", 1.0)
        return Targets(rng.integers(0, shape[-1], shape[:-1]), "classification", math.log(shape[-1]))

"""The gate's second part: the weights that a framework draws follow their law, and every kernel is a draw of its own.

`judged` draws the kernels of two cells as a study draws them. The layers keep the proportions of the study's network,
and are scaled until a cell has about WEIGHTS weights. Fewer weights would not show that a law is a tenth too wide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.grid import Cell
from tasks.core.design.initializers import Law, RandomLaw, named
from tasks.core.design.settings import CellSettings
from tasks.core.training import datasets
from tasks.core.training.backend import Framework
from tasks.core.training.weights import fans, initial_weights

WEIGHTS = 20_000
NARROWEST = 3  # units of a scaled layer, at least
CELLS = (0, 1)  # seeds
LEVEL = 1e-6  # chance that one of a law's two tests alarms although the law is right
TINY = 1e-30  # stands for a bound of zero in quotients
FIXED = 1e-6  # how far a kernel that is not random may be from its law, relative to its largest weight

Kernels = list[NDArray[np.float64]]
MEMORY: tuple[Literal["C", "F"], ...] = ("C", "F")  # orders of a kernel's weights: by rows, by columns


@dataclass(frozen=True)
class Finding:
    """A number that must not exceed its bound. subject: what it is about; what: which number it is."""

    subject: str
    what: str
    measured: float
    bound: float

    @property
    def held(self) -> bool:
        """Whether the number is within its bound; NaN is not."""
        return self.measured <= self.bound

    @property
    def share(self) -> float:
        """The number as a multiple of its bound; NaN counts as infinite."""
        share = self.measured / max(self.bound, TINY)
        return math.inf if math.isnan(share) else share

    def __str__(self) -> str:
        return f"{self.subject}: {self.what}: {self.measured:.2g}, at most {self.bound:.2g} is right"


def judged(framework: Framework, settings: CellSettings, label: str) -> list[Finding]:
    """Return whether a framework's draws under an initializer follow its law, and are independent of each other."""
    law = named(label).law.under(settings.perceptron.activation)
    cells = [_kernels(framework, settings, Cell(framework.NAME, label, seed)) for seed in CELLS]
    subject = f"{framework.NAME} · {label}"
    if not isinstance(law, RandomLaw):
        return [_fixed(subject, law, cells[0])]
    uniform = [
        [law.marginal(kernel.shape[0], kernel.shape[1], framework.NAME).cdf(kernel) for kernel in cell]
        for cell in cells
    ]
    return [_distributed(subject, uniform), _independent(subject, uniform)]


def _kernels(framework: Framework, settings: CellSettings, cell: Cell) -> Kernels:
    """Draw a cell's kernels, in layers of about WEIGHTS weights with the proportions of the network's."""
    dataset = datasets.load(settings.dataset)
    sizes = scaled(fans(settings.perceptron, dataset.problem.shape[0], dataset.problem.outputs))
    own = {"weights_seed": "cell", "bias": "zeros", "output_initializer": "same"}
    plain = settings.model_copy(update={"network": settings.perceptron.model_copy(update=own)})
    weights = initial_weights(framework, plain, cell, sizes, np.zeros((1, sizes[0]), np.float32))
    return [kernel.astype(np.float64) for kernel in weights[::2]]


def scaled(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return layers of the same proportions with about WEIGHTS weights.

    >>> scaled((4, 64, 32, 3))
    (12, 185, 92, 9)
    """
    factor = math.sqrt(WEIGHTS / sum(one * other for one, other in pairwise(sizes)))
    return tuple(max(NARROWEST, round(factor * size)) for size in sizes)


def _fixed(subject: str, law: Law, kernels: Kernels) -> Finding:
    """Hold kernels that are not random against the law."""
    rng = np.random.default_rng(0)
    expected = [law.draw(*kernel.shape, rng=rng) for kernel in kernels]
    gap = max(float(np.abs(kernel - each).max()) for kernel, each in zip(kernels, expected, strict=True))
    return Finding(subject, "kernel, against its law", gap, FIXED * max(float(np.abs(each).max()) for each in expected))


def _distributed(subject: str, uniform: Sequence[Kernels]) -> Finding:
    """Test whether the weights of all layers follow their law, by the statistic √n D of Kolmogorov and Smirnov.

    `uniform` has each weight's probability under the law, which is uniform if the weights follow the law.
    """
    from scipy import stats

    pooled = np.concatenate([kernel.ravel() for cell in uniform for kernel in cell])
    distance = stats.kstest(pooled, "uniform").statistic * math.sqrt(pooled.size)
    return Finding(subject, "weights, against their law (√n D)", float(distance), float(stats.kstwobign.isf(LEVEL)))


def _independent(subject: str, uniform: Sequence[Kernels]) -> Finding:
    """Test whether kernels repeat each other: the largest √n |r| of a layer and the next, or the same in another cell.

    r is the correlation of the first n weights, n being the size of the smaller kernel, in the order in which a
    framework draws them: by rows or by columns.
    """
    from scipy import stats

    one, other = uniform
    pairs = [*pairwise(one), *zip(one, other, strict=True)]
    largest = max(_correlation(a, b, order) for a, b in pairs for order in MEMORY)
    bound = float(stats.norm.isf(LEVEL / 2 / (2 * len(pairs))))
    return Finding(subject, "kernels, against each other (√n |r|)", largest, bound)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64], order: Literal["C", "F"]) -> float:
    n = min(one.size, other.size)
    a, b = (kernel.ravel(order)[:n] for kernel in (one, other))
    return float(math.sqrt(n) * abs(np.corrcoef(a, b)[0, 1]))

"""The parity gate: from identical weights and batches, two backends must compute the same weights at every step.

Otherwise a difference between backends could be a bug of this benchmark. The gate trains a small network with each of
two optimizers. Its activation is smooth, because at ReLU's kink a rounding error can send a weight in another
direction.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.grid import Cell
from tasks.core.design.initializers import BACKENDS
from tasks.core.design.settings import Network, Recipe
from tasks.core.design.study import Study
from tasks.core.training import batch
from tasks.core.training.backend import Framework, Weights

BATCH = 30  # of 120 train rows: an epoch has four steps of equal size
STEPS = 100
EPOCHS = STEPS * BATCH // 120
NETWORK = Network(hidden=(16, 16), activation="tanh")
RECIPES = {
    "sgd": Recipe(optimizer="sgd", learning_rate=0.1, batch_size=BATCH, epochs=EPOCHS),
    "adam": Recipe(optimizer="adam", learning_rate=0.001, batch_size=BATCH, epochs=EPOCHS),
}
BOUNDS = {"sgd": 5.4e-7, "adam": 1.6e-6}
"""By optimizer, the largest difference allowed of any weight at any step; rounding alone makes 6e-8 a step near 1."""


class ParityError(RuntimeError):
    """The backends computed different weights from identical inputs."""


def trace(framework: Framework, optimizer: str, *, seed: int) -> list[Weights]:
    """Train one cell with an optimizer; return its weights at the start and after each step, stacked for one cell."""
    study = Study(network=NETWORK, recipe=RECIPES[optimizer], weights="shared")
    settings = study.settings(framework.NAME, levels=())
    program, _, order = batch.started(framework, settings, [Cell(framework.NAME, "glorot_uniform", seed)])
    weights = [program.weights()]
    for rows in order.reshape(-1, 1, 1, BATCH):  # one batch an epoch, so that the weights can be read at each step
        program.run(rows)
        weights.append(program.weights())
    return weights


def gaps(ours: Sequence[Weights], theirs: Sequence[Weights]) -> NDArray[np.float64]:
    """Return the largest absolute difference of any weight at the start and after each step: (steps + 1,).

    >>> gaps([[np.array([1.0, 2.0])]], [[np.array([1.0, 2.5])]]).tolist()
    [0.5]
    """
    return np.array(
        [
            np.max([np.abs(one - other).max() for one, other in zip(before, after, strict=True)])
            for before, after in zip(ours, theirs, strict=True)
        ]
    )


def judge(found: Mapping[str, NDArray[np.float64]]) -> None:
    """Compare the gaps of each optimizer with its bound.

    Raises:
        ParityError: if a gap exceeds the bound, or is NaN.
    """
    for optimizer, gap in found.items():
        beyond = ~(gap <= BOUNDS[optimizer])
        if beyond.any():
            step = int(np.argmax(beyond))
            raise ParityError(
                f"{' and '.join(BACKENDS)} must agree within {BOUNDS[optimizer]:g} under {optimizer} from identical "
                f"weights and batches; at step {step} they differ by {gap[step]:.1e}"
            )

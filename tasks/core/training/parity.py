"""Do two backends compute the same thing? Identical weights and batches go in, every tensor of every step comes out.

Without that, a difference between backends could as well be a bug of this benchmark. Both optimizers train a network
of smooth units, for at a ReLU's kink a rounding error decides which way a weight goes.
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

BATCH = 30  # of 120 train rows: four steps an epoch, all alike
STEPS = 100
EPOCHS = STEPS * BATCH // 120
NETWORK = Network(hidden=(16, 16), activation="tanh")
RECIPES = {
    "sgd": Recipe(optimizer="sgd", learning_rate=0.1, batch_size=BATCH, epochs=EPOCHS),
    "adam": Recipe(optimizer="adam", learning_rate=0.001, batch_size=BATCH, epochs=EPOCHS),
}
BOUNDS = {"sgd": 5.4e-7, "adam": 1.6e-6}
"""Largest difference of any weight at any step; float32 rounding of weights near 1 is 6e-8 a step."""


class ParityError(RuntimeError):
    """The backends computed different things from identical inputs."""


def trace(framework: Framework, optimizer: str, *, seed: int) -> list[Weights]:
    """Train one cell by an optimizer's recipe; return its weights at the start and after each step, (1, ...) each."""
    study = Study(network=NETWORK, recipe=RECIPES[optimizer], weights="shared")
    settings = study.settings(framework.NAME, levels=())
    program, _, order = batch.started(framework, settings, [Cell(framework.NAME, "glorot_uniform", seed)])
    weights = [program.weights()]
    for rows in order.reshape(-1, 1, 1, BATCH):  # one batch an epoch, so that the weights can be read at each step
        program.run(rows)
        weights.append(program.weights())
    return weights


def gaps(ours: Sequence[Weights], theirs: Sequence[Weights]) -> NDArray[np.float64]:
    """Return the largest absolute difference of any weight at each step, the start included: (steps + 1,)."""
    return np.array(
        [
            np.max([np.abs(one - other).max() for one, other in zip(before, after, strict=True)])
            for before, after in zip(ours, theirs, strict=True)
        ]
    )


def judge(found: Mapping[str, NDArray[np.float64]]) -> None:
    """Hold each optimizer's gaps against its bound.

    Raises:
        ParityError: if one exceeds it, or is NaN.
    """
    for optimizer, gap in found.items():
        beyond = ~(gap <= BOUNDS[optimizer])
        if beyond.any():
            step = int(np.argmax(beyond))
            raise ParityError(
                f"{' and '.join(BACKENDS)} must agree within {BOUNDS[optimizer]:g} under {optimizer} from identical "
                f"weights and batches; at step {step} they differ by {gap[step]:.1e}"
            )

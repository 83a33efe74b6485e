"""The figures of what is estimated beside the verdicts are what they are named for."""

import numpy as np
import pandas as pd

from tests.calibration import estimates

RATES = (0.001, 0.01, 0.1)


def picked(noise):
    """Return how well 3 of 12 tuning seeds pick of three rates, of which the middle one is best."""
    rng = np.random.default_rng(0)
    rows = [("iris", "keras", rate, "zeros", seed) for rate in RATES for seed in range(12)]
    cells = pd.DataFrame(rows, columns=["study", "backend", "learning_rate", "initializer", "seed"])
    loss = cells["learning_rate"].map(dict(zip(RATES, (1.0, 0.5, 2.0), strict=True)))
    return estimates.of_picks(cells.assign(validation_loss=loss + noise * rng.normal(size=len(loss))), 3, 50)


def test_clear_picks_are_right():
    """Where one rate is best under every seed it is always picked; where seeds differ more than rates, seldom."""
    assert picked(0.01) == {"seeds": 3, "right": 1.0, "above": 0.0, "uncertain": 0.0}
    noisy = picked(10.0)
    assert 0.1 < noisy["right"] < 0.9
    assert noisy["uncertain"] > 0.2


def test_the_expected_accuracy_is_the_least_flattered():
    """Of real cells the best cell is farther above the truth than the best mean, and this than what is expected."""
    found = estimates.of_champion(np.random.default_rng(0), "iris", "null", 5, 100)
    assert found["the best cell's"] > found["the best mean"] > abs(found["expected"])
    assert 0.85 < found["covered"] <= 1

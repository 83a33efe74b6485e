"""Do the methods that were tried do what they are said to? The figures are those of `tests.calibration.rejected`."""

import numpy as np

from tests.calibration import families, rejected, table


def test_a_rival_far_ahead_is_told_apart():
    """The step-down maximum of permuted labels tells one rival of eight apart from each other one, and no other pair.

    Under sign flips five seeds have 16 patterns of signs, so that no pair is ever told apart.
    """
    few = table.values("iris", "null", "test_loss")[:, :5].copy()
    few[0] /= 1e4
    of = families.measure("iris", "test_loss", few)
    p = rejected.step_down(np.random.default_rng(0), few, of, flips=False)
    assert (p[:7] < 0.05).all()
    assert (p[7:] > 0.05).all()
    assert (rejected.step_down(np.random.default_rng(0), few, of, flips=True) > 0.05).all()

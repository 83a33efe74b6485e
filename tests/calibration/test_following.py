"""The number of seeds that a pair is told settles it."""

import numpy as np
import pytest

from tests.calibration import following


@pytest.mark.parametrize(
    ("dataset", "name"), [("iris", "test_accuracy"), ("wine", "test_loss"), ("breast_cancer", "test_accuracy")]
)
def test_the_told_number_settles(dataset, name):
    """Of pairs that were told a number of seeds, so many fresh seeds settle at least 80 %, small numbers and large."""
    total, settled = following.followed(np.random.default_rng(0), dataset, name, 12, most=150)
    assert len(total) > 10
    for half in (total <= np.median(total), total > np.median(total)):
        assert settled[half].mean() >= 0.8

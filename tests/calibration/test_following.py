"""The number of seeds that a pair is told settles it."""

import numpy as np
import pytest

from tests.calibration import families, following


@pytest.mark.parametrize(
    ("dataset", "kind", "name"),
    [("iris", "truth", "test_accuracy"), ("wine", "truth", "test_loss"), ("breast_cancer", "null", "test_accuracy")],
)
def test_the_told_number_settles(dataset, kind, name):
    """Of pairs that were told a number of seeds, so many fresh seeds settle at least 80 %, small numbers and large."""
    cells, of = families.values(dataset, kind, name), following.measure(dataset, name)
    count = 18 if name == "test_accuracy" else 45
    total, settled = following.followed(np.random.default_rng(0), cells, of, count)
    assert len(total) > 10
    for half in (total <= np.median(total), total > np.median(total)):
        assert settled[half].mean() >= 0.8

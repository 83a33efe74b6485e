"""What later looks pay."""

from itertools import pairwise

import pytest

from tasks.core.statistics import looks
from tasks.core.statistics.inference import ALPHA


def test_all_looks_together_err_little():
    """The first look has 5 %, all later ones, however many, 1 % together, each less than the one before."""
    levels = [ALPHA / looks.price(look) for look in range(1, 1000)]
    assert levels[0] == ALPHA
    assert sum(levels[1:]) == pytest.approx(looks.LATER, rel=0.01)
    assert sum(levels[1:]) < looks.LATER
    assert all(later < earlier for earlier, later in pairwise(levels))

"""An audit seldom calls a right law wrong, and finds a standard deviation that is off by a tenth."""

import numpy as np
import pytest
from scipy import stats

from tests.calibration import audits


@pytest.mark.parametrize("law", audits.LAWS)
def test_right_laws_are_seldom_called_wrong(law):
    """The share of right laws that are called wrong is at most the level, but for what 4,000 parts cannot tell."""
    found = audits.false(np.random.default_rng(0), audits.LAWS[law], 320, 4000)
    for level, share in zip(audits.LEVELS, found, strict=True):
        assert share * 4000 <= stats.binom.isf(1e-3, 4000, level)


@pytest.mark.parametrize("law", audits.LAWS)
def test_a_tenth_is_found(law):
    """In a layer of 64 × 64, under five seeds, a standard deviation that is off by a tenth is always found."""
    assert audits.power(np.random.default_rng(0), audits.LAWS[law], 1.1, 40) == 1
    assert audits.power(np.random.default_rng(0), audits.LAWS[law], 0.9, 40) == 1

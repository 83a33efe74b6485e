"""The range test against an independent studentized range, by hand over subsets, and on rivals with holes."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tasks.core.statistics import inference, ranges


def contrasts(values):
    return np.array([one - other for one, other in combinations(values, 2)])


def alone(difference):
    return inference.Differences.of(difference, 0.0).p_zero()


@pytest.mark.parametrize(("k", "n"), [(2, 3), (3, 5), (8, 5), (8, 30), (12, 10)])
def test_the_studentized_range_is_scipys(k, n):
    """The quadrature agrees with SciPy's, in far tails, too."""
    q, df = np.array([0.3, 2.0, 4.0, 7.0, 15.0]), (k - 1) * (n - 1)
    assert ranges.range_sf(q, k, df) == pytest.approx(stats.studentized_range.sf(q, k, df), rel=1e-3, abs=2e-6)


def test_a_pair_has_the_largest_p_of_its_subsets():
    """By hand: each subset's range over its residual SD, its level by its size, and of a pair the largest p."""
    values = np.random.default_rng(0).standard_normal((5, 6)) + np.array([[0.0], [0.2], [1.0], [2.0], [4.0]])
    found = ranges.adjusted(contrasts(values), np.zeros(10))
    expected = dict.fromkeys(combinations(range(5), 2), 0.0)
    for k in range(2, 6):
        for subset in map(list, combinations(range(5), k)):
            part = values[subset]
            residual = part - part.mean(0) - part.mean(1, keepdims=True) + part.mean()
            error = np.sqrt((residual**2).sum() / ((k - 1) * 5) / 6)
            p = stats.studentized_range.sf(np.ptp(part.mean(1)) / error, k, (k - 1) * 5)
            p = p if k >= 4 else 1 - (1 - p) ** (5 / k)
            for pair in combinations(subset, 2):
                expected[pair] = max(expected[pair], p)
    assert found == pytest.approx(list(expected.values()), abs=1e-4)
    assert (found < 0.05).any()


def test_two_rivals_have_the_paired_t_test():
    """Of one pair nothing is adjusted."""
    difference = np.array([[0.2, 0.5, 0.1, 0.4]])
    assert ranges.adjusted(difference, alone(difference)) == pytest.approx(stats.ttest_1samp(difference[0], 0).pvalue)


def test_ties_are_no_certainty():
    """Where all differences of a pair are equal and of one step, n seeds have the SD of one seed one step off."""
    values = np.array([[0.0, 0, 0, 0], [0.0, 0, 0, 0], [1.0, 1, 1, 1]])
    p = ranges.adjusted(contrasts(values), np.zeros(3), step=1.0)
    assert p[0] == pytest.approx(1)
    assert p[1] == p[2] == pytest.approx(2 * stats.t.sf(4, 3), rel=1e-3)
    assert (ranges.adjusted(contrasts(values), np.zeros(3))[1:] == 0).all()


def test_rivals_with_holes_are_judged_by_holm():
    """Pairs with a hole have Holm's p and pairs without one the range test's, each at its share of the level."""
    values = np.random.default_rng(0).standard_normal((5, 8)) + np.array([[0.0], [0.5], [1.0], [1.5], [4.0]])
    values[4, 0] = np.nan
    difference = contrasts(values)
    holed = np.isnan(difference).any(1)
    p = ranges.adjusted(difference, alone(difference))
    assert p[holed] == pytest.approx(np.minimum(inference.holm(alone(difference)[holed]) * 10 / 4, 1))
    inner = ranges.adjusted(contrasts(values[:4]), alone(contrasts(values[:4])))
    assert p[~holed] == pytest.approx(np.minimum(inner * 10 / 6, 1))


def test_many_rivals_are_judged_by_holm():
    """Of more rivals than MOST the subsets are too many."""
    difference = contrasts(np.random.default_rng(0).standard_normal((ranges.MOST + 1, 4)))
    assert ranges.adjusted(difference, alone(difference)).tolist() == inference.holm(alone(difference)).tolist()

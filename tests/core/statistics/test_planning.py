"""How many seeds a verdict needs, against exact power and by trying every number."""

import numpy as np
import pytest
from scipy import stats

from tasks.core.statistics import inference, planning


@pytest.mark.parametrize(("share", "tests"), [(0.8, 1), (0.8, 28), (0.7, 1), (0.95, 15)])
def test_seeds_for_signs_are_exact(share, tests):
    """It is the least number of seeds at which the test finds such a share significant in 80 % of draws."""

    def power(n):
        wins = np.arange(n + 1)
        found = inference.sign_test(wins, n - wins) * tests <= 0.05
        return stats.binom.pmf(wins, n, share)[found & (wins > n / 2)].sum()

    needed = int(planning.seeds_for_signs(np.array([share]), np.ones(1), tests)[0])
    assert power(needed) >= 0.8
    assert all(power(n) < 0.8 for n in range(1, needed))


def test_ties_take_more_seeds():
    """Where half of the seeds are ties it takes twice as many; where nobody wins more often no number is enough."""
    plain, tied = planning.seeds_for_signs(np.array([0.8, 0.8]), np.array([1.0, 0.5]), 1)
    assert tied == 2 * plain
    assert np.isinf(planning.seeds_for_signs(np.array([0.5]), np.ones(1), 1)[0])
    near = planning.seeds_for_signs(np.array([0.52]), np.ones(1), 1)[0]
    assert planning.LONGEST < near < np.inf


def test_what_no_outcome_can_show():
    """The least numbers of seeds are those at which the tests themselves can decide, and one less cannot."""
    for tests in (1, 6, 15, 28):
        n = planning.least_for_signs(tests)
        decided = [inference.sign_test(np.array([each]), np.array([0]))[0] * tests < 0.05 for each in (n - 1, n)]
        assert decided == [False, True]
        n = planning.least_for_equivalence(tests, 1.0)
        tied = [
            inference.Differences.of(np.zeros((1, each)), 1.0).p_beyond(1.0)[0] * tests < 0.05 for each in (n - 1, n)
        ]
        assert tied == [False, True]


def test_a_grid_is_told_what_it_cannot_show():
    """Every verdict that is out of reach is named, and the more seeds the fewer these are."""
    assert len(planning.unreachable(8, 1, 1.0)) == 3
    assert [len(planning.unreachable(6, seeds, 1.0)) for seeds in (5, 6, 10)] == [2, 1, 0]
    assert planning.unreachable(1, 1, 1.0) == []
    assert len(planning.unreachable(6, 3, 10.0)) == 1

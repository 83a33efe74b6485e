"""How many seeds a verdict needs, against exact power and by trying every number."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

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
    assert len(planning.unreachable(8, 1, 1, 30, 1 / 30)) == 3
    assert [len(planning.unreachable(6, seeds, 1, 30, 1 / 30)) for seeds in (5, 6, 10)] == [2, 1, 0]
    assert planning.unreachable(1, 1, 1, 30, None) == []
    assert len(planning.unreachable(6, 3, 1, 30, 1 / 3)) == 1
    assert planning.unreachable(6, 2, 1, 30, None)[0] == "equivalent by test accuracy"


@pytest.mark.parametrize(("seeds", "rows"), [(5, 30), (10, 30), (10, 360)])
def test_errors_for_equivalence(seeds, rows):
    """At the error rate that a plan names, ties are just called equivalent by the test itself."""
    least = planning.errors_for_equivalence(6, seeds, rows)
    tied = inference.Differences.of(np.zeros((1, seeds)), 1 / rows)
    assert 6 * tied.p_beyond(1.01 * least / 3)[0] < 0.05 < 6 * tied.p_beyond(0.99 * least / 3)[0]


def ends(difference, margin=0.0, tests=1, **terms):
    paired = inference.Differences.of(np.atleast_2d(difference), 0.0)
    margins, undecided = np.full(len(paired.n), margin), np.ones(len(paired.n), bool)
    return np.array(planning.seeds_to_settle(paired, margins, tests, undecided, **terms))


def settle(*args, **terms):
    return ends(*args, **terms)[:, 0]


@pytest.mark.parametrize("effect", [0.3, 1.0])
@pytest.mark.parametrize("tests", [1, 28])
def test_the_range_closes_in_on_the_exact_number(effect, tests):
    """From many seeds, which tell mean and SD well, both ends are near the number that has a power of 0.8."""
    difference = np.random.default_rng(0).standard_normal(20_000)
    difference = (difference - difference.mean()) / difference.std(ddof=1) + effect
    exact = TTestPower().solve_power(effect_size=effect, alpha=0.05 / tests, power=0.8)
    low, high = settle(difference, tests=tests)
    assert low <= high
    assert (low, high) == pytest.approx((exact, exact), rel=0.1, abs=1.6)


def test_few_seeds_have_a_wide_range():
    """The fewer seeds, the higher the careful end and the lower the other one, also at the same mean and SD."""
    low, high = np.transpose([settle([1.0, 2.0, 3.0] * times) for times in (1, 3, 30)])
    assert (np.diff(high) < 0).all()
    assert low[0] <= low[-1]


def test_no_difference_is_settled_by_a_margin_alone():
    """Where there is no difference no number is enough without a margin, and the smaller it is the more it takes."""
    none = [-1.0, 1.0] * 10
    assert np.isinf(settle(none)).all()
    wide, narrow = settle(none, 2.0)[1], settle(none, 0.2)[1]
    assert wide < narrow < np.inf


def test_small_numbers_among_many_are_luck():
    """One of many pairs that are alike seems soon settled; among them it is told more seeds than by itself."""
    many = np.random.default_rng(0).standard_normal((28, 10))
    lucky = int(np.argmax(np.abs(many.mean(1)) / many.std(1)))
    among = settle(np.concatenate([many[[lucky]], many]), 0.5)
    assert among[1] > settle(many[lucky], 0.5)[1]


def test_those_far_apart_say_nothing_of_the_others():
    """A few couples far from zero, as those of zeros, are soon settled; couples that are alike are not, beside them."""
    many = np.random.default_rng(0).standard_normal((28, 10))
    high = ends(np.concatenate([many, many[:7] + 3]))[1]
    assert high[:28].min() > 200
    assert high[28:].max() < 30


def test_a_margin_that_the_errors_decide_is_noisy():
    """Later seeds have a margin of their own: the less sure it is, the wider is the range and the more is told."""
    low, high = np.transpose([settle([-1.0, 1.0] * 10, 0.5, margin_error=error) for error in (0.0, 0.1, 0.2)])
    assert (np.diff(high) > 0).all()
    assert (np.diff(low) < 0).all()
    assert settle([-1.0, 1.0] * 10, 0.5, margin_error=1e-6) == pytest.approx((low[0], high[0]), abs=1)


def test_more_families_make_a_difference_dearer_alone():
    """Differences are controlled over families: to be equivalent takes as many seeds in one family as in four."""
    none, some = [-1.0, 1.0] * 10, [0.0, 2.0] * 10
    assert settle(none, 2.0, families=4).tolist() == settle(none, 2.0).tolist()
    assert (settle(some, families=4) > settle(some)).all()


def test_decided_couples_need_no_seeds():
    """Only what is undecided, and has an SD, gets a number."""
    paired = inference.Differences.of(np.array([[0.1, 0.4, 0.2], [0.1, np.nan, np.nan], [0.1, 0.4, 0.2]]), 0.0)
    low, high = planning.seeds_to_settle(paired, np.zeros(3), 3, np.array([True, True, False]))
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True, True]

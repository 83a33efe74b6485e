import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from tasks.core.statistics import inference
from tasks.core.statistics.inference import Differences, bootstrap_band, intervals, percentile_of


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_interval_depends_on_its_seed_alone():
    """The same seed gives the same interval, another seed another; what else is resampled beside does not matter."""
    samples = normal(3, 10)
    first = intervals(samples, seed=1)
    assert np.array_equal(first, intervals(samples, seed=1))
    assert not np.array_equal(first, intervals(samples, seed=2))
    assert np.array(first)[:, :1] == pytest.approx(np.array(intervals(samples[:1], seed=1)))


def test_interval_agrees_with_student_on_normal_samples():
    """On a large normal sample the bootstrap's interval is Student's."""
    samples = 5 + 2 * normal(2, 400)
    low, high = intervals(samples, seed=0)
    for row, *ends in zip(samples, low, high, strict=True):
        assert ends == pytest.approx(stats.t.interval(0.95, 399, row.mean(), stats.sem(row)), abs=0.02)


@pytest.mark.parametrize("n", [5, 12])
def test_interval_is_the_bootstrap_t(n):
    """From 5 values on the ends are mean - q SD / √n, q being quantiles of Student's t over resamples, drawn here."""
    sample = np.exp(normal(n))
    drawn = sample[np.random.default_rng(9).integers(n, size=(40_000, n))]
    drawn = drawn[np.ptp(drawn, axis=1) > 0]
    t = stats.ttest_1samp(drawn, sample.mean(), axis=1).statistic
    expected = sample.mean() - np.quantile(t, [0.975, 0.025]) * stats.sem(sample)
    assert np.ravel(intervals(sample[None], seed=0)) == pytest.approx(expected, rel=0.1)


def test_interval_follows_the_skew():
    """Of a skewed sample the interval reaches farther to the long tail's side, where Student's is symmetric."""
    sample = np.exp(2 * normal(1, 20))
    low, high = intervals(sample, seed=0)
    assert high - sample.mean() > 1.3 * (sample.mean() - low)


def test_interval_of_few_values_is_students():
    """Below 5 values it is Student's t; of the interquartile mean, Tukey and McLaughlin's, as SciPy has it."""
    samples = normal(4, 4)
    for row, *ends in zip(samples, *intervals(samples, seed=0), strict=True):
        assert ends == pytest.approx(stats.t.interval(0.95, 3, row.mean(), stats.sem(row)))
    for n in (4, 10):
        for row, *ends in zip(normal(4, n), *intervals(normal(4, n), "iqm", seed=0), strict=True):
            assert ends == pytest.approx(stats.mstats.trimmed_mean_ci(row, (0.25, 0.25), alpha=0.05))


def test_tied_values_are_not_certain():
    """Values that are all alike have an interval of one step in one seed, or none at all if there are no steps."""
    tied = np.full((1, 10), 0.9)
    assert np.ravel(intervals(tied, seed=0)) == pytest.approx([0.9, 0.9])
    low, high = intervals(tied, steps=1 / 30, seed=0)
    assert high[0] - low[0] == pytest.approx(2 * stats.t.ppf(0.975, 9) * (1 / 30) / 10)
    nearly = np.array([[0.9] * 8 + [0.93, 0.87]])  # whichever is left out, the interquartile mean stays
    low, high = intervals(nearly, "iqm", steps=1 / 30, seed=0)
    assert low[0] < 0.9 < high[0]


def test_no_interval_of_one():
    """One value has no interval, and none is made up."""
    assert np.isnan(intervals(np.array([[0.9]]), seed=0)).all()
    assert np.isnan(intervals(np.empty((1, 0)), seed=0)).all()


def test_percentile():
    """A value above all others is at percentile 100; a rounded one ties with what it was rounded from."""
    assert percentile_of(2.0, np.array([0.0, 1.0]), digits=4) == 100
    assert percentile_of(0.9667, np.array([29 / 30], np.float32), digits=4) == 50


def test_band_is_the_bootstrap_of_each_point():
    """Point by point the band is SciPy's percentile interval of the mean, and it depends on its seed alone."""
    samples = normal(12, 3) + np.arange(3)
    low, high = bootstrap_band(samples, seed=0)
    for at in range(3):
        reference = stats.bootstrap(
            (samples[:, at],), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(0)
        ).confidence_interval
        assert (low[at], high[at]) == pytest.approx(tuple(reference), abs=0.05)
    assert np.array_equal(low, bootstrap_band(samples, seed=0)[0])
    assert not np.array_equal(low, bootstrap_band(samples, seed=1)[0])
    assert np.isnan(bootstrap_band(samples[:1], seed=0)).all()


def test_differences_are_students():
    """Interval and p are SciPy's of the paired t-test, without holes; equivalence is statsmodels' TOST."""
    first, second = normal(12), normal(12, seed=1) + 0.3
    difference = first - second
    whole = Differences.of(difference[None], 0.0)
    test = stats.ttest_rel(first, second)
    assert whole.p_zero()[0] == pytest.approx(test.pvalue)
    assert (whole.low[0], whole.high[0]) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert whole.p_beyond(1.5)[0] == pytest.approx(ttost_paired(first, second, -1.5, 1.5)[0])
    holed = difference.copy()
    holed[[2, 5]] = np.nan
    rest = Differences.of(holed[None], 0.0)
    assert rest.n[0] == 10
    assert rest.p_zero()[0] == pytest.approx(stats.ttest_1samp(np.delete(difference, [2, 5]), 0).pvalue)


def test_tied_differences_are_not_certain():
    """All ties leave room for one step in one seed; with no steps, equal nonzero differences are beyond doubt."""
    tied = Differences.of(np.zeros((1, 5)), 1 / 30)
    assert tied.high[0] == pytest.approx(stats.t.ppf(0.975, 4) * (1 / 30) / 5)
    assert tied.p_zero()[0] == 1
    assert tied.p_beyond(1 / 30)[0] == pytest.approx(stats.t.sf(5, 4))
    assert Differences.of(np.full((1, 5), 0.1), 0.0).p_zero()[0] == 0


def test_nothing_can_be_tested_of_one():
    """One difference, or none, has no interval and no verdict."""
    for row in ([0.1, np.nan], [np.nan, np.nan]):
        one = Differences.of(np.array([row]), 0.0)
        assert np.isnan([one.low[0], one.high[0]]).all()
        assert (one.p_zero()[0], one.p_beyond(0.1)[0]) == (1, 1)


def test_holm_is_statsmodels():
    """Adjusted p-values are those of statsmodels, whatever their order and ties."""
    for seed in range(4):
        p = np.random.default_rng(seed).uniform(size=8 * seed + 1).round(1)
        assert inference.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert inference.holm(np.array([])).size == 0


def test_sign_test_is_the_binomial_one():
    """Its p is SciPy's binomial test of as many wins as losses; where neither was seen, it is 1."""
    wins, losses = np.array([5, 3, 9, 0, 10]), np.array([0, 2, 1, 0, 0])
    pairs = zip(wins, losses, strict=True)
    expected = [stats.binomtest(won, won + lost).pvalue if won + lost else 1 for won, lost in pairs]
    assert inference.sign_test(wins, losses) == pytest.approx(expected)


def test_shares_have_wilsons_interval():
    """Its ends are SciPy's; of no seeds there is none."""
    low, high = inference.share_interval(np.array([0.0, 3.0, 10.0, 0.0]), np.array([10, 10, 10, 0]))
    expected = [stats.binomtest(wins, 10).proportion_ci(method="wilson") for wins in (0, 3, 10)]
    assert low[:3] == pytest.approx([each.low for each in expected])
    assert high[:3] == pytest.approx([each.high for each in expected])
    assert np.isnan([low[3], high[3]]).all()

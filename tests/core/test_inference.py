import numpy as np
import pytest
from scipy import stats

from tasks.core.inference import bootstrap_band, bootstrap_interval, percentile_of


def test_interval_depends_on_its_seed_alone():
    """The same seed gives the same interval, another seed another."""
    sample = np.random.default_rng(0).normal(size=10)
    assert bootstrap_interval(sample, seed=1) == bootstrap_interval(sample, seed=1)
    assert bootstrap_interval(sample, seed=1) != bootstrap_interval(sample, seed=2)


def test_interval_agrees_with_student_on_normal_samples():
    """On a large normal sample the bootstrap's interval is Student's."""
    sample = np.random.default_rng(0).normal(5, 2, size=400)
    student = stats.t.interval(0.95, len(sample) - 1, sample.mean(), stats.sem(sample))
    assert bootstrap_interval(sample, seed=0) == pytest.approx(student, abs=0.02)


def test_interval_survives_ties():
    """Accuracies of a small test set are mostly ties; the interval is still a number around the mean."""
    low, high = bootstrap_interval(np.array([0.9667] * 8 + [0.9333] * 2), seed=0)
    assert low < 0.96 < high


def test_no_interval_of_one():
    """One value has no interval, and none is made up."""
    assert np.isnan(bootstrap_interval(np.array([0.9]), seed=0)).all()
    assert np.isnan(bootstrap_interval(np.array([]), seed=0)).all()


def test_percentile():
    """A value above all others is at percentile 100; a rounded one ties with what it was rounded from."""
    assert percentile_of(2.0, np.array([0.0, 1.0]), digits=4) == 100
    assert percentile_of(0.9667, np.array([29 / 30], np.float32), digits=4) == 50


def test_band_is_the_bootstrap_of_each_point():
    """Point by point the band is SciPy's percentile interval of the mean, and it depends on its seed alone."""
    samples = np.random.default_rng(0).normal(size=(12, 3)) + np.arange(3)
    low, high = bootstrap_band(samples, seed=0)
    for at in range(3):
        reference = stats.bootstrap(
            (samples[:, at],), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(0)
        ).confidence_interval
        assert (low[at], high[at]) == pytest.approx(tuple(reference), abs=0.05)
    assert np.array_equal(low, bootstrap_band(samples, seed=0)[0])
    assert not np.array_equal(low, bootstrap_band(samples, seed=1)[0])
    assert np.isnan(bootstrap_band(samples[:1], seed=0)).all()

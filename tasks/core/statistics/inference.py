"""Inference: what a few seeds allow one to say of a mean or of a difference. Arrays in, arrays out; NaN is a hole.

A hole is a missing value: the cell has no number, because it did not finish.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
RESAMPLES = 9_999
BOOTSTRAP_SEED = 0  # of every bootstrap, so that the same cells always give the same numbers
BAND_RESAMPLES = 1_999
FEW = 5  # with fewer values than this, intervals are Student's: too many resamples of so few are all alike
DECIMALS = 12  # of a mean: whether it ties with another one must not depend on the order of a sum
ROUNDING = 1e-9  # relative; a smaller difference is rounding
TRIM = 0.25  # of either end of a sample, for the interquartile mean

Array = NDArray[np.float64]
Statistic = Literal["mean", "iqm"]


def point(samples: Array, statistic: Statistic) -> Array:
    """Return the mean, or the interquartile mean (iqm), of the last axis, which has no holes.

    The interquartile mean leaves out the lowest and the highest quarter of the values.

    >>> point(np.array([0.0, 2.0, 4.0, 90.0]), "iqm")
    array(3.)
    """
    from scipy import stats

    return np.asarray(np.mean(samples, -1) if statistic == "mean" else stats.trim_mean(samples, TRIM, axis=-1))


def intervals(
    samples: Array, statistic: Statistic = "mean", *, steps: Array | float = 0.0, seed: int
) -> tuple[Array, Array]:
    """Return the low and high ends, (k,), of the 95 % interval of a statistic of each row of samples (k, n).

    From FEW values on the interval of a mean is the bootstrap-t (Efron & Tibshirani, 1993, section 12.5), which follows
    the skew of losses. The same samples and seed give the same ends.

    Student's t takes its place with fewer values, and where so many resamples are all alike that the bootstrap gives no
    finite end, as of accuracies that tie. Student's SD is at least `steps` / √n, for the reason that `Differences.of`
    gives. The interquartile mean has Tukey and McLaughlin's (1963) interval. Of fewer than two values the ends are NaN.

    >>> low, high = intervals(np.array([[1.0, 2.0, 3.0]]), seed=0)
    >>> low.round(2), high.round(2)
    (array([-0.48]), array([4.48]))
    """
    rows, n = samples.shape
    if n < 2 or not rows:
        return np.full(rows, np.nan), np.full(rows, np.nan)
    middle, half = _student(samples, statistic, np.broadcast_to(steps, rows))
    if n < FEW or statistic == "iqm":
        return middle - half, middle + half
    low, high = _bootstrap_t(samples, seed)
    usable = np.isfinite(low) & np.isfinite(high)
    return np.where(usable, low, middle - half), np.where(usable, high, middle + half)


def _bootstrap_t(samples: Array, seed: int) -> tuple[Array, Array]:
    """Return the ends of bootstrap-t intervals of means; NaN or infinite where too many resamples are all alike."""
    n = samples.shape[1]
    middle, deviation = samples.mean(1), samples.std(1, ddof=1)
    weights = _resampled(n, RESAMPLES, seed)
    centred = samples - middle[:, None]
    moved = centred @ weights.T
    spread = np.sqrt(np.maximum(np.square(centred) @ weights.T - np.square(moved), 0) * n / (n - 1))
    alike = spread <= ROUNDING * np.abs(samples).max(1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(alike, np.sign(moved) * np.inf, moved / spread)
        upper, lower = np.quantile(t, [1 - ALPHA / 2, ALPHA / 2], axis=1)
        return middle - upper * deviation, middle - lower * deviation


@lru_cache(maxsize=2)
def _resampled(n: int, resamples: int, seed: int) -> Array:
    """Return the weight of each of n values in each resample, (resamples, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples) / n


def _student(samples: Array, statistic: Statistic, steps: Array) -> tuple[Array, Array]:
    """Return the middle of Student's interval and half its length; for the interquartile mean samples are winsorized.

    Winsorized means that the lowest quarter of the values is set to the lowest value that is kept, and the highest
    quarter to the highest.
    """
    from scipy import stats

    n = samples.shape[1]
    cut = int(TRIM * n) if statistic == "iqm" else 0
    winsorized = np.clip(samples, *(np.sort(samples)[:, [at]] for at in (cut, n - cut - 1)))
    deviation = np.maximum(winsorized.std(axis=1, ddof=1) / (1 - 2 * TRIM if cut else 1), steps / np.sqrt(n))
    return point(samples, statistic), stats.t.ppf(1 - ALPHA / 2, n - 2 * cut - 1) * deviation / np.sqrt(n)


def mean(values: Array) -> Array:
    """Return the mean of the last axis without NaN; NaN where all values are.

    >>> mean(np.array([[1.0, 3.0, np.nan], [np.nan] * 3]))
    array([ 2., nan])
    """
    known = np.isfinite(values)
    n = known.sum(-1)
    return np.where(n > 0, np.where(known, values, 0.0).sum(-1) / np.maximum(n, 1), np.nan)


def bootstrap_band(samples: Array, *, seed: int) -> tuple[Array, Array]:
    """Return the low and high ends, (points,), of the 95 % interval of the mean of each column of samples (n, points).

    The interval is the percentile bootstrap's. Rows are resampled whole, so the ends are the band of a mean curve,
    point by point. Of one row the ends are NaN.

    >>> bootstrap_band(np.array([[1.0, 5.0], [1.0, 5.0]]), seed=0)
    (array([1., 5.]), array([1., 5.]))
    """
    if len(samples) < 2:
        return np.full(samples.shape[1], np.nan), np.full(samples.shape[1], np.nan)
    weights = _resampled(len(samples), BAND_RESAMPLES, seed)
    low, high = np.quantile(weights @ samples, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return low, high


def percentile_of(value: float, sample: Array, *, digits: int) -> float:
    """Return how many percent of a sample are below a value; values that are equal to it count half.

    Values are equal if they agree after rounding to `digits` decimals.

    >>> percentile_of(0.6667, np.array([0.5, 2 / 3, 2 / 3, 1.0]), digits=4)
    50.0
    """
    from scipy import stats

    return float(stats.percentileofscore(sample.astype(np.float64).round(digits), round(value, digits), kind="mean"))


@dataclass(frozen=True)
class Differences:
    """Paired differences of k couples: how many seeds, their mean and SD, and the mean's 95 % interval; all (k,)."""

    n: NDArray[np.int64]
    mean: Array
    sd: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, differences: Array, step: Array | float) -> "Differences":
        """Sum up differences (k, seeds) by Student's t, leaving holes out.

        A measure that moves in steps is often tied in every seed. This does not make its difference certain, so the
        SD is at least step / √n, which is the SD if a single one of n seeds is one step off.

        >>> found = Differences.of(np.array([[0.1, 0.3]]), 0.0)
        >>> found.mean.round(3), found.sd.round(3)
        (array([0.2]), array([0.141]))
        """
        from scipy import stats

        n = np.isfinite(differences).sum(1)
        middle = mean(differences)
        square = np.where(np.isfinite(differences), (differences - middle[:, None]) ** 2, 0.0).sum(1)
        sd = np.where(n > 1, np.sqrt(square / np.maximum(n - 1, 1)), np.nan)
        sd = np.maximum(sd, step / np.sqrt(np.maximum(n, 1)))
        half = stats.t.ppf(1 - ALPHA / 2, np.maximum(n - 1, 1)) * sd / np.sqrt(np.maximum(n, 1))
        return cls(n, middle, sd, middle - half, middle + half)

    def p_zero(self) -> Array:
        """Return the two-sided p-value of a mean of zero, (k,); 1 where there are fewer than two seeds."""
        from scipy import stats

        return np.where(self._testable, 2 * stats.t.sf(self._t(np.abs(self.mean)), np.maximum(self.n - 1, 1)), 1.0)

    def p_beyond(self, margin: Array | float) -> Array:
        """Return the p-value of a mean at or beyond the margin, on either side, (k,); 1 with fewer than two seeds.

        The p-value is the larger one of two one-sided t-tests (Schuirmann, 1987).
        """
        from scipy import stats

        return np.where(self._testable, stats.t.sf(self._t(margin - np.abs(self.mean)), np.maximum(self.n - 1, 1)), 1.0)

    @property
    def _testable(self) -> NDArray[np.bool_]:
        return (self.n > 1) & np.isfinite(self.mean)

    def _t(self, distance: Array) -> Array:
        error = self.sd / np.sqrt(np.maximum(self.n, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(distance == 0, 0.0, distance / error)

    def effect_size(self) -> Array:
        """Return Hedges' g of the paired differences, (k,): mean / SD times the correction 1 - 3 / (4 n - 5).

        Of two seeds the correction leaves nothing, so g is NaN of fewer than three.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.n > 2, self.mean / self.sd * (1 - 3 / (4 * self.n - 5)), np.nan)


def sign_test(wins: NDArray[np.int64], losses: NDArray[np.int64]) -> Array:
    """Return the two-sided p-value of winning as often as losing, (k,); 1 where there are no wins and no losses.

    Ties are left out.

    >>> sign_test(np.array([5]), np.array([0]))
    array([0.0625])
    """
    from scipy import stats

    decided = wins + losses
    return np.asarray(np.minimum(2 * stats.binom.cdf(np.minimum(wins, losses), decided, 0.5), 1.0))


def holm(p: Array) -> Array:
    """Return p-values (k,) adjusted for being tried together (Holm, 1979).

    The smallest p-value is multiplied by k, the next one by k - 1, and so on; none becomes smaller than the one before
    it, or larger than 1. `statsmodels.stats.multitest.multipletests` does the same, but collects the process's garbage
    at every call, which takes seconds in a comparison of many families.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1)
    return adjusted


def share_interval(wins: Array, n: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the low and high ends, (k,), of the 95 % interval of the share wins / n (Wilson, 1927); NaN where n is 0.

    >>> low, high = share_interval(np.array([5.0]), np.array([10]))
    >>> low.round(3), high.round(3)
    (array([0.237]), array([0.763]))
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(wins, np.maximum(n, 1), alpha=ALPHA, method="wilson")
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)

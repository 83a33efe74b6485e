"""Uncertainty: what a few seeds allow one to say. Arrays in, arrays out; NaN is a hole."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
POWER = 0.8
RESAMPLES = 9_999
BAND_RESAMPLES = 1_999
FEW = 8
"""Below so many values a bootstrap interval, which never leaves their range, is too short: at 5 seeds it covers 0.82 to
0.89 of normal to skewed measures (tests/core/test_calibration.py)."""
VALUES_AT_ONCE = 20_000_000
DECIMALS = 12  # of a statistic: which resamples tie with the sample must not hang on the order of a sum
ROUNDING = 1e-9  # relative; smaller differences are none
TRIM = 0.25  # of each end, for the interquartile mean

Floats = NDArray[np.float64]
Statistic = Literal["mean", "iqm"]


def point(samples: Floats, statistic: Statistic) -> Floats:
    """Return the mean or the interquartile mean of the last axis, which has no holes.

    >>> point(np.array([0.0, 2.0, 4.0, 90.0]), "iqm")
    array(3.)
    """
    from scipy import stats

    return np.asarray(np.mean(samples, -1) if statistic == "mean" else stats.trim_mean(samples, TRIM, axis=-1))


def intervals(
    samples: Floats, statistic: Statistic = "mean", *, steps: Floats | float = 0.0, seed: int
) -> tuple[Floats, Floats]:
    """Return low and high ends, (k,), of 95 % intervals of a statistic of each row of (k, n); NaN of fewer than two.

    From FEW values on it is the bias-corrected and accelerated bootstrap (Efron, 1987), its level widened for small n
    as Student's quantile is (Hesterberg, 2015, section 5.3); the same samples and seed give the same ends. With fewer,
    or where leaving any value out changes nothing, it is Student's t, which for the interquartile mean is Tukey &
    McLaughlin's (1963), the SD taken as at least `steps` / √n, as in `Differences.of`.
    """
    from scipy import stats

    rows, n = samples.shape
    if n < 2 or not rows:
        return np.full(rows, np.nan), np.full(rows, np.nan)
    middle, half = _student(samples, statistic, np.broadcast_to(steps, rows))
    low, high = middle - half, middle + half
    resampled = _moved_by_one(samples, statistic) if n >= FEW else np.zeros(rows, np.bool_)
    if resampled.any():
        used = samples[resampled]
        tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(1 - ALPHA / 2, n - 1))
        found = stats.bootstrap(
            (used,),
            lambda sample, axis: point(np.moveaxis(sample, axis, -1), statistic).round(DECIMALS),
            axis=1,
            confidence_level=1 - 2 * tail,
            n_resamples=RESAMPLES,
            batch=max(1, VALUES_AT_ONCE // used.size),
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low[resampled], high[resampled] = found.low, found.high
    return low, high


def _student(samples: Floats, statistic: Statistic, steps: Floats) -> tuple[Floats, Floats]:
    """Return the middle and half the length of Student's interval, of winsorized samples for the interquartile mean."""
    from scipy import stats

    n = samples.shape[1]
    cut = int(TRIM * n) if statistic == "iqm" else 0
    winsorized = np.clip(samples, *(np.sort(samples)[:, [at]] for at in (cut, n - cut - 1)))
    deviation = np.maximum(winsorized.std(axis=1, ddof=1) / (1 - 2 * TRIM if cut else 1), steps / np.sqrt(n))
    return point(samples, statistic), stats.t.ppf(1 - ALPHA / 2, n - 2 * cut - 1) * deviation / np.sqrt(n)


def _moved_by_one(samples: Floats, statistic: Statistic) -> NDArray[np.bool_]:
    """Tell in which rows the statistic moves with the value that is left out; the bootstrap's acceleration needs it."""
    left_out = np.array([point(np.delete(samples, at, axis=1), statistic) for at in range(samples.shape[1])])
    return np.asarray(np.ptp(left_out, axis=0) > ROUNDING * np.abs(samples).max(axis=1))


def bootstrap_band(samples: Floats, *, seed: int) -> tuple[Floats, Floats]:
    """Return the 95 % percentile bootstrap interval of the mean of each column of (n, points), low and high: (points,).

    Rows are resampled whole, so that a band is that of a mean curve, point by point. Of one row there is none.
    """
    if len(samples) < 2:
        return np.full(samples.shape[1], np.nan), np.full(samples.shape[1], np.nan)
    draws = np.random.default_rng(seed).integers(len(samples), size=(BAND_RESAMPLES, len(samples)))
    weights = np.apply_along_axis(np.bincount, 1, draws, minlength=len(samples)) / len(samples)
    low, high = np.quantile(weights @ samples, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return low, high


def percentile_of(value: float, sample: Floats, *, digits: int) -> float:
    """Return the percent of a sample below a value, ties counted half; equal is what agrees to so many digits.

    >>> percentile_of(0.6667, np.array([0.5, 2 / 3, 2 / 3, 1.0]), digits=4)
    50.0
    """
    from scipy import stats

    return float(stats.percentileofscore(sample.astype(np.float64).round(digits), round(value, digits), kind="mean"))


@dataclass(frozen=True)
class Differences:
    """Paired differences, one entry each, (k,): how many seeds, mean and SD, and the 95 % interval of the mean."""

    n: NDArray[np.int64]
    mean: Floats
    sd: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, differences: Floats, step: Floats | float) -> "Differences":
        """Sum up differences (k, seeds), by Student's t; holes are left out.

        A measure that moves in steps is often tied in every seed, which does not make its difference certain: the SD is
        taken as at least what a single seed one step off would give, step / √n.
        """
        from scipy import stats

        n = np.isfinite(differences).sum(1)
        enough = n > 1
        filled = np.where(np.isfinite(differences), differences, 0.0)
        mean = np.where(n > 0, filled.sum(1) / np.maximum(n, 1), np.nan)
        square = np.where(np.isfinite(differences), (differences - mean[:, None]) ** 2, 0.0).sum(1)
        sd = np.where(enough, np.sqrt(square / np.maximum(n - 1, 1)), np.nan)
        sd = np.maximum(sd, step / np.sqrt(np.maximum(n, 1)))
        half = stats.t.ppf(1 - ALPHA / 2, np.maximum(n - 1, 1)) * sd / np.sqrt(np.maximum(n, 1))
        return cls(n, mean, sd, mean - half, mean + half)

    def p_zero(self) -> Floats:
        """Return the two-sided p of a mean of zero; 1 where nothing can be tested."""
        from scipy import stats

        return np.where(self._testable, 2 * stats.t.sf(self._t(np.abs(self.mean)), np.maximum(self.n - 1, 1)), 1.0)

    def p_beyond(self, margin: Floats | float) -> Floats:
        """Return the p of a mean of at least the margin, either way: two one-sided tests (Schuirmann, 1987)."""
        from scipy import stats

        return np.where(self._testable, stats.t.sf(self._t(margin - np.abs(self.mean)), np.maximum(self.n - 1, 1)), 1.0)

    @property
    def _testable(self) -> NDArray[np.bool_]:
        return (self.n > 1) & np.isfinite(self.mean)

    def _t(self, distance: Floats) -> Floats:
        error = self.sd / np.sqrt(np.maximum(self.n, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(distance == 0, 0.0, distance / error)

    def seeds_to_settle(self, margin: Floats | float, tests: int) -> Floats:
        """Return how many seeds would settle each with a power of 0.8, were mean and SD what they seem to be.

        The fewer of those that show a difference from zero and those that show it to be within the margin, at the level
        that Holm's first step of so many tests has (Guenther, 1981, which is within one of the exact number).
        NaN where there is no SD, infinite where nothing settles it.
        """
        level = ALPHA / tests
        size = np.abs(self.mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = _sample_size(size / self.sd, level / 2, POWER)
            alike = _sample_size(np.maximum(margin - size, 0) / self.sd, level, (1 + POWER) / 2)
        return np.ceil(np.fmin(apart, alike))


def _sample_size(effect: Floats, tail: float, power: float) -> Floats:
    from scipy import stats

    z = stats.norm.isf(tail)
    return ((z + stats.norm.ppf(power)) / effect) ** 2 + z**2 / 2


def sign_test(wins: NDArray[np.int64], losses: NDArray[np.int64]) -> Floats:
    """Return the two-sided p of winning as often as losing, ties left out; 1 where there is neither."""
    from scipy import stats

    decided = wins + losses
    return np.asarray(np.minimum(2 * stats.binom.cdf(np.minimum(wins, losses), decided, 0.5), 1.0))


def seeds_for_signs(wins: NDArray[np.int64], losses: NDArray[np.int64], n: NDArray[np.int64], tests: int) -> Floats:
    """Return how many seeds would settle a sign test with a power of 0.8, were wins and losses as frequent as seen.

    At the level of Holm's first step of so many tests, of a normal approximation (Noether, 1987). Infinite where
    neither is more frequent, NaN where nothing was seen.
    """
    from scipy import stats

    decided = wins + losses
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.maximum(wins, losses) / decided
        z, reach = stats.norm.isf(ALPHA / tests / 2), stats.norm.ppf(POWER) * np.sqrt(share * (1 - share))
        needed = np.square((z / 2 + reach) / (share - 0.5)) * n / decided
    return np.asarray(np.ceil(needed))


def holm(p: Floats) -> Floats:
    """Return p-values adjusted for all being tried together (Holm, 1979).

    As `statsmodels.stats.multitest.multipletests` does, which collects the process's garbage at every call: seconds in
    a comparison of many families.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1)
    return adjusted


def share_interval(wins: Floats, n: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the 95 % interval of shares wins / n (Wilson, 1927), NaN of none."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(wins, np.maximum(n, 1), alpha=ALPHA, method="wilson")
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of some rivals over blocks, (rivals,), 1 being best; of how many blocks; Friedman's p.

    critical: difference of mean ranks that Nemenyi's test takes for real; p: its p-values, (rivals, rivals).
    """

    mean: Floats
    blocks: int
    friedman: float
    critical: float
    p: Floats


def ranks(values: Floats, *, higher_is_better: bool) -> Ranks | None:
    """Rank rivals (rivals, blocks) in each block, holes last and alike; None of fewer than 3 rivals or 2 blocks.

    Friedman's test with ties, then Nemenyi's critical difference (Demšar, 2006).
    """
    from scipy import stats

    rivals, blocks = values.shape
    if rivals < 3 or blocks < 2:
        return None
    cost = np.where(np.isfinite(values), -values if higher_is_better else values, np.inf)
    ranked = stats.rankdata(cost, axis=0)
    tied = np.all(ranked == ranked[0])
    friedman = 1.0 if tied else float(stats.friedmanchisquare(*ranked).pvalue)
    error = np.sqrt(rivals * (rivals + 1) / (6 * blocks))
    mean = ranked.mean(1)
    q = np.abs(mean[:, None] - mean) / error * np.sqrt(2)
    critical = stats.studentized_range.ppf(CONFIDENCE, rivals, np.inf) / np.sqrt(2) * error
    return Ranks(mean, blocks, friedman, float(critical), stats.studentized_range.sf(q, rivals, np.inf))


@dataclass(frozen=True)
class Survival:
    """Share short of the target after each epoch (Kaplan & Meier, 1958) and its 95 % interval, all (epochs,)."""

    epochs: Floats
    share: Floats
    low: Floats
    high: Floats


def survival(epochs: Floats, horizon: Floats) -> Survival:
    """Estimate the share still short of the target; a cell without an epoch is censored at its horizon."""
    from scipy import stats

    reached, missed = epochs[np.isfinite(epochs)], horizon[~np.isfinite(epochs)]
    curve = stats.ecdf(stats.CensoredData(uncensored=reached, right=missed)).sf
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the interval has no ends where all or none are short
        band = curve.confidence_interval(CONFIDENCE, method="log-log")
    ends = [getattr(end, "probabilities") for end in (band.low, band.high)]  # noqa: B009  # typed as numbers
    return Survival(curve.quantiles, curve.probabilities, *ends)


def log_rank(epochs: Floats, horizon: Floats, groups: NDArray[np.str_]) -> float:
    """Return the p of all groups reaching the target alike (Mantel, 1966); NaN where there is nothing to compare.

    Cells are taken as independent; where seeds make them alike, differences are clearer than it says.
    """
    from statsmodels.duration.survfunc import survdiff

    if len(np.unique(groups)) < 2 or not np.isfinite(epochs).any():
        return float("nan")
    times = np.where(np.isfinite(epochs), epochs, horizon)
    if np.ptp(times) == 0:
        return 1.0  # all at once, which statsmodels cannot divide by
    _, p = survdiff(times, np.isfinite(epochs).astype(int), groups)
    return float(p)


def components(values: Floats) -> Floats:
    """Return the variances that backend, initializer, their interplay and the seeds give to values (a, b, n): (4,).

    Seeds are crossed with the groups, for a seed gives all of them the same split and order: what they share is taken
    out of the error that the interplay is held against, and counted with the seeds. A random-effects model by the
    method of moments (Searle, Casella & McCulloch, 1992, chapter 4), negative variances being zero; an axis of one has
    none.
    """
    a, b, n = values.shape
    cell, seed = values.mean(2), values.mean((0, 1))
    rows, columns, grand = cell.mean(1), cell.mean(0), cell.mean()
    several = a * b > 1 and n > 1
    residual = values - cell[:, :, None] - seed + grand
    error = np.square(residual).sum() / ((a * b - 1) * (n - 1)) if several else 0.0
    row_square = n * b * np.square(rows - grand).sum() / (a - 1) if a > 1 else 0.0
    column_square = n * a * np.square(columns - grand).sum() / (b - 1) if b > 1 else 0.0
    rest = cell - rows[:, None] - columns + grand
    both = n * np.square(rest).sum() / ((a - 1) * (b - 1)) if a > 1 and b > 1 else error
    interplay = (both - error) / n if a > 1 and b > 1 else 0.0
    parts = [(row_square - both) / (n * b), (column_square - both) / (n * a), interplay]
    over_seeds = values.var(2, ddof=1).mean() if n > 1 else 0.0
    return np.array([*(max(part, 0.0) for part in parts), over_seeds])

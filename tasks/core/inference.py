"""Uncertainty: what a few seeds allow one to say."""

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 9_999
BAND_RESAMPLES = 1_999


def bootstrap_interval(sample: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """Return the 95 % bias-corrected and accelerated bootstrap interval of the mean (Efron, 1987).

    The same sample and seed give the same interval. Of one value nothing can be said: NaN, NaN. Of equal values the
    resamples are all alike: the interval is the value itself.

    >>> bootstrap_interval(np.array([0.9, 0.9, 0.9]), seed=0)
    (0.9, 0.9)
    """
    from scipy import stats

    if len(sample) < 2:
        return float("nan"), float("nan")
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    interval = stats.bootstrap(
        (sample,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def bootstrap_band(samples: NDArray[np.float64], *, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95 % percentile bootstrap interval of the mean of each column of (n, points), low and high: (points,).

    Rows are resampled whole, so that a band is that of a mean curve, point by point. Of one row there is none.
    """
    if len(samples) < 2:
        return np.full(samples.shape[1], np.nan), np.full(samples.shape[1], np.nan)
    draws = np.random.default_rng(seed).integers(len(samples), size=(BAND_RESAMPLES, len(samples)))
    weights = np.apply_along_axis(np.bincount, 1, draws, minlength=len(samples)) / len(samples)
    low, high = np.quantile(weights @ samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high


def percentile_of(value: float, sample: NDArray[np.float64], *, digits: int) -> float:
    """Return the percent of a sample below a value, ties counted half; equal is what agrees to so many digits.

    >>> percentile_of(0.6667, np.array([0.5, 2 / 3, 2 / 3, 1.0]), digits=4)
    50.0
    """
    from scipy import stats

    return float(stats.percentileofscore(sample.astype(np.float64).round(digits), round(value, digits), kind="mean"))

"""The range test: which of several rivals differ, when all pairs of them are judged at once. Arrays in, arrays out.

Every subset of the rivals is tested for a difference within it, by the largest mean difference of its pairs in units of
the SD that its pairs have together (Tukey's studentized range). Two rivals differ if every subset that holds both does.
A subset of k of m rivals is tested at the level 1 - (1 - α)^(k / m), or α from k = m - 1 on (Ryan, 1960; Einot &
Gabriel, 1975; Welsch, 1977). So the chance of any false difference is at most α, whichever rivals are truly alike.
"""

from functools import cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from tasks.core.statistics.inference import Array, holm

MOST = 12  # rivals, of which there are 4,083 subsets of two or more; of more rivals Holm's method judges
NODES = 96  # of a quadrature
FAR = 9.0  # standard deviations from the mean, where a normal law has ended
WIDEST = 200.0  # range of standard normal values; a wider one has p-value 0


def adjusted(difference: Array, p: Array, step: Array | float = 0.0) -> Array:
    """Return the p-values of no difference of all pairs of m rivals, adjusted for being tried together, (pairs,).

    difference: of each pair in the order of `itertools.combinations`, (pairs, seeds), NaN where there is none. p: the
    p-value of each pair by itself. The range test judges the pairs of the rivals that have a value in every seed, and
    Holm's method the other pairs, each with its share of the level by its number of pairs. step: as of
    `Differences.of`.

    >>> apart = np.array([[3.0, 3.1, 3.2], [3.3, 3.0, 3.1], [0.3, -0.1, -0.1]])
    >>> adjusted(apart, np.zeros(3)).round(4).tolist()
    [0.0003, 0.0008, 0.8259]
    """
    whole = np.isfinite(difference).all(1)
    m = _rivals(int(whole.sum()))
    if not 2 < m <= MOST or difference.shape[1] < 2:
        return holm(p)
    share, found = whole.mean(), np.empty_like(p)
    found[whole] = np.maximum(_all_pairs(difference[whole], m, step), p[whole]) / share
    if not whole.all():
        found[~whole] = holm(p[~whole]) / (1 - share)
    return np.minimum(found, 1)


def _rivals(pairs: int) -> int:
    """Return the number of rivals that form this many pairs.

    >>> [_rivals(pairs) for pairs in (0, 1, 3, 28)]
    [1, 2, 3, 8]
    """
    return (1 + isqrt(1 + 8 * pairs)) // 2


def _all_pairs(difference: Array, m: int, step: Array | float) -> Array:
    """Return the p-values of all pairs of m rivals without holes: of a pair the largest of the subsets that hold it."""
    n = difference.shape[1]
    inside = _subsets(m)
    pairs = inside.sum(1)
    variance = np.maximum(difference.var(1, ddof=1), np.square(step) / n)
    widest = np.where(inside, np.abs(difference.mean(1)), 0.0).max(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(widest > 0, widest * np.sqrt(2 * n * pairs / (inside @ variance)), 0.0)
    p = np.empty(len(q))
    for count in set(pairs):
        k = _rivals(int(count))
        of_size = pairs == count
        p[of_size] = range_sf(q[of_size], k, (k - 1) * (n - 1))
        if k < m - 1:
            p[of_size] = 1 - (1 - p[of_size]) ** (m / k)
    return np.asarray(np.where(inside, p[:, None], 0.0).max(0))


@cache
def _subsets(m: int) -> NDArray[np.bool_]:
    """Return which pairs lie in which subset of two or more of m rivals, (subsets, pairs)."""
    members = (np.arange(2**m)[:, None] >> np.arange(m)) & 1 == 1
    left, right = np.triu_indices(m, 1)
    inside: NDArray[np.bool_] = members[:, left] & members[:, right]
    return inside[inside.any(1)]


def range_sf(q: Array, k: int, df: int) -> Array:
    """Return the probability that the studentized range of k normal values exceeds q; any shape.

    The range is divided by an SD with df degrees of freedom that does not depend on it. `scipy.stats.studentized_range`
    computes the same, but one value in 15 ms, and a comparison needs thousands.

    >>> range_sf(np.array([3.4957]), k=3, df=27).round(3)
    array([0.051])
    """
    sd, density = _sd(df)
    return np.asarray(np.interp(q[..., None] * sd, *_normal_range_sf(k), right=0.0) @ density)


@cache
def _sd(df: int) -> tuple[Array, Array]:
    """Return SDs of standard normal values with df degrees of freedom, and the weight of each in a mean over all."""
    from scipy import stats

    low, high = (np.sqrt(stats.chi2.isf(tail, df) / df) for tail in (1 - 1e-13, 1e-13))
    node, weight = _quadrature(low, high)
    return node, weight * 2 * df * node * stats.chi2.pdf(df * node**2, df)


@cache
def _normal_range_sf(k: int) -> tuple[Array, Array]:
    """Return ranges and the probability of k standard normal values to exceed each, where SD is known."""
    from scipy import special

    width = np.concatenate([np.linspace(0, 2 * FAR, 3_601), [WIDEST]])
    node, weight = _quadrature(-FAR, FAR)
    within = special.ndtr(node) - special.ndtr(node - width[:, None])
    density = weight * np.exp(-(node**2) / 2) / np.sqrt(2 * np.pi)
    return width, np.maximum(1 - k * within ** (k - 1) @ density, 0)


def _quadrature(low: float, high: float) -> tuple[Array, Array]:
    """Return nodes and weights of Gauss and Legendre's quadrature between two numbers."""
    node, weight = np.polynomial.legendre.leggauss(NODES)
    return low + (high - low) * (node + 1) / 2, weight * (high - low) / 2

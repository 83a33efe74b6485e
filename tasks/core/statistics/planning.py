"""Planning: how many seeds a verdict needs. Arrays in, arrays out.

Mean and SD of a few differences are noisy, so the number of seeds is a range: mean and SD are drawn as they may truly
be (Student's and chi-square's laws), and each draw has the number that would settle it. The careful end of the range is
told. Among many undecided pairs the smallest numbers are small by luck. So the means are drawn towards zero, as far as
the differences of the undecided pairs are luck (James & Stein, 1961), and no SD counts as smaller than what these pairs
have together.
"""

from math import comb

import numpy as np
from numpy.typing import NDArray

from tasks.core.statistics.inference import ALPHA, Array, Differences, sign_test
from tasks.core.statistics.measures import ERRORS

POWER = 0.8  # with which a number of seeds settles a difference
ENDS = (0.1, 0.9)  # of the range of numbers, as shares of draws
DRAWS = 15  # of the mean and of the SD
HALF = 50  # errors in 100, above which nobody asks whether two initializers are equivalent
LONGEST = 400  # seeds up to which a sign test's power is computed exactly


def seeds_to_settle(
    paired: Differences, margins: Array, tests: float, undecided: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Return the low and high ends, (k,), of the number of seeds that settle each undecided couple with a power of 0.8.

    Some number of seeds would show the mean to differ from zero, and another number would show it to be within the
    margin; the smaller one counts. The level is that of Holm's first step of so many tests. An end is infinite if no
    number of seeds is enough, and NaN for couples that are decided, or have fewer than two seeds.
    """
    low, high = np.full(len(paired.n), np.nan), np.full(len(paired.n), np.nan)
    known = undecided & (paired.n > 1) & np.isfinite(paired.sd)
    if known.any():
        mean, sd = _drawn(paired.mean[known], paired.sd[known], paired.n[known])
        needed = _needed(mean, sd, margins[known, None, None], tests).reshape(known.sum(), -1)
        low[known], high[known] = np.ceil(np.quantile(needed, ENDS, axis=1, method="higher"))
    return low, high


def _drawn(mean: Array, sd: Array, n: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return means and SDs as they may truly be, (k, DRAWS, DRAWS)."""
    from scipy import stats

    share = (np.arange(DRAWS) + 0.5) / DRAWS
    variance = np.maximum(sd**2, np.mean(sd**2))
    error = variance / n
    true = max(float(np.mean(mean**2 - error)), 0.0)
    kept = np.divide(true, true + error, out=np.zeros_like(error), where=true + error > 0)[:, None, None]
    n = n[:, None, None]
    drawn = np.sqrt(variance[:, None, None] * (n - 1) / stats.chi2.ppf(share[:, None], n - 1))
    return kept * mean[:, None, None] + np.sqrt(kept / n) * drawn * stats.norm.ppf(share), drawn + 0 * share


def _needed(mean: Array, sd: Array, margin: Array, tests: float) -> Array:
    """Return how many seeds settle a true mean with a true SD, to within one (Guenther, 1981); any shape."""
    level, size = ALPHA / tests, np.abs(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = _sample_size(size / sd, level / 2, POWER)
        alike = _sample_size(np.maximum(margin - size, 0) / sd, level, (1 + POWER) / 2)
    return np.nan_to_num(np.fmin(apart, alike), nan=np.inf, posinf=np.inf)


def _sample_size(effect: Array, tail: float, power: float) -> Array:
    from scipy import stats

    z = stats.norm.isf(tail)
    return np.asarray(((z + stats.norm.ppf(power)) / effect) ** 2 + z**2 / 2)


def shares_of_wins(wins: NDArray[np.int64], losses: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the high and low ends, (k,), of the share that the side with more wins may truly win (Jeffreys, 1946).

    >>> high, low = shares_of_wins(np.array([9]), np.array([1]))
    >>> high.round(2), low.round(2)
    (array([0.97]), array([0.73]))
    """
    from scipy import stats

    most, least = np.maximum(wins, losses) + 0.5, np.minimum(wins, losses) + 0.5
    high, low = (np.asarray(stats.beta.ppf(share, most, least)) for share in ENDS[::-1])
    return np.maximum(high, 0.5), np.maximum(low, 0.5)


def seeds_for_signs(share: Array, decided: Array, tests: float) -> Array:
    """Return how many seeds settle a sign test with a power of 0.8, (k,).

    share: of the seeds that one side wins, the side that wins more often, between 0.5 and 1. decided: of all seeds
    those that are no tie, more than 0. The level is that of Holm's first step of so many tests. The number is exact up
    to LONGEST, an approximation (Noether, 1987) above, and infinite for a share of 0.5.

    >>> seeds_for_signs(np.array([1.0, 1.0, 0.8]), np.ones(3), tests=1)
    array([ 6.,  6., 20.])
    """
    from scipy import stats

    level = ALPHA / tests
    n = np.arange(1, LONGEST + 1)
    below = np.asarray(stats.binom.ppf(level / 2, n, 0.5))  # the losses that the test allows, or one more
    most = np.where(2 * stats.binom.cdf(below, n, 0.5) <= level, below, below - 1)
    enough = np.asarray(stats.binom.cdf(most, n, 1 - share[:, None])) >= POWER
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = stats.norm.ppf(POWER) * np.sqrt(share * (1 - share))
        beyond = np.ceil(np.square((stats.norm.isf(level / 2) / 2 + reach) / (share - 0.5)))
    exact = np.where(enough.any(1), n[enough.argmax(1)], np.maximum(beyond, LONGEST + 1))
    return np.asarray(np.ceil(exact / decided))


def least_for_signs(tests: int) -> int:
    """Return how many seeds a sign test needs at least, where one side wins in all of them.

    >>> [least_for_signs(tests) for tests in (1, 6, 15, 28)]
    [6, 8, 10, 11]
    """
    n = np.arange(1, LONGEST)
    return int(n[np.argmax(sign_test(n, 0 * n) * tests < ALPHA)])


def least_for_equivalence(tests: int, steps: float) -> int:
    """Return how many seeds show two to be equivalent if they are tied in all of them.

    steps: how many steps of its measure the margin is; as of `Differences.of`, n ties have an SD of step / √n.

    >>> [least_for_equivalence(tests, 1.0) for tests in (1, 6, 15, 28)]
    [3, 5, 6, 6]
    """
    from scipy import stats

    n = np.arange(2, LONGEST)
    return int(n[np.argmax(stats.t.sf(n * steps, n - 1) * tests < ALPHA)])


def errors_for_equivalence(tests: int, seeds: int, rows: int) -> float:
    """Return the least error rate of the best initializer at which ties in all seeds show two to be equivalent.

    The margin is the share ERRORS of that error rate. With one seed the rate is infinite.

    >>> round(errors_for_equivalence(28, seeds=10, rows=30), 3)
    0.039
    """
    from scipy import stats

    return float(stats.t.isf(ALPHA / tests, seeds - 1) / (seeds * rows) / ERRORS) if seeds > 1 else np.inf


def unreachable(rivals: int, seeds: int, families: int, rows: int, margin: float | None) -> list[str]:
    """Return the verdicts that cannot occur with this many seeds, and how many seeds would allow them.

    families: the number of families whose false verdicts are controlled together; rows: how many test rows there are;
    margin: that of the test accuracy, if the study sets it.

    >>> unreachable(6, 5, 4, 30, 1 / 30)[0]
    'equivalent by test accuracy, even where all seeds are tied (6 seeds could show it)'
    >>> unreachable(8, 10, 4, 30, None)[0]
    'equivalent by test accuracy, if the best initializer makes fewer than 3.9 errors in 100'
    """
    tests = comb(rivals, 2)
    if not tests:
        return []
    steps = rows * (margin or 1)
    needs = {
        "better, worse": 2,
        "equivalent by test accuracy, even where all seeds are tied": least_for_equivalence(tests, steps),
        "better, worse by a measure where one of the two diverges in some seeds": least_for_signs(tests * families),
    }
    told = [f"{verdicts} ({least} seeds could show it)" for verdicts, least in needs.items() if seeds < least]
    if margin is not None:
        return told
    errors = 100 * errors_for_equivalence(tests, seeds, rows)
    words = f", if the best initializer makes fewer than {errors:.2g} errors in 100" if errors <= HALF else ""
    return [f"equivalent by test accuracy{words}", *(words for words in told if not words.startswith("equivalent"))]

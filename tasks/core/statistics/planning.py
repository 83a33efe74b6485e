"""Planning: how many seeds a verdict needs. Arrays in, arrays out."""

from math import comb

import numpy as np

from tasks.core.statistics.inference import ALPHA, POWER, Array, sign_test

LONGEST = 2_000  # seeds up to which a sign test's power is computed exactly


def seeds_for_signs(share: Array, decided: Array, tests: int) -> Array:
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


def unreachable(rivals: int, seeds: int, steps: float) -> list[str]:
    """Return which verdicts between so many rivals no outcome with so many seeds can give, and how many seeds could.

    steps: how many steps of the test accuracy its margin is.

    >>> unreachable(6, 5, 1.0)[0]
    'equivalent by test accuracy, even where all seeds are tied (6 seeds could show it)'
    """
    tests = comb(rivals, 2)
    if not tests:
        return []
    needs = {
        "better, worse": 2,
        "equivalent by test accuracy, even where all seeds are tied": least_for_equivalence(tests, steps),
        "better, worse by a measure where one of the two diverges in some seeds": least_for_signs(tests),
    }
    return [f"{verdicts} ({least} seeds could show it)" for verdicts, least in needs.items() if seeds < least]

"""Divergence: which of two finishes more often. Arrays in, arrays out.

How many cells of a rival finish is a family of its own, beside those of the measures: a cell that did not finish has
no value to compare. Where one of two finishes in every seed and the other one in none, this is told as it is, without
a test. Elsewhere an exact test of the two counts decides.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.core.statistics.inference import ALPHA, Array, holm

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Finished:
    """For pairs of rivals, how many cells of each side finished, and how many there are; each (pairs,)."""

    left: Counts
    left_of: Counts
    right: Counts
    right_of: Counts

    @classmethod
    def of(cls, hole: NDArray[np.bool_], ran: NDArray[np.bool_], left: list[int], right: list[int]) -> "Finished":
        """Count cells; hole: which ones did not finish; ran: which ones there are; both (rivals, seeds)."""
        finished, there = (ran & ~hole).sum(1), ran.sum(1)
        return cls(finished[left], there[left], finished[right], there[right])

    @property
    def always(self) -> NDArray[np.bool_]:
        """The pairs of which the left side finished in all of its seeds, and the right side in none."""
        whole = (self.left_of > 0) & (self.left == self.left_of)
        return np.asarray(whole & (self.right_of > 0) & (self.right == 0))

    @property
    def never(self) -> NDArray[np.bool_]:
        """The pairs of which the left side finished in none of its seeds, and the right side in all."""
        return Finished(self.right, self.right_of, self.left, self.left_of).always

    @property
    def holed(self) -> NDArray[np.bool_]:
        """The pairs of which some cell did not finish."""
        return (self.left < self.left_of) | (self.right < self.right_of)

    @property
    def difference(self) -> Array:
        """The share of the left side that finished, less that of the right side; NaN where one has no cells."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.left / self.left_of - self.right / self.right_of)

    def p(self) -> Array:
        """Return the p-values of both sides finishing equally often, after Holm, (pairs,).

        Boschloo's exact test takes the two sides as independent. Cells of a seed share their split, so both sides are
        rather alike, and then the test errs less often than it says.

        >>> three = np.array([3])
        >>> Finished(three, three, np.array([0]), three).p()
        array([0.03125])
        """
        counts = zip(self.left, self.left_of, self.right, self.right_of, strict=True)
        return holm(np.array([_boschloo(*map(int, each)) for each in counts]))

    def ends(self) -> tuple[Array, Array]:
        """Return the low and high ends of the difference's 95 % interval (Newcombe, 1998), (pairs,)."""
        from statsmodels.stats.proportion import confint_proportions_2indep

        known = (self.left_of > 0) & (self.right_of > 0)
        low, high = np.full(known.shape, np.nan), np.full(known.shape, np.nan)
        for at in np.flatnonzero(known):
            sides = (self.left[at], self.left_of[at], self.right[at], self.right_of[at])
            low[at], high[at] = confint_proportions_2indep(*sides, method="newcomb", compare="diff", alpha=ALPHA)
        return low, high


@cache
def _boschloo(left: int, left_of: int, right: int, right_of: int) -> float:
    from scipy import stats

    if not left_of or not right_of or left * right_of == right * left_of:
        return 1.0
    return float(stats.boschloo_exact([[left, right], [left_of - left, right_of - right]]).pvalue)

"""Verdicts: what is said of a pair, and how a row of the tables of pairs is read.

A pair is a left side against a right one. The verdict is what the left side is.
"""

import numpy as np
import pandas as pd

BETTER, WORSE, EQUIVALENT, UNDECIDED, NOT_COMPARABLE = "better", "worse", "equivalent", "undecided", "not comparable"
ALWAYS, NEVER = "always finishes", "never finishes"
"""Verdicts on a pair of which one side finished in every seed, and the other one in none."""
TURNED = {BETTER: WORSE, WORSE: BETTER, ALWAYS: NEVER, NEVER: ALWAYS}
"""The verdict as the other side of the pair sees it; other verdicts are the same from both sides."""
SMALL_RATIO, LARGE_RATIO = 0.01, 2.0  # a ratio between these is told in per cent, another one as a factor
FAR = 200  # more seeds than this are not told, because they could only be guessed


def seeds_needed(more: float) -> str:
    """Return a number of further seeds in words.

    >>> seeds_needed(37.0), seeds_needed(float("inf"))
    ('probably +37 seeds', 'probably 200 seeds or more')
    """
    if np.isnan(more):
        return "too few seeds to tell how many"
    return f"probably +{more:,.0f} seed{'s' if more > 1 else ''}" if more <= FAR else f"probably {FAR} seeds or more"


def turned(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of pairs as the other side sees them: verdict, estimate with its interval, difference, effect size.

    >>> row = {"scale": "ratio", "estimate": 0.5, "low": 0.4, "high": 0.8, "difference": -1.0, "effect_size": -2.0}
    >>> other = turned(pd.DataFrame([{**row, "verdict": "better"}]))
    >>> other[["estimate", "low", "high"]].to_numpy().tolist(), other["verdict"].item()
    ([[2.0, 1.25, 2.5]], 'worse')
    """
    ratio = rows["scale"] == "ratio"
    ends = {"estimate": "estimate", "low": "high", "high": "low"}
    return rows.assign(
        **{name: (1 / rows[other]).where(ratio, -rows[other]) for name, other in ends.items()},
        **{name: -rows[name] for name in ("difference", "effect_size")},
        verdict=rows["verdict"].replace(TURNED),
    )


def estimated(row: pd.Series) -> str:
    """Return the estimate of a row of pairs with its interval in brackets, nothing if there is none.

    >>> estimated(pd.Series({"scale": "ratio", "estimate": 0.88, "low": 0.82, "high": 0.95}))
    '-12 % [-18, -5]'
    >>> estimated(pd.Series({"scale": "difference", "estimate": 0.5, "low": 0.25, "high": 0.75}))
    '+0.500 [+0.250, +0.750]'
    """
    middle, low, high = (float(row[name]) for name in ("estimate", "low", "high"))
    if np.isnan(middle):
        return ""
    if np.isnan(low):
        return amount(middle, row["scale"])
    ends = ", ".join(amount(end, row["scale"], like=middle).removesuffix(" %") for end in (low, high))
    return f"{amount(middle, row['scale'])} [{ends}]"


def amount(estimate: float, scale: object, *, like: float | None = None) -> str:
    """Return an estimate in figures: a difference, or a ratio in per cent or as a factor.

    A ratio is told as a factor if it, or the ratio `like` which it stands beside, is above 2 or below 0.01.

    >>> amount(-0.5, "difference"), amount(0.88, "ratio"), amount(7.25, "ratio"), amount(1.5, "ratio", like=3.0)
    ('-0.500', '-12 %', '×7.25', '×1.5')
    """
    if scale == "difference":
        return f"{estimate:+.3f}"
    per_cent = SMALL_RATIO <= (estimate if like is None else like) <= LARGE_RATIO
    return f"{100 * (estimate - 1):+.0f} %" if per_cent else f"×{estimate:.3g}"

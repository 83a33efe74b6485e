"""Did a study become slower or faster? Steps in the history of its measures of speed, and seldom a false one.

Each night gives one value of a measure: a time over that of the reference workload, timed in the same minutes, so that
a slow minute or a busy machine is no change. In the newest nights every way to cut them in two is tried, and the best
one is held against the best ones of the same nights in other orders. If nothing changed, all orders are equally likely,
whatever the law of the noise. So the share of orders that cut as well is a p-value. A value far out is drawn in first,
because one bad night would hide a step.

No library does this: ruptures finds the best cut of a series, but does not say how likely it is without a change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.core.watch.pace import Measure
from tasks.core.watch.watched import Flag

Array = NDArray[np.float64]

RATE = 0.005  # quiet nights in which speed raises anything, over all series of all studies together
WINDOW = 60  # nights in which a step is looked for, the newest ones
KEPT = 2 * WINDOW  # nights that are looked at; a step found in one of them moves those before it
LEAST = 2  # nights on each side of a step
FAR = 2.5  # standard deviations from the median, to which what is further out is drawn in
DEVIATION = 1.4826  # standard deviations of a normal law in its median absolute deviation
PROMISING = 7.0  # variances that a cut explains; of one that explains less no order needs to be tried
MARGIN = 0.03  # a smaller step is not worth a flag
CONFIDENCE = 0.95
ORDERS, MORE, MOST = 100, 1_000, 10_000  # orders that are tried at first, then, and in each round after that
ENOUGH = 10  # orders that cut as well as the nights do, after which no more are tried
ORDERS_SEED = 0  # a night that is judged again is judged alike


@dataclass(frozen=True)
class Step:
    """A change of level in a series of nights.

    at: the first night of the new level; found: the night on which the step is found; factor: the new level over the
    old one, with the ends of its 95 % interval; p: how likely a step as clear is without a change.
    """

    at: int
    found: int
    factor: float
    low: float
    high: float
    p: float


def steps(values: Sequence[float], alpha: float) -> list[Step]:
    """Return the steps that are found in a series of positive values as night follows night, at level alpha each night.

    When a step is found, the nights before it are moved to the new level. So it is found once, and their noise still
    tells what is usual.

    >>> [(step.at, step.found, round(step.factor, 1)) for step in steps([1.0, 1.1] * 12 + [2.0, 2.2] * 4, 1e-3)]
    [(24, 26, 2.0)]
    """
    logs = np.log(np.asarray(values, np.float64))
    found = []
    for night in range(2 * LEAST, len(logs) + 1):
        if step := _newest(logs[:night], alpha):
            logs[: step.at] += np.log(step.factor)
            found.append(step)
    return found


def _newest(logs: Array, alpha: float) -> Step | None:
    """Return the step that the newest nights show, or None; logs: logarithms of the values of all nights so far."""
    first = max(len(logs) - WINDOW, 0)
    drawn = _drawn_in(logs[first:])
    gains = _gains(drawn[None])[0]
    if gains.max() <= PROMISING * drawn.var():
        return None
    at = first + LEAST + int(gains.argmax())
    shift, half = _shift(_drawn_in(logs[first:at]), _drawn_in(logs[at:]))
    if abs(shift) < np.log1p(MARGIN) or (p := _p_value(drawn, gains.max(), alpha)) > alpha:
        return None
    low, factor, high = (float(np.exp(shift + side * half)) for side in (-1, 0, 1))
    return Step(at, len(logs) - 1, factor, low, high, p)


def _shift(before: Array, after: Array) -> tuple[float, float]:
    """Return the difference of two means and half of its interval by Student's t, with one variance for both."""
    from scipy import stats

    n, left = len(before) + len(after), len(before) + len(after) - 2
    deviation = np.sqrt((before.var() * len(before) + after.var() * len(after)) / left)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, left) * deviation * np.sqrt(n / (len(before) * len(after)))
    return float(after.mean() - before.mean()), float(reach)


def _drawn_in(logs: Array) -> Array:
    middle = np.median(logs)
    reach = FAR * DEVIATION * np.median(np.abs(logs - middle))
    return np.clip(logs, middle - reach, middle + reach) if reach > 0 else logs


def _gains(rows: Array) -> Array:
    """Return how much each cut of each row (n,) explains: the sum of squares between its two parts, (rows, cuts)."""
    n = rows.shape[1]
    before = np.arange(LEAST, n - LEAST + 1)
    sums = np.cumsum(rows - rows.mean(1, keepdims=True), axis=1)[:, LEAST - 1 : n - LEAST]
    return np.asarray(np.square(sums) * n / (before * (n - before)), np.float64)


def _p_value(values: Array, best: float, alpha: float) -> float:
    """Return the share of orders of the values whose best cut explains as much as `best` (Besag & Clifford, 1991).

    Orders are tried until ENOUGH explain as much, or so many are tried that a share of alpha would have shown.
    """
    as_much = tried = 0
    rounds = 0
    while as_much < ENOUGH and tried < ENOUGH / alpha:
        gains = _gains(values[_orders(len(values), rounds)]).max(1)
        as_much += int((gains >= best * (1 - 1e-9)).sum())
        tried += len(gains)
        rounds += 1
    return as_much / tried if as_much >= ENOUGH else (as_much + 1) / (tried + 1)


@lru_cache(maxsize=64)
def _orders(n: int, rounds: int) -> NDArray[np.int8]:
    """Return random orders of n nights, (orders, n); others in each round."""
    size = (ORDERS, MORE)[rounds] if rounds < 2 else MOST
    rng = np.random.default_rng([ORDERS_SEED, n, rounds])
    return rng.permuted(np.tile(np.arange(n, dtype=np.int8), (size, 1)), axis=1)


@dataclass(frozen=True)
class Night:
    """A study's measures of speed in a night, `pace.followed`, and the label by which a flag names the night."""

    label: str
    measures: Mapping[Measure, float]


@dataclass(frozen=True)
class History:
    """A measure of speed over the nights that have it: their labels, values in times of the reference, and steps."""

    measure: Measure
    labels: tuple[str, ...]
    values: tuple[float, ...]
    steps: tuple[Step, ...]


def histories(nights: Sequence[Night], series: int) -> list[History]:
    """Return the history of each measure that the last of a study's nights has; without nights, none.

    nights: comparable ones, the oldest first; older ones than KEPT are left out. series: how many measures of speed are
    followed tonight, over all studies together.
    """
    told = [(night.label, night.measures) for night in nights[-KEPT:]]
    found = []
    for measure in told[-1][1] if told else ():
        labels, values = zip(*((label, each[measure]) for label, each in told if measure in each), strict=True)
        found.append(History(measure, labels, values, tuple(steps(values, RATE / series))))
    return found


def flags(nights: Sequence[Night], series: int) -> tuple[Flag, ...]:
    """Return what the last of a study's nights raises: a flag for each measure in which a step is found tonight."""
    return tuple(
        _flag(history, step, series)
        for history in histories(nights, series)
        for step in history.steps
        if step.found == len(history.values) - 1
    )


def _flag(history: History, step: Step, series: int) -> Flag:
    since = history.labels[step.at]
    factor = f"{step.factor:.2f} [{step.low:.2f}, {step.high:.2f}]"
    words = f"since {since} {history.measure.title} takes {factor} times as long, beside the same work of reference"
    return Flag(
        level="speed",
        group=history.measure.backend,
        measure=history.measure.title,
        direction="worse" if step.factor > 1 else "better",
        against="recent nights",
        words=words,
        size=step.factor,
        low=step.low,
        high=step.high,
        p=min(1.0, step.p * series),
    )

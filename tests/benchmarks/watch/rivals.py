"""What others do to a night: a t-test on cells that are not paired, t-tests on means, and Otava.

Each takes the nights of all studies, one list of tables by study, and tells of each night whether it raises an alarm.
"""

from functools import cache
from importlib.util import find_spec

import numpy as np
from scipy import stats

from tasks.core.design.columns import MEASURES, RANKED
from tasks.core.statistics import inference
from tasks.core.watch.changes import ALPHA
from tasks.core.watch.paired import RECENT

MEASURED = [measure.name for measure in MEASURES if measure.repeatable]
GROUPED = ["backend", "initializer"]


def cells(night, measures=MEASURED):
    """Return measures of each group's cells, (groups x measures, cells)."""
    found = [group[list(measures)].to_numpy().T for _, group in night.groupby(GROUPED, sort=False)]
    return np.concatenate(found)


def means(nights, measures=MEASURED):
    """Return the mean of each group and measure, (groups x measures, nights); without those that some night lacks."""
    found = np.array([inference.mean(cells(night, measures)) for night in nights]).T
    return found[np.isfinite(found).all(1)]


def unpaired(studies):
    """Return of each night but the first whether Welch's t-test tells it from the last night, after Holm at ALPHA."""
    return [
        inference.holm(np.concatenate([_welch(cells(nights[at]), cells(nights[at - 1])) for nights in studies])).min()
        < ALPHA
        for at in range(1, len(studies[0]))
    ]


def _welch(one, other):
    with np.errstate(all="ignore"):
        p = stats.ttest_ind(one, other, axis=1, equal_var=False, nan_policy="omit").pvalue
    return np.nan_to_num(np.asarray(p, np.float64), nan=1.0)


def on_means(studies, *, holm):
    """Return of each night but the first whether a mean lies off those of the RECENT nights before, by Student's t.

    With Holm, at ALPHA over the night; without, at 5 % for each mean. The first nights, with less than three before
    them, raise no alarm.
    """
    found = np.concatenate([means(nights) for nights in studies])
    return [at > 2 and _off(found[:, max(at - RECENT, 0) : at], found[:, at], holm) for at in range(1, found.shape[1])]


def _off(before, now, holm):
    n, sd = before.shape[1], before.std(1, ddof=1)
    apart = np.abs(now - before.mean(1)) > 1e-12
    with np.errstate(all="ignore"):
        t = np.where(apart, np.abs(now - before.mean(1)) / (sd * np.sqrt(1 + 1 / n)), 0.0)
    p = 2 * stats.t.sf(t, n - 1)
    return bool(inference.holm(p).min() < ALPHA if holm else p.min() < inference.ALPHA)


@cache
def has_otava():
    return find_spec("otava") is not None


def otava(studies):
    """Return of each night but the first whether Otava, with its defaults, reports a change that it had not reported.

    It sees the mean accuracies and losses alone, one more night at a time.
    """
    from otava.analysis import compute_change_points

    found = np.concatenate([means(nights, RANKED) for nights in studies])
    moving, nights = found[np.ptp(found, axis=1) > 0], found.shape[1]
    raised = np.zeros(nights, bool)
    for series in moving:
        known = set()
        for at in range(3, nights):
            now = {point.index for point in compute_change_points(series[: at + 1])[0]}
            raised[at] |= any(not {each - 1, each, each + 1} & known for each in now)
            known |= now
    return raised[1:].tolist()


def every():
    """Return the methods by name."""
    found = {
        "Welch's t, cells not paired, Holm": unpaired,
        "t on means of a week, Holm": lambda studies: on_means(studies, holm=True),
        "t on means of a week, 5 % each": lambda studies: on_means(studies, holm=False),
    }
    return found | ({"Otava on means": otava} if has_otava() else {})

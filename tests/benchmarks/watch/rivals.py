"""What others do to a night: a t-test on cells that are not paired, t-tests on means, and Otava.

Each takes the nights of all studies, of each study a list of arrays as `by_group` returns them, and tells of each night
but the first whether it raises an alarm.
"""

from functools import partial
from importlib.util import find_spec

import numpy as np
from scipy import stats

from tasks.core.design.columns import MEASURES, RANKED
from tasks.core.statistics import inference
from tasks.core.watch.changes import ALPHA
from tasks.core.watch.paired import RECENT

MEASURED = [measure.name for measure in MEASURES if measure.repeatable]
PRIMARY = [MEASURED.index(name) for name in RANKED]
OTAVA = find_spec("otava") is not None
GROUPED = ["backend", "initializer"]


def raised(studies):
    """Return by method whether it raises an alarm in each night but the first; studies: their nights."""
    arrays = [[by_group(night.rows) for night in nights] for nights in studies]
    methods = {
        "Welch's t, cells not paired, Holm": unpaired,
        "t on means of a week, Holm": partial(on_means, holm=True),
        "t on means of a week, 5 % each": partial(on_means, holm=False),
    }
    return {name: method(arrays) for name, method in (methods | ({"Otava on means": otava} if OTAVA else {})).items()}


def by_group(rows):
    """Return the measures of each group's cells, (groups x measures, cells)."""
    measured = rows[MEASURED].to_numpy(np.float64)
    return np.concatenate([measured[at].T for at in rows.groupby(GROUPED, sort=False).indices.values()])


def means(nights):
    """Return the mean of each group and measure, (groups x measures, nights), NaN where no cell has a number."""
    return np.array([inference.mean(night) for night in nights]).T


def unpaired(studies):
    """Return of each night but the first whether Welch's t-test tells it from the last night, after Holm at ALPHA."""
    return [
        inference.holm(np.concatenate([_welch(nights[at], nights[at - 1]) for nights in studies])).min() < ALPHA
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
    found = found[np.isfinite(found).all(1)]
    return [at > 2 and _off(found[:, max(at - RECENT, 0) : at], found[:, at], holm) for at in range(1, found.shape[1])]


def _off(before, now, holm):
    n, sd = before.shape[1], before.std(1, ddof=1)
    apart = np.abs(now - before.mean(1)) > 1e-12
    with np.errstate(all="ignore"):
        t = np.where(apart, np.abs(now - before.mean(1)) / (sd * np.sqrt(1 + 1 / n)), 0.0)
    p = 2 * stats.t.sf(t, n - 1)
    return bool(inference.holm(p).min() < ALPHA if holm else p.min() < inference.ALPHA)


def otava(studies):
    """Return of each night but the first whether Otava, with its defaults, reports a change that it had not reported.

    It sees the mean accuracies and losses alone, one more night at a time.
    """
    from otava.analysis import compute_change_points

    found = np.concatenate([means(nights).reshape(-1, len(MEASURED), len(nights))[:, PRIMARY] for nights in studies])
    found = found.reshape(-1, found.shape[-1])
    moving, nights = found[np.ptp(found, axis=1) > 0], found.shape[1]  # NaN is not above 0
    raised = np.zeros(nights, bool)
    for series in moving:
        known = set()
        for at in range(3, nights):
            now = {point.index for point in compute_change_points(series[: at + 1])[0]}
            raised[at] |= any(not {each - 1, each, each + 1} & known for each in now)
            known |= now
    return raised[1:].tolist()

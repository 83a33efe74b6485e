"""How soon a slow drift is found, by pairing with a baseline and by a CUSUM: `python -m tests.benchmarks.watch.drift`.

Every night the losses of a backend grow by the same share. A number behind it is that of series, 6 unless given. Both
methods raise an alarm in one quiet night in 100: the watch by its tests, the CUSUM by a threshold that is taken from
quiet series. The README has the last result.
"""

import sys

import numpy as np
from tabulate import tabulate

from tasks.core.design.columns import MEASURES_BY_NAME
from tasks.core.watch import changes
from tasks.core.watch.paired import Cells, Tonight
from tests.benchmarks.watch.cells import Series, quiet

NIGHTS, FIRST = 50, 8  # of the first nights a CUSUM learns mean and standard deviation
RATES = (0.0025, 0.005, 0.01)
SLACK = 0.5  # of a CUSUM, in standard deviations
BACKEND, MEASURE = "pytorch", "test_loss"
NEVER = "never"


def drifting(rng, name, rate):
    """Draw a study's nights, from the first of which a loss grows by a share a night."""
    series = quiet(rng, name, NIGHTS, cellwise=False)
    nights = []
    for at, night in enumerate(series.nights):
        cells = night.rows
        factor = np.where(cells["backend"] == BACKEND, (1 + rate) ** max(at - FIRST + 1, 0), 1.0)
        nights.append(Cells(cells.assign(**{MEASURE: cells[MEASURE] * factor})))
    return Series(name, nights)


def by_watch(series, *, anchored):
    """Return the first night that is flagged, counted from the first one that drifts; without the baseline if asked."""
    for at in range(FIRST, NIGHTS):
        tonight = series.tonight(at)
        if not anchored:
            tonight = Tonight(tonight.study, tonight.cells, tonight.recent)
        if any(changes.flags([tonight])[0]):
            return at - FIRST + 1
    return None


def contrasts(series):
    """Return each night's mean logarithm of the loss, of each group and of all of a backend, (groups, nights)."""
    scaled = MEASURES_BY_NAME[MEASURE].scaled
    found = []
    for night in series.nights:
        finished = night.rows[night.rows["status"] == "finished"]
        logs = finished.assign(log=scaled(finished[MEASURE].to_numpy(np.float64)))
        groups = logs.groupby(["backend", "initializer"])["log"].mean()
        found.append([*groups, *logs.groupby("backend")["log"].mean()])
    return np.array(found).T


def cusums(means):
    """Return the larger one of both cumulative sums of each night and group, (groups, nights)."""
    start = means[:, :FIRST]
    sd = start.std(1, ddof=1)
    known = sd > 0
    z = (means[known] - start[known].mean(1, keepdims=True)) / sd[known][:, None]
    sums, up, down = np.zeros(z.shape), 0.0, 0.0
    for at in range(FIRST, z.shape[1]):
        up, down = np.maximum(0, up + z[:, at] - SLACK), np.maximum(0, down - z[:, at] - SLACK)
        sums[:, at] = np.maximum(up, down)
    return sums, known


def threshold(name, series):
    """Return the height that no CUSUM of a quiet series passes in so many nights, but for one night in 100."""
    rng = np.random.default_rng(1)
    tops = [cusums(contrasts(quiet(rng, name, NIGHTS, cellwise=False)))[0].max() for _ in range(series)]
    return float(np.quantile(tops, 0.99 ** (NIGHTS - FIRST)))


def by_cusum(series, height, *, margin):
    """Return the first night in which a CUSUM passes its height, and the mean its margin if asked."""
    means = contrasts(series)
    sums, known = cusums(means)
    far = np.abs(means - means[:, :FIRST].mean(1, keepdims=True))[known] > np.log1p(0.1)
    raised = ((sums > height) & (far | (not margin))).any(0)
    return int(raised.argmax()) - FIRST + 1 if raised.any() else None


def row(name, rate, series, height):
    """Return the median night in which each method finds a drift, of the series in which it does."""
    rng = np.random.default_rng(0)
    drawn = [drifting(rng, name, rate) for _ in range(series)]
    found = {
        "the watch": [by_watch(each, anchored=True) for each in drawn],
        "the watch without a baseline": [by_watch(each, anchored=False) for each in drawn],
        "CUSUM beyond the margin": [by_cusum(each, height, margin=True) for each in drawn],
        "CUSUM of any size": [by_cusum(each, height, margin=False) for each in drawn],
    }
    beyond = int(np.ceil(np.log(1.1) / np.log1p(rate)))
    return {"study": name, "a night": f"{rate:.2%}", "at the margin": beyond} | {
        method: _told(nights) for method, nights in found.items()
    }


def _told(nights):
    seen = [each for each in nights if each is not None]
    return f"{len(seen) / len(nights):.2f}, {np.median(seen):.0f}" if seen else NEVER


if __name__ == "__main__":
    series = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    rows = []
    for name in ("iris", "digits"):
        height = threshold(name, max(10 * series, 100))
        rows += [row(name, rate, series, height) for rate in RATES]
    print(tabulate(rows, headers="keys", tablefmt="github"))  # noqa: T201

"""How soon slower nights are seen, and how seldom quiet ones called slower: `python -m tests.benchmarks.watch.speed`.

Nights are drawn from those that `nights.py` has measured: real trainings over the real reference, on a machine at rest
and on a busy one. A quiet series is drawn as it is; in a planted one the newest 20 nights take 10 % or 25 % longer. All
methods see the same series, one more night at a time. A number behind it is that of series, 560 unless given; Otava
gets a tenth of them, because it is slow, and none where it is not installed (`otava.txt`).
"""

import json
import sys
from functools import partial
from importlib.util import find_spec

import numpy as np
from scipy import stats
from tabulate import tabulate

from tasks.core.watch import speed
from tests.benchmarks.watch.nights import NIGHTS

SERIES = 56  # of a night: 14 studies, each with two trainings, cells a second and start-up
COUNT = 560
HISTORY, QUIET, AFTER = 60, 100, 20
BATCHES = 2  # of a process in nights.jsonl that make a night
PLANTED = (1.10, 1.25)
WEEK = 7


def ours(values, since):
    """Return the nights, from `since` on, in which a step is found, each with the night on which it began."""
    return [(step.found, step.at) for step in speed.steps(values, speed.RATE / SERIES) if step.found >= since]


def weeks(values, since, *, alpha):
    """Return the nights on which the last week first differs from the week before by a t-test."""
    found, before = [], False
    for night in range(since, len(values)):
        logs = np.log(values[night - 2 * WEEK + 1 : night + 1])
        now = stats.ttest_ind(logs[:WEEK], logs[WEEK:]).pvalue < alpha
        if now and not before:
            found.append((night, night - WEEK + 1))
        before = now
    return found


def otava(values, since, **options):
    """Return the nights in which Otava reports a point that it did not report before, and that point."""
    from otava.analysis import compute_change_points

    found, known = [], set()
    for night in range(since - 1, len(values)):
        points, _ = compute_change_points(np.array(values[: night + 1]), **options)
        now = {point.index for point in points}
        new = [at for at in now if not {at - 1, at, at + 1} & known]
        if night >= since:
            found += [(night, at) for at in new]
        known |= now
    return found


def methods():
    """Return each method by its name, with the share of the series that it gets."""
    found = {
        "speed.py": (ours, 1),
        "last 7 nights against 7 before, t-test at 5 %": (partial(weeks, alpha=0.05), 1),
        "the same at the level of speed.py": (partial(weeks, alpha=speed.RATE / SERIES), 1),
    }
    if find_spec("otava"):
        found["Otava, defaults"] = otava, 0.1
        found["Otava, max_pvalue 1e-6"] = partial(otava, max_pvalue=1e-6), 0.1
    return found


def row(method, series, factor):
    """Return what a method makes of series whose newest nights take so many times as long; of 1, how often it errs."""
    if factor == 1:
        alarms = [method(values, HISTORY) for values in series]
        nights = len(series) * QUIET
        rate = sum(map(len, alarms)) / nights
        return {"alarms in 100 nights of a series": 100 * rate, "of 56 series": 100 * (1 - (1 - rate) ** SERIES)}
    delays = [first(method(values, HISTORY)) for values in series]
    seen = [delay for delay in delays if delay is not None]
    name = f"{factor - 1:.0%}"
    return {f"{name}: found": len(seen) / len(delays), f"{name}: nights": np.median(seen) if seen else np.nan}


def first(alarms):
    """Return in which night after the step, from 1 on, the first alarm comes that is about it; None without any."""
    about = [night - HISTORY + 1 for night, at in alarms if at >= HISTORY - 3]
    return min(about, default=None)


def table(noise, count):
    """Return a row per method; noise: draws so many nights of one series."""
    series = {1: [noise(HISTORY + QUIET) for _ in range(count)]}
    for factor in PLANTED:
        slower = np.r_[np.ones(HISTORY), np.full(AFTER, factor)]
        series[factor] = [noise(HISTORY + AFTER) * slower for _ in range(count)]
    rows = []
    for name, (method, share) in methods().items():
        told = [row(method, many[: int(share * count)], factor) for factor, many in series.items()]
        rows.append({"method": name} | {key: value for each in told for key, value in each.items()})
    return tabulate(rows, headers="keys", floatfmt=".3g", tablefmt="github")


def nights():
    """Return the measures of each night: the training of some batches, and the start of a process, over the reference.

    Each is there by the clock and by processor time, beside the raw times.
    """
    found = []
    for line in NIGHTS.read_text().splitlines():
        told = json.loads(line)
        for at in range(0, len(told["batches"]) - BATCHES + 1, BATCHES):
            some = told["batches"][at : at + BATCHES]
            train = np.sum([each["train"] for each in some], 0)
            beside = np.mean([each[side] for each in some for side in ("before", "after")], (0, 1))
            named = {"backend": told["backend"], "busy": told["busy"], "start": told["start"]}
            found.append({**named, "train": train, "reference": beside})
    return found


def spread(nights):
    """Return a row per backend and measure: how many nights, and what scatters how much, in SDs of logarithms."""
    rows = []
    for backend in dict.fromkeys(each["backend"] for each in nights):
        for busy in (0, 2, None):
            some = [each for each in nights if each["backend"] == backend and busy in (each["busy"], None)]
            row = {"backend": backend, "busy loops": "both" if busy is None else busy, "nights": len(some)}
            for at, clock in enumerate(("clock", "processor")):
                train, beside = (np.array([each[name][at] for each in some]) for name in ("train", "reference"))
                row |= {f"{clock}, ms": 1000 * np.median(train), f"{clock}": np.log(train).std(ddof=1)}
                row[f"{clock} over reference"] = np.log(train / beside).std(ddof=1)
            rows.append(row)
    return tabulate(rows, headers="keys", floatfmt=".3g", tablefmt="github")


def drawn(rng, found):
    """Return a function that draws so many nights of a series: the training's ratios by processor time, with noise.

    A little normal noise, of a tenth of their scatter, keeps two draws of one night apart.
    """
    ratios = np.log([each["train"][1] / each["reference"][1] for each in found])
    return lambda many: np.exp(rng.choice(ratios, many) + rng.normal(0, 0.1 * ratios.std(), many))


def main(count=COUNT):
    found = nights()
    print(spread(found), end="\n\n")  # noqa: T201
    for backend in dict.fromkeys(each["backend"] for each in found):
        own = [each for each in found if each["backend"] == backend]
        print(backend, table(drawn(np.random.default_rng(0), own), int(count)), sep="\n\n", end="\n\n")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How soon slower nights are seen, and how seldom quiet ones called slower: `python -m tests.benchmarks.watch.speed`.

Nights are drawn from those that `nights.py` has measured: real trainings over the real reference, on a machine at rest
and on a busy one. A quiet series is drawn as it is; in a planted one the newest 20 nights take 10 % or 25 % longer. All
methods see the same series, one more night at a time. A number behind it is that of quiet series, 300 unless given, and
of the others there are a third. Otava gets a few of them, because it is slow, and none where it is not installed
(`otava.txt`).
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
COUNT = 300
HISTORY, QUIET, AFTER = 60, 100, 20
BATCHES = 5  # of the default study's 80 cells of a backend, by 16
PROCESSOR = 1  # the place of processor time, after that of the clock
STAYS = 0.8  # how likely the load of a night is that of the night before, where load lasts
OTAVA = 0.2  # of the series, because it is slow
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
        points, _ = compute_change_points(values[: night + 1].tolist(), **options)
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
        found["Otava, defaults"] = otava, OTAVA
        found["Otava, max_pvalue 1e-6"] = partial(otava, max_pvalue=1e-6), OTAVA
    return found


def errs(method, series):
    """Return in how many of 100 quiet nights a series raises something, and in what share of nights one of 56 does."""
    rate = sum(len(method(values, HISTORY)) for values in series) / (len(series) * QUIET)
    return 100 * rate, 1 - (1 - rate) ** SERIES


def finds(method, series):
    """Return the share of series whose step a method finds, and the median night in which it does, 1 for the first."""
    delays = [first(method(values, HISTORY)) for values in series]
    seen = [delay for delay in delays if delay is not None]
    return len(seen) / len(delays), np.median(seen) if seen else np.nan


def first(alarms):
    """Return in which night after the step, from 1 on, the first alarm comes that is about it; None without any."""
    about = [night - HISTORY + 1 for night, at in alarms if at >= HISTORY - 3]
    return min(about, default=None)


def first_of(series, share):
    return series[: int(share * len(series))]


def table(rng, measured, count):
    """Return a row per method, over series of the measured nights."""
    few = count // 3
    quiet = [nights(rng, measured, HISTORY + QUIET) for _ in range(count)]
    lasting = [nights(rng, measured, HISTORY + QUIET, stays=STAYS) for _ in range(few)]
    slower = {factor: np.r_[np.ones(HISTORY), np.full(AFTER, factor)] for factor in PLANTED}
    planted = {
        factor: [nights(rng, measured, HISTORY + AFTER) * times for _ in range(few)] for factor, times in slower.items()
    }
    rows = []
    for name, (method, share) in methods().items():
        told = {"method": name}
        told["alarms in 100 nights"], told["nights with one of 56"] = errs(method, first_of(quiet, share))
        told["alarms where load lasts"], _ = errs(method, first_of(lasting, share))
        for factor, series in planted.items():
            found = finds(method, first_of(series, share))
            told[f"{factor - 1:.0%} found"], told[f"{factor - 1:.0%}, nights"] = found
        rows.append(told)
        print(told, file=sys.stderr, flush=True)  # noqa: T201
    return tabulate(rows, headers="keys", floatfmt=".3g", tablefmt="github")


def processes():
    """Return what each process in `nights.jsonl` has measured: of each batch the seconds of training and reference.

    Both are (batches, 2): by the clock, and of the processor.
    """
    for line in NIGHTS.read_text().splitlines():
        told = json.loads(line)
        train = np.array([each["train"] for each in told["batches"]])
        beside = np.array([np.mean([*each["before"], *each["after"]], 0) for each in told["batches"]])
        yield {"backend": told["backend"], "busy": told["busy"], "train": train, "reference": beside}


def spread(measured):
    """Return a row per backend and load: how much batches scatter, in SDs of logarithms, with and without reference."""
    rows = []
    for backend in dict.fromkeys(each["backend"] for each in measured):
        own = [each for each in measured if each["backend"] == backend]
        for busy in (*sorted({each["busy"] for each in own}), "any"):
            some = [each for each in own if busy in (each["busy"], "any")]
            train, beside = (np.log(np.concatenate([each[name] for each in some])) for name in ("train", "reference"))
            row = {"backend": backend, "busy loops": busy, "batches": len(train)}
            for at, clock in enumerate(("clock", "processor")):
                row[f"{clock}, ms"] = 1000 * np.exp(np.median(train[:, at]))
                row[clock] = train[:, at].std(ddof=1)
                row[f"{clock} over reference"] = (train - beside)[:, at].std(ddof=1)
            rows.append(row)
    return tabulate(rows, headers="keys", floatfmt=".3g", tablefmt="github")


def nights(rng, measured, many, stays=0.0):
    """Return so many nights of a series: of each the training over the reference.

    A night is one of the processes, and some of its batches. stays: how likely it is the process of the night before.
    """
    values = []
    for night in range(many):
        if not night or rng.random() >= stays:
            process = measured[rng.choice(len(measured))]
        train, beside = (process[name][:, PROCESSOR] for name in ("train", "reference"))
        some = rng.permutation(len(train))[:BATCHES]
        values.append(train[some].sum() / beside[some].sum())
    return np.array(values)


def main(count=COUNT):
    """Print how much a batch scatters, and then for each backend what each method makes of the nights."""
    measured = [*processes()]
    print(spread(measured), end="\n\n")  # noqa: T201
    for backend in dict.fromkeys(each["backend"] for each in measured):
        own = [each for each in measured if each["backend"] == backend]
        print(backend, table(np.random.default_rng(0), own, int(count)), sep="\n\n", end="\n\n")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])

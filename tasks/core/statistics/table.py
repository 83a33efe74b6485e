"""The comparison: from one row a cell to one row a group.

A group is the cells of one backend, level of the factors and initializer, which differ in their seed alone.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import COUNTS, MEASURES, RANKED_MEASURES, SLOPES, Measure
from tasks.core.statistics import inference
from tasks.core.statistics.inference import Array
from tasks.core.statistics.measures import factors, lucky, samples, stepped

STATISTICS: tuple[inference.Statistic, ...] = ("mean", "iqm")
PARTS = ("mean", "geometric_mean", "sd", "low", "high", "iqm", "iqm_low", "iqm_high")
SUMMARIES = ("mean", "median", "finished", "diverged", "failed", "missed", "accuracy_low", "accuracy_high")


def compare(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per group, from cells with the columns `columns.CELLS`.

    Each measure has mean, standard deviation (n - 1) and interquartile mean (iqm), the means with the ends of their
    95 % intervals (low, high); they are over the values that `measures.sample` returns. A measure that is compared by
    ratios has its geometric mean, too. The columns `columns.COUNTS` say how many cells finished, diverged and failed.

    Levels stand in the order in which they come. Within a level the best group comes first: the one with the highest
    mean test accuracy and, among equals, the lowest geometric mean of the test loss. Groups of which less than half the
    cells finished come after the others, because their means rest on a few lucky cells.
    """
    keys = ["study", "backend", *factors(cells), "initializer"]
    grouped = cells.groupby(keys, sort=False)
    groups, places = dict(iter(grouped)), grouped.indices
    rows = [{**dict(zip(keys, key, strict=True)), **_counts(group)} for key, group in groups.items()]
    counts = pd.DataFrame(rows, columns=[*keys, *COUNTS])
    moments = _moments(cells, [np.asarray(places[key]) for key in groups])
    return _best_first(pd.concat([counts, moments, _slopes(list(groups.values()))], axis=1), factors(cells))


def _best_first(table: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    places = {f"place of {name}": table[name].map(_places(table[name])) for name in factors}
    order = dict.fromkeys(places, True)
    order |= {"lucky": True, **{measure.centre: not measure.higher_is_better for measure in RANKED_MEASURES}}
    order |= {"backend": True, "initializer": True}
    ranked = table.assign(lucky=lucky(table), **places)
    ranked = ranked.sort_values(list(order), ascending=list(order.values()), ignore_index=True)
    return ranked[table.columns]


def _places(values: pd.Series) -> dict[object, int]:
    return {value: place for place, value in enumerate(values.unique())}


def _counts(group: pd.DataFrame) -> dict[str, object]:
    """Return the columns `columns.COUNTS` of a group.

    health is the most frequent one, which health_cells have. A cell that missed the target counts as later than any
    epoch, so the median is infinite where most cells missed it.
    """
    counts, status = Counter(group["status"]), group["status"].to_numpy()
    (health, health_cells), *_ = [*Counter(word for word in group["health"].dropna() if word).most_common(1), ("", 0)]
    epochs = group["epochs_to_target"].to_numpy(np.float64)[status != "failed"]
    counted = np.where(np.isnan(epochs), np.inf, epochs)
    return {
        **{each: counts[each] for each in ("finished", "diverged", "failed")},
        "health": health,
        "health_cells": health_cells,
        "epochs_to_target_median": float(np.median(counted)) if len(epochs) else np.nan,
        "target_missed": int(np.isnan(epochs).sum()),
    }


def _moments(cells: pd.DataFrame, groups: Sequence[NDArray[np.int64]]) -> pd.DataFrame:
    """Return the columns `<measure>_<part>` of each group, for every measure and part of PARTS.

    groups: the places of each group's rows.
    """
    by_group = zip(*(samples(cells, measure, groups) for measure in MEASURES), strict=True)
    own = [sample for of_group in by_group for sample in of_group]
    known = [measure for at in groups for measure in stepped(cells.iloc[at])]
    found = np.full((len(own), len(PARTS)), np.nan)
    for size in {len(each) for each in own} - {0}:  # samples of one size are resampled together
        at = [place for place, each in enumerate(own) if len(each) == size]
        found[at] = _parts(np.stack([own[place] for place in at]), [known[place] for place in at])
    names = [f"{measure.name}_{part}" for measure in MEASURES for part in PARTS]
    table = pd.DataFrame(found.reshape(len(groups), len(names)), columns=names)
    return table.drop(columns=[f"{measure.name}_geometric_mean" for measure in MEASURES if measure.scale != "ratio"])


def _parts(samples: Array, known: Sequence[Measure]) -> Array:
    """Return PARTS, (k, parts), of samples (k, n) of k measures.

    Ends of intervals lie between the measure's least and largest value, which Student's t does not know of.
    """
    k, n = samples.shape
    steps, least, largest = (
        np.array([getattr(measure, name) for measure in known]) for name in ("step", "least", "largest")
    )
    sd = samples.std(axis=1, ddof=1) if n > 1 else np.full(k, np.nan)
    mean, iqm = (inference.point(samples, statistic) for statistic in STATISTICS)
    geometric = [measure.unscaled(measure.scaled(own).mean()) for measure, own in zip(known, samples, strict=True)]
    ends = [
        np.clip(end, least, largest)
        for statistic in STATISTICS
        for end in inference.intervals(samples, statistic, steps=steps, seed=inference.BOOTSTRAP_SEED)
    ]
    return np.stack([mean, np.array(geometric), sd, *ends[:2], iqm, *ends[2:]], axis=1)


def _slopes(groups: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.DataFrame({f"{name}_mean": [group[name].mean() for group in groups] for name in SLOPES})


def interval(row: pd.Series, measure: str) -> str:
    """Return a measure's mean and, in brackets, its interval, of a row of the comparison.

    >>> interval(pd.Series({"test_loss_mean": 0.2, "test_loss_low": 0.1, "test_loss_high": 0.3}), "test_loss")
    '0.200 [0.100, 0.300]'
    """
    mean, low, high = (row[f"{measure}_{part}"] for part in ("mean", "low", "high"))
    if np.isnan(low):
        return "" if np.isnan(mean) else f"{mean:.3f}"
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def metrics(comparison: pd.DataFrame) -> dict[str, float]:
    """Return the summaries of each group under `backend/levels/initializer/summary`, as the store names metrics.

    A summary that is not finite, such as an infinite median, is left out.
    """
    names = list(comparison.columns)
    keys = names[1 : names.index("initializer") + 1]
    found = {}
    for _, row in comparison.iterrows():
        group = "/".join(_storable(str(row[key])) for key in keys)
        for measure in comparison.columns.drop(["study", *keys, "health"]):
            if measure.endswith(SUMMARIES) and np.isfinite(row[measure]):
                found[f"{group}/{measure}"] = float(row[measure])
    return found


def _storable(text: str) -> str:
    """Return a text in the characters that the store allows in the name of a metric.

    >>> _storable("mean_field(sigma_w=1.5, sigma_b=0.1)")
    'mean_field sigma_w 1.5 sigma_b 0.1'
    """
    return " ".join(re.sub(r"[^\w.\- ]", " ", text).split())

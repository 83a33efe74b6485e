"""The comparison: from one row a cell to one row a backend and initializer, and its text."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from tabulate import tabulate

from tasks.core.design.columns import MEASURES, RANKED
from tasks.core.design.initializers import Backend, named
from tasks.core.design.study import Study
from tasks.core.statistics import inference
from tasks.core.statistics.measures import factors, lucky, measures, sample

STATISTICS: tuple[inference.Statistic, ...] = ("mean", "iqm")
PARTS = ("mean", "sd", "low", "high", "iqm", "iqm_low", "iqm_high")
BOOTSTRAP_SEED = 0
SLOPES = ("forward_slope", "forward_slope_theory", "backward_slope", "backward_slope_theory")
SUMMARIES = ("mean", "median", "finished", "diverged", "failed", "missed", "accuracy_low", "accuracy_high")
COPIED = "†"  # marks initializers that are drawn in NumPy and copied into both backends
REASONS = 3  # told below the table; cells.csv has all
REPORTED_DIGITS = 4  # of accuracies published elsewhere


def compare(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per backend, level of the factors and initializer, from rows of `columns.CELLS`.

    Levels stand in the order in which they come, within them the best is first. Of each measure there are mean,
    standard deviation (n - 1) and interquartile mean (iqm), the latter and the mean with 95 % intervals (low, high),
    over what `measures.sample` takes; diverged and failed cells are counted. Best is the highest mean test
    accuracy, then the lowest mean test loss; groups of which less than half the cells finished come after the others,
    for the rest were lucky.
    """
    keys = ["study", "backend", *factors(cells), "initializer"]
    groups = dict(iter(cells.groupby(keys, sort=False)))
    table = pd.DataFrame([_row(dict(zip(keys, key, strict=True)), group) for key, group in groups.items()])
    table = pd.concat([table, _moments(list(groups.values())), _slopes(list(groups.values()))], axis=1)
    places = {f"place of {name}": table[name].map(_places(table[name])) for name in factors(cells)}
    order = dict.fromkeys(places, True)
    order |= {"lucky": True, "test_accuracy_mean": False, "test_loss_mean": True, "backend": True, "initializer": True}
    ranked = table.assign(lucky=lucky(table), **places)
    ranked = ranked.sort_values(list(order), ascending=list(order.values()), ignore_index=True)
    return ranked[table.columns]


def _places(values: pd.Series) -> dict[object, int]:
    return {value: place for place, value in enumerate(values.unique())}


def _row(row: dict[str, object], group: pd.DataFrame) -> dict[str, object]:
    counts = group["status"].value_counts()
    row |= {status: int(counts.get(status, 0)) for status in ("finished", "diverged", "failed")}
    health = group["health"][group["health"] != ""].value_counts()
    row["health"] = "" if health.empty else str(health.index[0])
    row["health_cells"] = 0 if health.empty else int(health.iloc[0])
    epochs = group.loc[group["status"] != "failed", "epochs_to_target"].to_numpy(np.float64)
    counted = np.where(np.isnan(epochs), np.inf, epochs)  # a miss is later than any epoch
    row["epochs_to_target_median"] = float(np.median(counted)) if len(epochs) else np.nan
    row["target_missed"] = int(np.isnan(epochs).sum())
    return row


def _moments(groups: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return moments and intervals of each measure of each group; samples of one size are resampled together."""
    samples = [sample(group, measure.name) for group in groups for measure in MEASURES]
    steps, limits = (
        np.array([getattr(measure, name) for group in groups for measure in measures(group)])
        for name in ("step", "largest")
    )
    found = np.full((len(samples), len(PARTS)), np.nan)
    for size in {len(each) for each in samples} - {0}:
        at = [place for place, each in enumerate(samples) if len(each) == size]
        alike = np.stack([samples[place] for place in at])
        sd = alike.std(axis=1, ddof=1) if size > 1 else np.full(len(at), np.nan)
        mean, iqm = (inference.point(alike, statistic) for statistic in STATISTICS)
        ends = [
            end for each in STATISTICS for end in inference.intervals(alike, each, steps=steps[at], seed=BOOTSTRAP_SEED)
        ]
        most = limits[at]  # Student's intervals know of none
        ends = [np.clip(end, 0, most) for end in ends]
        found[at] = np.stack([mean, sd, *ends[:2], iqm, *ends[2:]], axis=1)
    names = [f"{measure.name}_{part}" for measure in MEASURES for part in PARTS]
    return pd.DataFrame(found.reshape(len(groups), len(names)), columns=names)


def _slopes(groups: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.DataFrame([{f"{name}_mean": group[name].mean() for name in SLOPES} for group in groups])


def shown(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison as people read it: rounded, with intervals in brackets, without empty columns."""
    names = list(comparison.columns)
    between = names[names.index("backend") + 1 : names.index("initializer")]
    table = pd.DataFrame(
        {
            **{name: comparison[name] for name in ("backend", *between)},
            "initializer": comparison["initializer"].map(_marked),
            "cells": comparison.apply(_cells, axis=1),
            **{name: column for measure in RANKED for name, column in _shown_measure(comparison, measure)},
            "epochs to target": comparison.apply(_epochs, axis=1),
            "health": comparison.apply(_health, axis=1),
            "forward": comparison.apply(_a_layer, axis=1, args=("forward",)),
            "backward": comparison.apply(_a_layer, axis=1, args=("backward",)),
            "ms/cell": comparison["train_seconds_mean"].map(lambda seconds: _number(1000 * seconds, 1)),
        }
    )
    empty = [name for name in ("forward", "backward") if not table[name].any()]
    return table.drop(columns=empty)


def _shown_measure(comparison: pd.DataFrame, measure: str) -> Iterator[tuple[str, pd.Series]]:
    title = measure.replace("_", " ")
    yield title, comparison.apply(interval, axis=1, args=(measure,))
    if f"{measure}_against_best" in comparison:
        yield f"{title}: against best", comparison[f"{measure}_against_best"]


def _marked(initializer: str) -> str:
    return initializer if named(initializer).law.native else f"{initializer} {COPIED}"


def _cells(row: pd.Series) -> str:
    others = [f"{row[status]} {status}" for status in ("diverged", "failed") if row[status]]
    return ", ".join([str(row["finished"]), *others])


def _health(row: pd.Series) -> str:
    cells = row["finished"] + row["diverged"]
    return row["health"] if row["health_cells"] == cells else f"{row['health']} {row['health_cells']}/{cells}"


def _a_layer(row: pd.Series, direction: str) -> str:
    measured, theory = (np.exp(row[f"{direction}_slope{part}_mean"]) for part in ("", "_theory"))
    if np.isnan(measured):
        return ""
    return f"×{measured:.2g}" if np.isnan(theory) else f"×{measured:.2g} (×{theory:.2g})"


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def interval(row: pd.Series, measure: str) -> str:
    """Return a measure's mean and, in brackets, its interval."""
    mean, low, high = (row[f"{measure}_{part}"] for part in ("mean", "low", "high"))
    return _number(mean, 3) if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _epochs(row: pd.Series) -> str:
    if np.isnan(row["epochs_to_target_median"]):
        return ""
    median = "never" if np.isinf(row["epochs_to_target_median"]) else f"{row['epochs_to_target_median']:g}"
    return f"{median} ({row['target_missed']} missed)" if row["target_missed"] else median


def notes(study: Study, cells: pd.DataFrame) -> list[str]:
    """Return what has to be known to read the table, the gravest first."""
    lines = []
    left_out = cells["status"].value_counts().drop("finished", errors="ignore")
    if len(left_out):
        counts = " and ".join(f"{count} {status}" for status, count in left_out.items())
        lines.append(f"Means and intervals leave out {counts} cells.")
    reasons = cells.loc[cells["status"] == "failed", "reason"].value_counts()
    lines += [f"{count} failed with: {reason}" for reason, count in reasons.head(REASONS).items()]
    if copied := [name for name in study.initializers if not named(name).law.native]:
        lines.append(f"{COPIED} Drawn once in NumPy and copied into both backends: {', '.join(copied)}.")
    if study.network.bias == "zeros" and "pytorch_default" in study.initializers:
        lines.append("pytorch_default is here PyTorch's default for kernels alone: network.bias starts biases at zero.")
    rows = sorted(cells["test_rows"].dropna().astype(int).unique())
    steps = ", ".join(f"{1 / each:.3f}" for each in rows) or "unknown size"
    lines.append(
        f"Test accuracy moves in steps of {steps}: one of {', '.join(map(str, rows))} test samples. Brackets are the "
        "95 % interval of the mean over seeds."
    )
    if cells[list(SLOPES)].notna().any(axis=None):
        lines.append(
            "forward, backward: by what factor the variance of pre-activations, and of the gradient in them, changes "
            "from one hidden layer to the next in its direction at the start; in brackets, what theory expects."
        )
    lines.append(
        f"Epochs to target: the median epoch at which test accuracy first reached {study.target:g}, misses counted as "
        "never. ms/cell: a cell's share of its batch's training time."
    )
    return lines


def validity(lines: Sequence[str], misbehaved: Sequence[str]) -> list[str]:
    """Return what the controls say of a benchmark, from a line for each of their claims and those that do not hold."""
    if misbehaved:
        return [f"INVALID, for controls misbehaved: {'; '.join(misbehaved)}. Trust nothing below.", *lines]
    return [f"Controls behaved. {'. '.join(lines)}."]


def placed(study: Study, cells: pd.DataFrame) -> list[str]:
    """Return where accuracies published elsewhere are in the distribution over seeds, in words."""
    return [
        _placed(backend, initializer, value, cells)
        for backend, value in study.reported.items()
        if backend in study.backends
        for initializer in study.initializers
    ]


def _placed(backend: Backend, initializer: str, value: float, cells: pd.DataFrame) -> str:
    group = f"{backend} · {initializer}"
    finished = cells[
        (cells["backend"] == backend) & (cells["initializer"] == initializer) & (cells["status"] == "finished")
    ]
    sample = finished["test_accuracy"].to_numpy(np.float64)
    if not len(sample):
        return f"The reported {value:.4f} cannot be placed among {group}: no cell of it finished."
    percentile = inference.percentile_of(value, sample, digits=REPORTED_DIGITS)
    return (
        f"The reported {value:.4f} is at percentile {percentile:.0f} of {group} over "
        f"{len(sample)} seeds (ties counted half), which run from {sample.min():.4f} to {sample.max():.4f} with mean "
        f"{sample.mean():.4f}."
    )


def as_text(comparison: pd.DataFrame, notes: Sequence[str], style: str) -> str:
    """Return the comparison as a table in a style of tabulate's (`simple`, `github`), its notes below."""
    body = tabulate(shown(comparison).to_dict("list"), headers="keys", tablefmt=style, disable_numparse=True)
    return "\n\n".join([body, *notes]) + "\n"


def metrics(comparison: pd.DataFrame) -> dict[str, float]:
    """Return each group's aggregates under `backend/levels/initializer/measure`, those that have no number left out."""
    names = list(comparison.columns)
    keys = names[1 : names.index("initializer") + 1]
    found = {}
    for _, row in comparison.iterrows():
        group = "/".join(_plain(str(row[key])) for key in keys)
        for measure in comparison.columns.drop(["study", *keys, "health"]):
            if measure.endswith(SUMMARIES) and np.isfinite(row[measure]):
                found[f"{group}/{measure}"] = float(row[measure])
    return found


def _plain(text: str) -> str:
    """Return a text in the characters that MLflow allows in the name of a metric.

    >>> _plain("mean_field(sigma_w=1.5, sigma_b=0.1)")
    'mean_field sigma_w 1.5 sigma_b 0.1'
    """
    return " ".join(re.sub(r"[^\w.\- ]", " ", text).split())

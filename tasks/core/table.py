"""The comparison: from one row a cell to one row a backend and initializer, and its text."""

import re
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from tabulate import tabulate

from tasks.core import inference
from tasks.core.initializers import Backend, named
from tasks.core.study import CellMeasure, Study, short

CELL_COLUMNS = (
    "study",
    "backend",
    "initializer",
    "seed",
    "status",
    "verdict",
    *get_args(CellMeasure),
    "train_seconds",
    "run_id",
    "reason",
)
"""One row a cell, the factors' columns behind the backend. epochs_to_target is empty where the target was missed; a
failed cell has a reason, no measures."""

MEASURES = ("test_accuracy", "test_loss")
BOOTSTRAP_SEED = 0
SLOPES = ("forward_slope", "forward_slope_theory", "backward_slope", "backward_slope_theory")
COPIED = "†"  # marks initializers that are drawn in NumPy and copied into both backends
REASONS = 3  # told below the table; cells.csv has all
REPORTED_DIGITS = 4  # of accuracies published elsewhere


def columns(study: Study) -> tuple[str, ...]:
    """Return the columns of a study's cells."""
    return (*CELL_COLUMNS[:2], *map(short, study.factors), *CELL_COLUMNS[2:])


def factors(cells: pd.DataFrame) -> list[str]:
    """Return the columns of cells that are factors."""
    return [name for name in cells.columns if name not in CELL_COLUMNS]


def compare(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per backend, level of the factors and initializer, from rows of `columns`.

    Levels stand in the order in which they come, within them the best is first. Means, standard deviations (n - 1) and
    95 % bootstrap intervals are over the finished cells; diverged and failed ones are counted. Best is the highest mean
    test accuracy, then the lowest mean test loss; groups of which less than half the cells finished come after the
    others, for the rest were lucky.
    """
    keys = ["study", "backend", *factors(cells), "initializer"]
    table = pd.DataFrame(
        [_row(dict(zip(keys, key, strict=True)), group) for key, group in cells.groupby(keys, sort=False)]
    )
    cells_each = table[["finished", "diverged", "failed"]].sum(axis=1)
    places = {f"place of {name}": table[name].map(_places(table[name])) for name in factors(cells)}
    order = dict.fromkeys(places, True)
    order |= {"lucky": True, "test_accuracy_mean": False, "test_loss_mean": True, "backend": True, "initializer": True}
    ranked = table.assign(lucky=2 * table["finished"] < cells_each, **places)
    ranked = ranked.sort_values(list(order), ascending=list(order.values()), ignore_index=True)
    return ranked[table.columns]


def _places(values: pd.Series) -> dict[object, int]:
    return {value: place for place, value in enumerate(values.unique())}


def _row(row: dict[str, object], group: pd.DataFrame) -> dict[str, object]:
    counts = group["status"].value_counts()
    finished = group[group["status"] == "finished"]
    row |= {status: int(counts.get(status, 0)) for status in ("finished", "diverged", "failed")}
    verdicts = group["verdict"][group["verdict"] != ""].value_counts()
    row["verdict"] = "" if verdicts.empty else str(verdicts.index[0])
    row["verdict_cells"] = 0 if verdicts.empty else int(verdicts.iloc[0])
    for measure in MEASURES:
        sample = finished[measure].to_numpy(np.float64)
        row[f"{measure}_mean"] = sample.mean() if len(sample) else np.nan
        row[f"{measure}_sd"] = sample.std(ddof=1) if len(sample) > 1 else np.nan
        row[f"{measure}_low"], row[f"{measure}_high"] = inference.bootstrap_interval(sample, seed=BOOTSTRAP_SEED)
    epochs = group.loc[group["status"] != "failed", "epochs_to_target"].to_numpy(np.float64)
    counted = np.where(np.isnan(epochs), np.inf, epochs)  # a miss is later than any epoch
    row["epochs_to_target_median"] = float(np.median(counted)) if len(epochs) else np.nan
    row["target_missed"] = int(np.isnan(epochs).sum())
    row["train_seconds_mean"] = finished["train_seconds"].mean()
    return row | {f"{name}_mean": group[name].mean() for name in SLOPES}


def shown(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison as people read it: rounded, with intervals in brackets, without empty columns."""
    names = list(comparison.columns)
    between = names[names.index("backend") + 1 : names.index("initializer")]
    table = pd.DataFrame(
        {
            **{name: comparison[name] for name in ("backend", *between)},
            "initializer": comparison["initializer"].map(_marked),
            "cells": comparison.apply(_cells, axis=1),
            **{measure.replace("_", " "): comparison.apply(_interval, axis=1, args=(measure,)) for measure in MEASURES},
            "epochs to target": comparison.apply(_epochs, axis=1),
            "verdict": comparison.apply(_verdict, axis=1),
            "forward": comparison.apply(_a_layer, axis=1, args=("forward",)),
            "backward": comparison.apply(_a_layer, axis=1, args=("backward",)),
            "ms/cell": comparison["train_seconds_mean"].map(lambda seconds: _number(1000 * seconds, 1)),
        }
    )
    empty = [name for name in ("forward", "backward") if not table[name].any()]
    return table.drop(columns=empty)


def _marked(initializer: str) -> str:
    return initializer if named(initializer).law.native else f"{initializer} {COPIED}"


def _cells(row: pd.Series) -> str:
    others = [f"{row[status]} {status}" for status in ("diverged", "failed") if row[status]]
    return ", ".join([str(row["finished"]), *others])


def _verdict(row: pd.Series) -> str:
    cells = row["finished"] + row["diverged"]
    return row["verdict"] if row["verdict_cells"] == cells else f"{row['verdict']} {row['verdict_cells']}/{cells}"


def _a_layer(row: pd.Series, direction: str) -> str:
    measured, theory = (np.exp(row[f"{direction}_slope{part}_mean"]) for part in ("", "_theory"))
    if np.isnan(measured):
        return ""
    return f"×{measured:.2g}" if np.isnan(theory) else f"×{measured:.2g} (×{theory:.2g})"


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def _interval(row: pd.Series, measure: str) -> str:
    mean, sd, low, high = (row[f"{measure}_{part}"] for part in ("mean", "sd", "low", "high"))
    if np.isnan(sd):
        return _number(mean, 3)
    return f"{mean:.3f} ± {sd:.3f} [{low:.3f}, {high:.3f}]"


def _epochs(row: pd.Series) -> str:
    if np.isnan(row["epochs_to_target_median"]):
        return ""
    median = "never" if np.isinf(row["epochs_to_target_median"]) else f"{row['epochs_to_target_median']:g}"
    return f"{median} ({row['target_missed']} missed)" if row["target_missed"] else median


def notes(study: Study, cells: pd.DataFrame, test_rows: int) -> list[str]:
    """Return what has to be known to read the table, the gravest first."""
    differences = study.backend_differences()
    lines = [f"The backends are not comparable: they differ in {'; '.join(differences)}."] if differences else []
    left_out = cells["status"].value_counts().drop("finished", errors="ignore")
    if len(left_out):
        counts = " and ".join(f"{count} {status}" for status, count in left_out.items())
        lines.append(f"Means and intervals leave out {counts} cells.")
    reasons = cells.loc[cells["status"] == "failed", "reason"].value_counts()
    lines += [f"{count} failed with: {reason}" for reason, count in reasons.head(REASONS).items()]
    lines += [
        _placed(backend, initializer, value, cells)
        for backend, value in study.reported.items()
        if backend in study.backends
        for initializer in study.initializers
    ]
    if copied := [name for name in study.initializers if not named(name).law.native]:
        lines.append(f"{COPIED} Drawn once in NumPy and copied into both backends: {', '.join(copied)}.")
    if study.network.bias == "zeros" and "pytorch_default" in study.initializers:
        lines.append("pytorch_default is here PyTorch's default for kernels alone: network.bias starts biases at zero.")
    lines.append(
        f"Test accuracy moves in steps of {1 / test_rows:.3f}: one of {test_rows} test samples. ± is the standard "
        f"deviation over seeds, brackets are the 95 % bootstrap interval of the mean."
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
        for measure in comparison.columns.drop(["study", *keys, "verdict"]):
            if np.isfinite(row[measure]):
                found[f"{group}/{measure}"] = float(row[measure])
    return found


def _plain(text: str) -> str:
    """Return a text in the characters that MLflow allows in the name of a metric.

    >>> _plain("mean_field(sigma_w=1.5, sigma_b=0.1)")
    'mean_field sigma_w 1.5 sigma_b 0.1'
    """
    return " ".join(re.sub(r"[^\w.\- ]", " ", text).split())

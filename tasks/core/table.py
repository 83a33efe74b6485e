"""The comparison: from one row a cell to one row a backend and initializer, and its text."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tabulate import tabulate

from tasks.core import inference
from tasks.core.initializers import Backend
from tasks.core.study import Study

CELL_COLUMNS = (
    "study",
    "backend",
    "initializer",
    "seed",
    "status",
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "train_loss",
    "epochs_to_target",
    "train_seconds",
    "run_id",
    "reason",
)
"""One row a cell. epochs_to_target is empty where the target was missed; a failed cell has a reason, no measures."""

MEASURES = ("test_accuracy", "test_loss")
BOOTSTRAP_SEED = 0
REASONS = 3  # told below the table; cells.csv has all
REPORTED_DIGITS = 4  # of accuracies published elsewhere


def compare(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per backend and initializer, best first, from rows of CELL_COLUMNS.

    Means, standard deviations (n - 1) and 95 % bootstrap intervals are over the finished cells; diverged and failed
    ones are counted. Best is the highest mean test accuracy, then the lowest mean test loss; groups of which less than
    half the cells finished come after the others, for the rest were lucky.
    """
    rows = [_row(keys, group) for keys, group in cells.groupby(["study", "backend", "initializer"], sort=False)]
    table = pd.DataFrame(rows)
    cells_each = table[["finished", "diverged", "failed"]].sum(axis=1)
    order = {"lucky": True, "test_accuracy_mean": False, "test_loss_mean": True, "backend": True, "initializer": True}
    ranked = table.assign(lucky=2 * table["finished"] < cells_each)
    return ranked.sort_values(list(order), ascending=list(order.values()), ignore_index=True).drop(columns="lucky")


def _row(keys: Sequence[object], group: pd.DataFrame) -> dict[str, object]:
    counts = group["status"].value_counts()
    finished = group[group["status"] == "finished"]
    row: dict[str, object] = dict(zip(("study", "backend", "initializer"), keys, strict=True))
    row |= {status: int(counts.get(status, 0)) for status in ("finished", "diverged", "failed")}
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
    return row


def shown(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison as people read it: rounded, with intervals in brackets."""
    return pd.DataFrame(
        {
            "backend": comparison["backend"],
            "initializer": comparison["initializer"],
            "finished": comparison["finished"],
            "diverged": comparison["diverged"],
            "failed": comparison["failed"],
            **{measure.replace("_", " "): comparison.apply(_interval, axis=1, args=(measure,)) for measure in MEASURES},
            "epochs to target": comparison.apply(_epochs, axis=1),
            "ms/cell": comparison["train_seconds_mean"].map(lambda seconds: _number(1000 * seconds, 1)),
        }
    )


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
    if study.network.bias == "zeros" and "pytorch_default" in study.initializers:
        lines.append("pytorch_default is here PyTorch's default for kernels alone: network.bias starts biases at zero.")
    lines.append(
        f"Test accuracy moves in steps of {1 / test_rows:.3f}: one of {test_rows} test samples. ± is the standard "
        f"deviation over seeds, brackets are the 95 % bootstrap interval of the mean."
    )
    lines.append(
        f"Epochs to target: the median epoch at which test accuracy first reached {study.target:g}, misses counted as "
        "never. ms/cell: a cell's share of its batch's training time."
    )
    return lines


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
    """Return each group's aggregates under `backend/initializer/measure`, those that have no number left out."""
    named = {
        f"{row['backend']}/{row['initializer']}/{measure}": float(row[measure])
        for _, row in comparison.iterrows()
        for measure in comparison.columns.drop(["study", "backend", "initializer"])
    }
    return {name: value for name, value in named.items() if np.isfinite(value)}

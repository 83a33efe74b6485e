"""Pictures of a comparison."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tasks.core.parity import BOUNDS

COLOURS = {"pytorch": "#D55E00", "keras": "#0072B2"}  # Okabe & Ito (2008): told apart by colour-blind readers
OPTIMIZER_COLOURS = ("#009E73", "#CC79A7")  # of the same palette
APART = 0.17  # half the distance between two backends' rows, of 1 between initializers
JITTER = 0.09  # cells are spread so much around their row, for accuracies are often equal


def intervals(cells: pd.DataFrame, comparison: pd.DataFrame) -> Figure:
    """Draw test accuracy and test loss by initializer: each finished cell, the mean and its 95 % interval."""
    initializers = list(dict.fromkeys(comparison["initializer"]))[::-1]
    figure = Figure(figsize=(11, 1.6 + 0.5 * len(initializers)), layout="constrained")
    accuracy, loss = figure.subplots(1, 2, sharey=True)
    for axes, measure in ((accuracy, "test_accuracy"), (loss, "test_loss")):
        for backend, summary in comparison.groupby("backend"):
            side = APART if backend == "pytorch" else -APART
            rows = {name: place + side for place, name in enumerate(initializers)}
            finished = cells[(cells["backend"] == backend) & (cells["status"] == "finished")]
            _draw(axes, str(backend), measure, rows, finished, summary)
        axes.grid(axis="x", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    accuracy.set_xlabel("test accuracy (higher is better)")
    accuracy.set_yticks(range(len(initializers)), initializers)
    loss.set_xlabel("test loss (lower is better)")
    if comparison["test_loss_mean"].gt(0).any():
        loss.set_xscale("log")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw(
    axes: Axes, backend: str, measure: str, rows: dict[str, float], finished: pd.DataFrame, summary: pd.DataFrame
) -> None:
    spread = np.random.default_rng(0).uniform(-JITTER, JITTER, len(finished))
    axes.scatter(
        finished[measure],
        finished["initializer"].map(rows).astype(float) + spread,
        s=9,
        alpha=0.35,
        color=COLOURS[backend],
    )
    mean = summary[f"{measure}_mean"]
    axes.errorbar(
        mean,
        summary["initializer"].map(rows),
        xerr=[(mean - summary[f"{measure}_low"]).clip(lower=0), (summary[f"{measure}_high"] - mean).clip(lower=0)],
        fmt="o",
        markersize=6,
        capsize=3,
        color=COLOURS[backend],
        label=f"{backend}: mean and 95 % interval; small dots are single seeds",
    )


def parity(gaps: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Draw the largest weight difference between the backends after each step, and its bound, by optimizer."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for colour, (optimizer, gap) in zip(OPTIMIZER_COLOURS, gaps.items(), strict=True):
        axes.plot(gap, color=colour, label=optimizer)
        axes.axhline(BOUNDS[optimizer], color=colour, linestyle="--", label=f"{optimizer}: bound")
    axes.set(xlabel="step", ylabel="largest weight difference between backends", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure

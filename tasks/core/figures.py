"""Pictures of a comparison.

An initializer has the same colour and marker in all of them; a backend is a line's dashes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tasks.core import inference
from tasks.core.initializers import registry
from tasks.core.parity import BOUNDS

COLOURS = {"pytorch": "#D55E00", "keras": "#0072B2"}  # Okabe & Ito (2008): told apart by colour-blind readers
DASHES = {"pytorch": "-", "keras": "--"}
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8C7A00")  # yellow darkened
MARKERS = "osD^vPX*<>"
OPTIMIZER_COLOURS = ("#009E73", "#CC79A7")  # of the same palette
APART = 0.17  # half the distance between two backends' rows, of 1 between initializers
JITTER = 0.09  # cells are spread so much around their row, for accuracies are often equal
PANELS = 24  # of one picture; more could not be read
ACROSS = 6
MARKED = 8  # markers along a curve
BAND_SEED = 0


@dataclass(frozen=True)
class Style:
    """How an initializer is drawn."""

    colour: tuple[float, float, float]
    marker: str


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """Return each initializer's style, fixed by its name; those of one name and several parameters go dark to light."""
    names = list(registry())
    alike: dict[str, list[str]] = {}
    for label in sorted(set(labels), key=list(labels).index):
        alike.setdefault(label.partition("(")[0], []).append(label)
    found = {}
    for name, group in alike.items():
        place = names.index(name)
        base = np.array(to_rgb(PALETTE[place % len(PALETTE)]))
        for rank, label in enumerate(group):
            lightness = 0.75 * rank / len(group)
            colour = tuple((1 - lightness) * base + lightness)
            found[label] = Style(colour, MARKERS[(place // len(PALETTE) + 3 * rank) % len(MARKERS)])  # type: ignore[arg-type]
    return found


def intervals(cells: pd.DataFrame, comparison: pd.DataFrame) -> Figure:
    """Draw test accuracy and test loss by initializer: each finished cell, the mean and its 95 % interval."""
    cells, comparison = (frame.assign(row=_rows(frame)) for frame in (cells, comparison))
    names = list(dict.fromkeys(comparison["row"]))[::-1]
    figure = Figure(figsize=(11, 1.6 + 0.5 * len(names)), layout="constrained")
    accuracy, loss = figure.subplots(1, 2, sharey=True)
    for axes, measure in ((accuracy, "test_accuracy"), (loss, "test_loss")):
        for backend, summary in comparison.groupby("backend"):
            side = APART if backend == "pytorch" else -APART
            rows = {name: place + side for place, name in enumerate(names)}
            finished = cells[(cells["backend"] == backend) & (cells["status"] == "finished")]
            _draw(axes, str(backend), measure, rows, finished, summary)
        axes.grid(axis="x", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    accuracy.set_xlabel("test accuracy (higher is better)")
    accuracy.set_yticks(range(len(names)), names)
    loss.set_xlabel("test loss (lower is better)")
    if comparison["test_loss_mean"].gt(0).any():
        loss.set_xscale("log")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def _rows(frame: pd.DataFrame) -> list[str]:
    """Return each row's levels and initializer, joined; they stand between the backend and what was measured."""
    names = list(frame.columns)
    keys = names[names.index("backend") + 1 : names.index("initializer") + 1]
    return [" · ".join(map(str, row)) for row in frame[keys].itertuples(index=False)]


def _draw(
    axes: Axes, backend: str, measure: str, rows: dict[str, float], finished: pd.DataFrame, summary: pd.DataFrame
) -> None:
    spread = np.random.default_rng(0).uniform(-JITTER, JITTER, len(finished))
    axes.scatter(
        finished[measure],
        finished["row"].map(rows).astype(float) + spread,
        s=9,
        alpha=0.35,
        color=COLOURS[backend],
    )
    mean = summary[f"{measure}_mean"]
    axes.errorbar(
        mean,
        summary["row"].map(rows),
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


def variances(layers: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """Draw the variance of pre-activations and of their gradient by layer at the start, with the lines of theory.

    `layers` has the rows of every cell's `layers.csv`. Lines are medians over seeds, bands reach from quartile to
    quartile, dots are theory. A gradient is drawn as a multiple of the last hidden layer's.
    """
    cell = layers.groupby(["backend", *factors, "initializer", "seed"])
    last = cell["gradient_variance"].transform(lambda values: values.iloc[-2] if len(values) > 1 else np.nan)
    hidden = layers["layer"] < cell["layer"].transform("max")
    layers = layers.assign(backward=(layers["gradient_variance"] / last).where(hidden))
    looks = styles(layers["initializer"].unique())
    panels = _panels(layers, factors)
    figure, columns = _grid(len(panels), 2)
    for (title, part), (forward, backward) in zip(panels, columns, strict=True):
        forward.set_title(title, fontsize=9)
        for axes, measured, theory in (
            (forward, "pre_activation_variance", "theory_forward"),
            (backward, "backward", "theory_backward"),
        ):
            for (label, backend), group in part.groupby(["initializer", "backend"], sort=False):
                by_layer = group[group[measured] > 0].groupby("layer")
                quartiles = (by_layer[measured].quantile(share) for share in (0.25, 0.5, 0.75))
                _curve(axes, *quartiles, looks[label], str(backend))
                expected = by_layer[theory].median()
                axes.plot(expected.index, expected, ":", color=looks[label].colour, linewidth=2.5)
            axes.set_yscale("log")
        backward.set_xlabel("layer")
    columns[0, 0].set_ylabel("variance of pre-activations")
    columns[0, 1].set_ylabel("variance of the gradient,\nlast hidden layer = 1")
    dots = Line2D([], [], color="0.3", linestyle=":", linewidth=2.5, label="mean-field theory")
    _legend(figure, looks, layers["backend"].unique(), dots)
    return figure


def curves(history: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """Draw train loss and test accuracy by epoch: the mean over seeds and its 95 % interval.

    `history` has the rows of every cell's `history.csv`.
    """
    looks = styles(history["initializer"].unique())
    panels = _panels(history, factors)
    figure, columns = _grid(len(panels), 2)
    for (title, part), (loss, accuracy) in zip(panels, columns, strict=True):
        loss.set_title(title, fontsize=9)
        for axes, measure in ((loss, "train_loss"), (accuracy, "test_accuracy")):
            for (label, backend), group in part.groupby(["initializer", "backend"], sort=False):
                seeds = group.pivot_table(index="seed", columns="epoch", values=measure).dropna(axis=1)
                low, high = inference.bootstrap_band(seeds.to_numpy(np.float64), seed=BAND_SEED)
                index = seeds.columns
                _curve(axes, pd.Series(low, index), seeds.mean(), pd.Series(high, index), looks[label], str(backend))
        loss.set_yscale("log")
        accuracy.set_ylim(0, 1.02)
        accuracy.set_xlabel("epoch")
    columns[0, 0].set_ylabel("train loss")
    columns[0, 1].set_ylabel("test accuracy")
    _legend(figure, looks, history["backend"].unique())
    return figure


def gradients(history: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """Draw the norm of each layer's weight gradient by epoch: the median over seeds, white where there is none.

    `history` has the rows of every cell's `history.csv`.
    """
    columns = [name for name in history.columns if name.startswith("gradient_norm/")]
    keys = [*factors, "initializer", "backend"]
    medians = history[history["epoch"] > 0].groupby([*keys, "epoch"], sort=False)[columns].median().reset_index()
    panels = _panels(medians, keys, named=False)
    with np.errstate(divide="ignore"):
        logs = [np.log10(part[columns].dropna(axis=1, how="all").to_numpy(np.float64).T) for _, part in panels]
    finite = np.concatenate([each[np.isfinite(each)] for each in logs])
    limits = (finite.min(), finite.max()) if len(finite) else (0, 1)
    figure, axes = _grid(len(panels), 1)
    for (title, _), values, (panel,) in zip(panels, logs, axes, strict=True):
        layers, epochs = values.shape
        image = panel.imshow(
            np.where(np.isfinite(values), values, np.nan),
            cmap="cividis",  # even in lightness, and the same to colour-blind eyes
            vmin=limits[0],
            vmax=limits[1],
            aspect="auto",
            origin="lower",
            extent=(0.5, epochs + 0.5, 0.5, layers + 0.5),
            interpolation="nearest",
        )
        panel.set_title(title.replace(" · ", "\n"), fontsize=8)
        panel.grid(visible=False)
        panel.set_xlabel("epoch")
    axes[0, 0].set_ylabel("layer, logits on top")
    figure.colorbar(image, ax=list(axes.ravel()), label="log₁₀ norm of the weight gradient", shrink=0.8)
    return figure


def _panels(frame: pd.DataFrame, by: Sequence[str], *, named: bool = True) -> list[tuple[str, pd.DataFrame]]:
    """Divide a frame by columns into titled parts, PANELS at most, in the order in which they come."""
    if not by:
        return [("", frame)]
    parts = list(frame.groupby(list(by), sort=False))[:PANELS]
    words = [
        [f"{name} {value}" if named else str(value) for name, value in zip(by, key, strict=True)] for key, _ in parts
    ]
    return [(" · ".join(each), part) for each, (_, part) in zip(words, parts, strict=True)]


def _grid(panels: int, rows: int) -> tuple[Figure, NDArray[Any]]:
    """Return a figure for so many panels, each a column of some rows, and its axes, (panels, rows)."""
    across = min(panels, ACROSS)
    down = -(-panels // across)
    width = 2.4 if panels > 2 else 4.5
    figure = Figure(figsize=(1.5 + width * across, 1 + (2.7 if rows > 1 else 2.2) * rows * down), layout="constrained")
    axes = figure.subplots(rows * down, across, squeeze=False)
    columns = [axes[at // across * rows : (at // across + 1) * rows, at % across] for at in range(across * down)]
    for unused in np.ravel(columns[panels:]):
        unused.set_axis_off()
    for used in np.ravel(columns[:panels]):
        used.spines[["top", "right"]].set_visible(False)
        used.grid(color="0.92")
        used.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        used.tick_params(labelsize=8)
    return figure, np.array(columns[:panels])


def _curve(axes: Axes, low: pd.Series, middle: pd.Series, high: pd.Series, look: Style, backend: str) -> None:
    axes.fill_between(middle.index, low, high, color=look.colour, alpha=0.15, linewidth=0)
    every = max(1, len(middle) // MARKED)
    marks = {"marker": look.marker, "markersize": 4, "markevery": every}
    axes.plot(middle.index, middle, DASHES[backend], color=look.colour, linewidth=1.3, **marks)


def _legend(figure: Figure, looks: Mapping[str, Style], backends: Sequence[str], *extra: Line2D) -> None:
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=label) for label, look in looks.items()]
    handles += [Line2D([], [], color="0.3", linestyle=DASHES[backend], label=backend) for backend in backends]
    columns = max(2, int(figure.get_figwidth() // 2))
    figure.legend(handles=[*handles, *extra], loc="outside upper center", ncols=columns, frameon=False, fontsize=9)

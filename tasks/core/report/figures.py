"""Pictures of a comparison.

An initializer has the same colour in all pictures of a benchmark, and its name decides it in every benchmark; a backend
is a line's dashes, or a marker's shape.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from tasks.core.design.initializers import names
from tasks.core.design.study import Study
from tasks.core.statistics import inference

DASHES: dict[str, Literal["-", "--"]] = {"pytorch": "-", "keras": "--"}
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
"""Okabe & Ito (2008), told apart by colour-blind readers, with grey for their yellow, which white paper swallows."""
SHAPES = {"pytorch": "o", "keras": "D"}
MARKERS = "osD^vPX*<>"
OPTIMIZER_COLOURS = ("#009E73", "#CC79A7")  # of the same palette
APART = 0.17  # half the distance between two backends' rows, of 1 between initializers
JITTER = 0.09  # cells are spread so much around their row, for accuracies are often equal
FEW = 2  # initializers of one name that are shades of its colour; more are a scan, and go through a colour map
DECADES = 1000  # ratio of an axis's ends up to which it has plain numbers
PANELS = 48  # of one picture; more could not be read
ACROSS = 6
MARKED = 8  # markers along a curve
BAND_SEED = 0


@dataclass(frozen=True)
class Style:
    """How an initializer is drawn."""

    colour: tuple[float, float, float]
    marker: str


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Return each initializer's style: the colour of its name, or the next one free where a more usual one has that.

    Several of one name are shades, by their parameters. The order of the labels does not matter.
    """
    order = list(dict.fromkeys([*Study().initializers, *names()]))  # the most usual ones differ in colour
    alike: dict[str, list[str]] = {}
    for label in sorted(set(labels), key=_natural):
        alike.setdefault(label.partition("(")[0], []).append(label)
    found = {}
    free = list(PALETTE)
    for name in sorted(alike, key=order.index):
        group, place = alike[name], order.index(name)
        colour = PALETTE[place % len(PALETTE)]
        if colour not in free and free:
            colour = free[0]
        free = [other for other in free if other != colour]
        own = np.array(to_rgb(colour))
        for rank, label in enumerate(group):
            share = rank / len(group)
            red, green, blue = colormaps["cividis"](share)[:3] if len(group) > FEW else own + 0.6 * share * (1 - own)
            found[label] = Style((red, green, blue), MARKERS[(place + place // len(PALETTE) + rank) % len(MARKERS)])
    return found


def _natural(label: str) -> list[str | float]:
    """Return what sorts labels by the numbers in them."""
    return [float(part) if at % 2 else part for at, part in enumerate(re.split(r"(-?\d+\.?\d*(?:e-?\d+)?)", label))]


def intervals(cells: pd.DataFrame, comparison: pd.DataFrame, looks: Mapping[str, Style]) -> Figure:
    """Draw test accuracy and test loss by initializer: each finished cell, the mean and its 95 % interval."""
    cells, comparison = (frame.assign(row=_rows(frame)) for frame in (cells, comparison))
    rows = list(dict.fromkeys(comparison["row"]))[::-1]
    figure = Figure(figsize=(11, 1.6 + 0.5 * len(rows)), layout="constrained")
    accuracy, loss = figure.subplots(1, 2, sharey=True)
    for axes, measure in ((accuracy, "test_accuracy"), (loss, "test_loss")):
        for _, summary in comparison.iterrows():
            place = rows.index(summary["row"]) + (APART if summary["backend"] == "pytorch" else -APART)
            of_group = (cells["row"] == summary["row"]) & (cells["backend"] == summary["backend"])
            finished = cells[of_group & (cells["status"] == "finished")]
            _draw(axes, measure, place, finished, summary, looks[summary["initializer"]].colour)
        axes.grid(axis="x", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    accuracy.set_xlabel("test accuracy (higher is better)")
    accuracy.set_yticks(range(len(rows)), rows)
    loss.set_xlabel("test loss (lower is better)")
    if comparison["test_loss_mean"].gt(0).any():
        loss.set_xscale("log")
        _plain(loss.xaxis)
    handles = [
        Line2D([], [], color="0.3", marker=SHAPES[backend], label=f"{backend}: mean and 95 % interval; dots are seeds")
        for backend in comparison["backend"].unique()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _plain(axis: Axis) -> None:
    """Label a logarithmic axis in plain numbers where it spans few powers of ten; elsewhere powers are plainer."""
    low, high = axis.get_view_interval()
    if not 0 < low < high < DECADES * low:
        return
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=6))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _rows(frame: pd.DataFrame) -> list[str]:
    """Return each row's levels and initializer, joined; they stand between the backend and what was measured."""
    columns = list(frame.columns)
    keys = columns[columns.index("backend") + 1 : columns.index("initializer") + 1]
    return [
        " · ".join([*(f"{name} {level}" for name, level in zip(keys, levels, strict=False)), initializer])
        for *levels, initializer in frame[keys].itertuples(index=False)
    ]


def _draw(
    axes: Axes,
    measure: str,
    place: float,
    finished: pd.DataFrame,
    summary: pd.Series,
    colour: tuple[float, float, float],
) -> None:
    spread = np.random.default_rng(0).uniform(-JITTER, JITTER, len(finished))
    axes.scatter(finished[measure], place + spread, s=9, alpha=0.35, color=colour, linewidths=0)
    mean, low, high = (summary[f"{measure}_{part}"] for part in ("mean", "low", "high"))
    axes.errorbar(
        [mean],
        [place],
        xerr=[[max(mean - low, 0)], [max(high - mean, 0)]],
        fmt=SHAPES[summary["backend"]],
        markersize=6,
        capsize=3,
        color=colour,
    )


def parity(gaps: Mapping[str, NDArray[np.float64]], bounds: Mapping[str, float]) -> Figure:
    """Draw the largest weight difference between the backends after each step, and its bound, by optimizer."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for colour, (optimizer, gap) in zip(OPTIMIZER_COLOURS, gaps.items(), strict=True):
        axes.plot(gap, color=colour, label=optimizer)
        axes.axhline(bounds[optimizer], color=colour, linestyle="--", label=f"{optimizer}: bound")
    axes.set(xlabel="step", ylabel="largest weight difference between backends", ylim=(0, None))
    axes.set_title("the gate: a fixed small tanh network on Iris, whatever the study", fontsize=9)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def variances(layers: pd.DataFrame, factors: Sequence[str], looks: Mapping[str, Style]) -> Figure:
    """Draw the variance of pre-activations and of their gradient by layer at the start, with the lines of theory.

    `layers` has the rows of every cell's `layers.csv`. Lines are medians over seeds, what is not finite counted as
    infinite, bands reach from quartile to quartile, dots are theory; zeros and infinities leave gaps. A gradient is
    drawn as a multiple of the last hidden layer's.
    """
    cell = layers.groupby(["backend", *factors, "initializer", "seed"])
    last = cell["gradient_variance"].transform(lambda values: values.iloc[-2] if len(values) > 1 else np.nan)
    hidden = layers["layer"] < cell["layer"].transform("max")
    layers = layers.assign(backward=layers["gradient_variance"] / last, hidden=hidden)
    panels = _panels(layers, factors)
    figure, columns = _grid(len(panels), 2)
    for (title, part), (forward, backward) in zip(panels, columns, strict=True):
        forward.set_title(title, fontsize=9)
        forward.set_xlabel("layer" if len(panels) == 1 else "")
        for axes, measured, theory in (
            (forward, "pre_activation_variance", "theory_forward"),
            (backward, "backward", "theory_backward"),
        ):
            for label, backend, group in _lines(part):
                drawn = group if axes is forward else group[group["hidden"]]
                by_layer = drawn.fillna({measured: np.inf}).groupby("layer")
                low, middle, high = (
                    by_layer[measured].quantile(share, interpolation="nearest").where(lambda each: np.isfinite(each))
                    for share in (0.25, 0.5, 0.75)
                )
                _curve(axes, low, middle, high, looks[label], backend)
                expected = by_layer[theory].median()
                axes.plot(expected.index, expected, ":", color=looks[label].colour, linewidth=2.5)
            if np.isfinite(axes.dataLim.minposy):
                axes.set_yscale("log")
        backward.set_xlabel("layer")
    columns[0, 0].set_ylabel("variance of pre-activations")
    columns[0, 1].set_ylabel("variance of the gradient,\nlast hidden layer = 1")
    dots = Line2D([], [], color="0.3", linestyle=":", linewidth=2.5, label="mean-field theory")
    more = len(layers[list(factors)].drop_duplicates()) - PANELS if factors else 0
    if more > 0:
        figure.supxlabel(f"layer (and {more} panels more)", fontsize=9)
    _legend(figure, looks, layers["backend"].unique(), "quartiles over seeds", dots)
    return figure


def curves(history: pd.DataFrame, factors: Sequence[str], looks: Mapping[str, Style]) -> Figure:
    """Draw train loss and test accuracy by epoch: the mean over the seeds that finished and its 95 % interval.

    `history` has the rows of every cell's `history.csv`.
    """
    left_out = len(
        history[history["status"] != "finished"].drop_duplicates(["backend", *factors, "initializer", "seed"])
    )
    panels = _panels(history, factors)
    figure, columns = _grid(len(panels), 2)
    for (title, part), (loss, accuracy) in zip(panels, columns, strict=True):
        loss.set_title(title, fontsize=9)
        for axes, measure in ((loss, "train_loss"), (accuracy, "test_accuracy")):
            for label, backend, group in _lines(part):
                seeds = group[group["status"] == "finished"].pivot_table(measure, "seed", "epoch")
                if seeds.empty:
                    continue
                low, high = inference.bootstrap_band(seeds.to_numpy(np.float64), seed=BAND_SEED)
                index = seeds.columns
                _curve(axes, pd.Series(low, index), seeds.mean(), pd.Series(high, index), looks[label], backend)
        if np.isfinite(loss.dataLim.minposy):
            loss.set_yscale("log")
            _plain(loss.yaxis)
        accuracy.set_ylim(0, 1.02)
        accuracy.set_xlabel("epoch")
        loss.set_xlabel("epoch" if len(panels) == 1 else "")
    if left_out:
        figure.supxlabel(f"without {left_out} cells that diverged", fontsize=9)
    columns[0, 0].set_ylabel("train loss")
    columns[0, 1].set_ylabel("test accuracy")
    _legend(figure, looks, history["backend"].unique(), "95 % interval of the mean")
    return figure


def gradients(history: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """Draw the norm of each layer's weight gradient by epoch: the median over seeds, white where it is 0 or not finite.

    `history` has the rows of every cell's `history.csv`.
    """
    columns = [name for name in history.columns if name.startswith("gradient_norm/")]
    trained = history[history["epoch"] > 0]
    panels: list[tuple[str, NDArray[np.float64]]] = []
    for title, part in _panels(trained, factors, limit=None):
        existing = [name for name in columns if part[name].notna().any()] or columns[:1]
        groups = dict(iter(part.groupby(["initializer", "backend"], sort=False)))
        for initializer, backend in product(part["initializer"].unique(), part["backend"].unique()):
            if (initializer, backend) in groups:
                norms = groups[initializer, backend].groupby("epoch")[existing].median().to_numpy(np.float64).T
                panels.append(("\n".join(filter(None, [title, initializer, backend])), norms))
    more = len(panels) - PANELS
    panels = panels[:PANELS]
    with np.errstate(divide="ignore"):
        logs = [np.log10(norms) for _, norms in panels]
    finite = np.concatenate([each[np.isfinite(each)] for each in logs])
    low, high = (finite.min(), finite.max()) if len(finite) else (0, 1)
    figure, axes = _grid(len(panels), 1)
    for (title, norms), values, (panel,) in zip(panels, logs, axes, strict=True):
        layers, epochs = values.shape
        image = panel.imshow(
            np.where(np.isfinite(values), values, np.nan),
            cmap="cividis",  # even in lightness, and the same to colour-blind eyes
            vmin=low,
            vmax=high,
            aspect="auto",
            origin="lower",
            extent=(0.5, epochs + 0.5, 0.5, layers + 0.5),
            interpolation="nearest",
        )
        if not np.isfinite(values).any():
            word = "zero" if (norms == 0).all() else "not finite"
            panel.text(0.5, 0.5, word, transform=panel.transAxes, ha="center", va="center", color="0.4")
        panel.set_title(title, fontsize=8)
        panel.grid(visible=False)
        panel.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    figure.supxlabel(f"epoch (and {more} panels more)" if more > 0 else "epoch", fontsize=9)
    figure.supylabel("layer, logits on top", fontsize=9)
    figure.colorbar(image, ax=list(axes.ravel()), label="log₁₀ norm of the weight gradient", shrink=0.8)
    return figure


def _panels(frame: pd.DataFrame, by: Sequence[str], limit: int | None = PANELS) -> list[tuple[str, pd.DataFrame]]:
    """Divide a frame by columns into titled parts in the order in which they come, as many as a picture takes."""
    if not by:
        return [("", frame)]
    parts = list(frame.groupby(list(by), sort=False))[:limit]
    return [(" · ".join(f"{name} {value}" for name, value in zip(by, key, strict=True)), part) for key, part in parts]


def _grid(panels: int, rows: int) -> tuple[Figure, NDArray[Any]]:
    """Return a figure for so many panels and its axes, (panels, rows); a panel is a column, a lone one a row."""
    if panels == 1 and rows > 1:
        figure = Figure(figsize=(11, 5), layout="constrained")
        columns = [figure.subplots(1, rows)]
    else:
        across = min(panels, ACROSS)
        down = -(-panels // across)
        size = (1.5 + 2.4 * across, 1.2 + (2.7 if rows > 1 else 2) * rows * down)
        figure = Figure(figsize=size, layout="constrained")
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


def _lines(part: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield initializer, backend and rows of each line of a panel."""
    for key, rows in part.groupby(["initializer", "backend"], sort=False):
        initializer, backend = map(str, key)
        yield initializer, backend, rows


def _curve(axes: Axes, low: pd.Series, middle: pd.Series, high: pd.Series, look: Style, backend: str) -> None:
    axes.fill_between(middle.index, low, high, color=look.colour, alpha=0.15, linewidth=0)
    every = max(1, len(middle) // MARKED)
    axes.plot(
        middle.index,
        middle,
        DASHES[backend],
        color=look.colour,
        linewidth=1.3,
        marker=look.marker,
        markersize=4,
        markevery=every,
    )


def _legend(figure: Figure, looks: Mapping[str, Style], backends: Iterable[str], band: str, *extra: Line2D) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=look.colour, marker=look.marker, label=label) for label, look in looks.items()
    ]
    handles += [Line2D([], [], color="0.3", linestyle=DASHES[backend], label=backend) for backend in backends]
    handles.append(Patch(color="0.3", alpha=0.15, linewidth=0, label=band))
    columns = max(2, int(figure.get_figwidth() // 2))
    figure.legend(handles=[*handles, *extra], loc="outside upper center", ncols=columns, frameon=False, fontsize=9)

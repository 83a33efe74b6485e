"""Pictures of a comparison.

An initializer has the same colour and marker in all of them; a backend is a line's dashes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tasks.core import inference
from tasks.core.initializers import registry
from tasks.core.parity import BOUNDS
from tasks.core.study import Study

COLOURS = {"pytorch": "#D55E00", "keras": "#0072B2"}  # Okabe & Ito (2008): told apart by colour-blind readers
DASHES: dict[str, Literal["-", "--"]] = {"pytorch": "-", "keras": "--"}
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8C7A00")  # yellow darkened
MARKERS = "osD^vPX*<>"
OPTIMIZER_COLOURS = ("#009E73", "#CC79A7")  # of the same palette
APART = 0.17  # half the distance between two backends' rows, of 1 between initializers
JITTER = 0.09  # cells are spread so much around their row, for accuracies are often equal
FEW = 2  # initializers of one name that are shades of its colour; more are a scan, and go through a colour map
PANELS = 36  # of one picture; more could not be read
ACROSS = 6
MARKED = 8  # markers along a curve
BAND_SEED = 0


@dataclass(frozen=True)
class Style:
    """How an initializer is drawn."""

    colour: tuple[float, float, float]
    marker: str


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Return each initializer's style, fixed by its name; those of one name and several parameters go dark to light."""
    names = list(dict.fromkeys([*Study().initializers, *registry()]))  # the most usual ones differ in colour
    alike: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        alike.setdefault(label.partition("(")[0], []).append(label)
    found = {}
    for name, group in alike.items():
        place = names.index(name)
        own = np.array(to_rgb(PALETTE[place % len(PALETTE)]))
        for rank, label in enumerate(group):
            share = rank / len(group)
            red, green, blue = colormaps["cividis"](share)[:3] if len(group) > FEW else own + 0.7 * share * (1 - own)
            found[label] = Style((red, green, blue), MARKERS[(place // len(PALETTE) + 3 * rank) % len(MARKERS)])
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
        forward.set_xlabel("layer" if len(panels) == 1 else "")
        for axes, measured, theory in (
            (forward, "pre_activation_variance", "theory_forward"),
            (backward, "backward", "theory_backward"),
        ):
            for label, backend, group in _lines(part):
                by_layer = group[group[measured] > 0].groupby("layer")
                low, middle, high = (by_layer[measured].quantile(share) for share in (0.25, 0.5, 0.75))
                _curve(axes, low, middle, high, looks[label], backend)
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
            for label, backend, group in _lines(part):
                seeds = group.pivot_table(index="seed", columns="epoch", values=measure).dropna(axis=1)
                low, high = inference.bootstrap_band(seeds.to_numpy(np.float64), seed=BAND_SEED)
                index = seeds.columns
                _curve(axes, pd.Series(low, index), seeds.mean(), pd.Series(high, index), looks[label], backend)
        loss.set_yscale("log")
        accuracy.set_ylim(0, 1.02)
        accuracy.set_xlabel("epoch")
        loss.set_xlabel("epoch" if len(panels) == 1 else "")
    columns[0, 0].set_ylabel("train loss")
    columns[0, 1].set_ylabel("test accuracy")
    _legend(figure, looks, history["backend"].unique())
    return figure


def gradients(history: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """Draw the norm of each layer's weight gradient by epoch: the median over seeds, white where it is 0 or not finite.

    `history` has the rows of every cell's `history.csv`.
    """
    columns = [name for name in history.columns if name.startswith("gradient_norm/")]
    trained = history[history["epoch"] > 0]
    panels: list[tuple[str, NDArray[np.float64]]] = []
    for title, part in _panels(trained, factors):
        existing = [name for name in columns if part[name].notna().any()] or columns[:1]
        groups = dict(iter(part.groupby(["initializer", "backend"], sort=False)))
        for initializer, backend in product(part["initializer"].unique(), part["backend"].unique()):
            if (initializer, backend) in groups:
                norms = groups[initializer, backend].groupby("epoch")[existing].median().to_numpy(np.float64).T
                panels.append(("\n".join(filter(None, [title, initializer, backend])), norms))
    left_out = len(panels) - PANELS
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
    figure.supxlabel(f"epoch (and {left_out} panels more)" if left_out > 0 else "epoch", fontsize=9)
    figure.supylabel("layer, logits on top", fontsize=9)
    figure.colorbar(image, ax=list(axes.ravel()), label="log₁₀ norm of the weight gradient", shrink=0.8)
    return figure


def _panels(frame: pd.DataFrame, by: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Divide a frame by columns into titled parts, PANELS at most, in the order in which they come."""
    if not by:
        return [("", frame)]
    parts = list(frame.groupby(list(by), sort=False))[:PANELS]
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


def _legend(figure: Figure, looks: Mapping[str, Style], backends: Iterable[str], *extra: Line2D) -> None:
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=label) for label, look in looks.items()]
    handles += [Line2D([], [], color="0.3", linestyle=DASHES[backend], label=backend) for backend in backends]
    columns = max(2, int(figure.get_figwidth() // 2))
    figure.legend(handles=[*handles, *extra], loc="outside upper center", ncols=columns, frameon=False, fontsize=9)

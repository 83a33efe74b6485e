"""Pictures of what was measured: the comparison, training curves, signals by layer, and parity.

`layers` and `history` are the rows of every cell's `layers.csv` and `history.csv`, with the cell's backend, factors,
initializer, seed and status. `factors` are the columns that are factors. `looks` are the styles of the initializers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from tasks.core.design.columns import BY_VALUE
from tasks.core.design.settings import Tune
from tasks.core.report.styles import DASHES, SHAPES, Colour, Style
from tasks.core.statistics import inference
from tasks.core.statistics.inference import Array

HELD_COLOUR, BEYOND_COLOUR = "#009E73", "#D55E00"  # of styles.PALETTE
SMALLEST, LARGEST = 1e-3, 1e3  # of the gate's multiples; those beyond are drawn here
APART = 0.17  # half the distance between the rows of two backends, where initializers are 1 apart
JITTER = 0.09  # how far the dots of cells are spread around their row, because accuracies are often equal
DECADES = 1000  # an axis has plain numbers up to this ratio of its ends
PANELS = 48  # of one picture; more panels could not be read
ACROSS = 6  # panels in a row
NAMED = 16  # layers of a network of one's own that are told by name
MARKED = 8  # markers along a curve
JITTER_SEED = 0
LEAST_R2 = -1.0  # an axis of R² goes no further down
QUARTILES = (0.25, 0.5, 0.75)


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
        _in_plain_numbers(loss.xaxis)
    figure.legend(handles=_dots(comparison["backend"]), loc="outside upper center", ncols=2, frameon=False)
    return figure


def _rows(frame: pd.DataFrame) -> list[str]:
    """Return each row's levels and initializer, joined. Their columns are those from `backend` to `initializer`."""
    columns = list(frame.columns)
    keys = columns[columns.index("backend") + 1 : columns.index("initializer") + 1]
    return [
        " · ".join([*(f"{name} {level}" for name, level in zip(keys, levels, strict=False)), initializer])
        for *levels, initializer in frame[keys].itertuples(index=False)
    ]


def _draw(axes: Axes, measure: str, place: float, finished: pd.DataFrame, summary: pd.Series, colour: Colour) -> None:
    """Draw one group at a height: its finished cells as dots, its mean with the interval."""
    jitter = np.random.default_rng(JITTER_SEED).uniform(-JITTER, JITTER, len(finished))
    axes.scatter(finished[measure], place + jitter, s=9, alpha=0.35, color=colour, linewidths=0)
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


def _dots(backends: pd.Series) -> list[Line2D]:
    return [
        Line2D([], [], color="0.3", marker=SHAPES[backend], label=f"{backend}: mean and 95 % interval; dots are seeds")
        for backend in backends.unique()
    ]


def _in_plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis in plain numbers, unless it spans many powers of ten."""
    low, high = axis.get_view_interval()
    if not 0 < low < high < DECADES * low:
        return
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=6))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def parity(found: pd.DataFrame) -> Figure:
    """Draw what the gate found, each number as a multiple of its bound, with a line of dots for each kind of number.

    `found` has the columns what and share; a share above 1 is not allowed.
    """
    kinds = list(dict.fromkeys(found["what"]))[::-1]
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    share = found["share"].clip(SMALLEST, LARGEST)
    colours = np.where(share <= 1, HELD_COLOUR, BEYOND_COLOUR)
    axes.scatter(share, found["what"].map(kinds.index), s=22, alpha=0.6, color=colours, linewidths=0)
    axes.axvline(1, color="0.3", linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(SMALLEST * 0.8, max(10.0, 2 * share.max()))
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_ylim(-0.5, len(kinds) - 0.5)
    axes.set_xlabel("measured, as a multiple of what is allowed (dashed)")
    beyond = int((share > 1).sum())
    axes.set_title(f"the gate: {len(found)} numbers, {beyond or 'none'} beyond what is allowed", fontsize=9)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def variances(layers: pd.DataFrame, factors: Sequence[str], looks: Mapping[str, Style]) -> Figure:
    """Draw the variance of pre-activations and of their gradient by layer, before training, with the lines of theory.

    A line is the median over seeds, its band reaches from quartile to quartile. A value that is not finite counts as
    infinite, and where the median is infinite or zero the line has a gap. A gradient is drawn as a multiple of that of
    the last hidden layer. Dots are theory.
    """
    backward, hidden = _backward(layers, factors)
    layers = layers.assign(backward=backward, hidden=hidden)
    panels = _panels(layers, factors)
    figure, columns = _grid(len(panels), 2)
    for (title, part), (upper, lower) in zip(panels, columns, strict=True):
        upper.set_title(title, fontsize=9)
        upper.set_xlabel("layer" if len(panels) == 1 else "")
        _by_layer(upper, part, "pre_activation_variance", "theory_forward", looks)
        _by_layer(lower, part[part["hidden"]], "backward", "theory_backward", looks)
        lower.set_xlabel("layer")
        if "layer_name" in part and part["layer"].max() <= NAMED and len(panels) == 1:
            _name_layers(upper, part)
            _name_layers(lower, part)
    columns[0, 0].set_ylabel("variance of pre-activations")
    columns[0, 1].set_ylabel("variance of the gradient,\nlast hidden layer = 1")
    dots = Line2D([], [], color="0.3", linestyle=":", linewidth=2.5, label="mean-field theory")
    known = [dots] if layers["theory_forward"].notna().any() else []
    more = len(layers[list(factors)].drop_duplicates()) - PANELS if factors else 0
    if more > 0:
        figure.supxlabel(f"layer (and {more} panels more)", fontsize=9)
    _legend(figure, looks, layers["backend"].unique(), "quartiles over seeds", *known)
    return figure


def _name_layers(axes: Axes, part: pd.DataFrame) -> None:
    """Put the names of layers below an axis; those of the first backend, if there are two."""
    first = part[part["backend"] == part["backend"].iloc[0]].drop_duplicates("layer").sort_values("layer")
    axes.set_xticks(first["layer"], first["layer_name"], rotation=30, ha="right", fontsize=7)
    axes.set_xlabel("")


def _backward(layers: pd.DataFrame, factors: Sequence[str]) -> tuple[pd.Series, pd.Series]:
    """Return the gradient's variance as a multiple of the last hidden layer's, and which layers are hidden."""
    cell = layers.groupby(["backend", *factors, "initializer", "seed"])
    last = cell["gradient_variance"].transform(lambda values: values.iloc[-2] if len(values) > 1 else np.nan)
    return layers["gradient_variance"] / last, layers["layer"] < cell["layer"].transform("max")


def _by_layer(axes: Axes, part: pd.DataFrame, measured: str, theory: str, looks: Mapping[str, Style]) -> None:
    """Draw a column by layer, a line for each initializer and backend, and beside it the column of theory."""
    for label, backend, group in _lines(part):
        by_layer = group.fillna({measured: np.inf}).groupby("layer")
        low, middle, high = (
            by_layer[measured].quantile(share, interpolation="nearest").where(lambda each: np.isfinite(each))
            for share in QUARTILES
        )
        _curve(axes, low, middle, high, looks[label], backend)
        expected = by_layer[theory].median()
        axes.plot(expected.index, expected, ":", color=looks[label].colour, linewidth=2.5)
    if np.isfinite(axes.dataLim.minposy):
        axes.set_yscale("log")


def curves(history: pd.DataFrame, factors: Sequence[str], looks: Mapping[str, Style]) -> Figure:
    """Draw train loss and test accuracy by epoch: the mean over the seeds that finished, and its 95 % interval."""
    panels = _panels(history, factors)
    figure, columns = _grid(len(panels), 2)
    for (title, part), (loss, accuracy) in zip(panels, columns, strict=True):
        loss.set_title(title, fontsize=9)
        for axes, measure in ((loss, "train_loss"), (accuracy, "test_accuracy")):
            _by_epoch(axes, part, measure, looks)
        if np.isfinite(loss.dataLim.minposy):
            loss.set_yscale("log")
            _in_plain_numbers(loss.yaxis)
        least = np.nanmin([0.0, part["test_accuracy"].quantile(0.1)])  # R² may be negative, an accuracy may not
        accuracy.set_ylim(max(LEAST_R2, least), 1.02)
        accuracy.set_xlabel("epoch")
        loss.set_xlabel("epoch" if len(panels) == 1 else "")
    unfinished = history[history["status"] != "finished"]
    if left_out := len(unfinished.drop_duplicates(["backend", *factors, "initializer", "seed"])):
        figure.supxlabel(f"without {left_out} cells that diverged", fontsize=9)
    columns[0, 0].set_ylabel("train loss")
    columns[0, 1].set_ylabel("test accuracy")
    _legend(figure, looks, history["backend"].unique(), "95 % interval of the mean")
    return figure


def _by_epoch(axes: Axes, part: pd.DataFrame, measure: str, looks: Mapping[str, Style]) -> None:
    for label, backend, group in _lines(part):
        seeds = group[group["status"] == "finished"].pivot_table(measure, "seed", "epoch")
        if seeds.empty:
            continue
        low, high = inference.bootstrap_band(seeds.to_numpy(np.float64), seed=inference.BOOTSTRAP_SEED)
        index = seeds.columns
        _curve(axes, pd.Series(low, index), seeds.mean(), pd.Series(high, index), looks[label], backend)


def picks(tuned: pd.DataFrame, tune: Tune, looks: Mapping[str, Style]) -> Figure:
    """Draw the mean validation score by value of the tuned setting; a ring marks what an initializer has picked.

    tuned: as `statistics.tuning.tuned` returns it.
    """
    keys = [name for name in tuned.columns if name not in (*BY_VALUE, "initializer")]
    panels = _panels(tuned, keys)
    figure, columns = _below(len(panels), 1)
    figure.set_figwidth(max(9, figure.get_figwidth()))  # a picture is drawn as wide as the page
    for (title, part), (panel,) in zip(panels, columns, strict=False):
        for initializer, rows in part.sort_values("value").groupby("initializer", sort=False):
            look = looks[str(initializer)]
            panel.plot(rows["value"], rows["score"], color=look.colour, marker=look.marker, markersize=3, linewidth=1.2)
            chosen = rows[rows["picked"]]
            panel.plot(chosen["value"], chosen["score"], "o", color=look.colour, markersize=9, fillstyle="none")
        panel.set_title(title.replace("backend ", ""), fontsize=9)
        panel.grid(color="0.92")
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        if min(tune.values) > 0:
            panel.set_xscale("log")
        if tune.by == "validation_loss" and part["score"].gt(0).any():
            panel.set_yscale("log")
            _in_plain_numbers(panel.yaxis)
    for (unused,) in columns[len(panels) :]:
        unused.set_axis_off()
    figure.supxlabel(tune.title, fontsize=9)
    figure.supylabel(tune.by.replace("_", " "), fontsize=9)
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=label) for label, look in looks.items()]
    columns_across = max(2, int(figure.get_figwidth() // 2))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns_across, frameon=False, fontsize=9)
    return figure


def gradients(history: pd.DataFrame, factors: Sequence[str]) -> Figure:
    """Draw the norm of each layer's weight gradient by epoch: the median over seeds.

    A field is white where the norm is 0 or not finite.
    """
    found = list(_norms(history[history["epoch"] > 0], factors))
    more = len(found) - PANELS
    panels = found[:PANELS]
    with np.errstate(divide="ignore"):
        logs = [np.log10(norms) for _, norms in panels]
    finite = np.concatenate([each[np.isfinite(each)] for each in logs])
    ends = (finite.min(), finite.max()) if len(finite) else (0, 1)
    figure, axes = _grid(len(panels), 1)
    for (title, norms), values, (panel,) in zip(panels, logs, axes, strict=True):
        image = _heat(panel, values, ends)
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


def _norms(trained: pd.DataFrame, factors: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """Yield title and norms, (layers, epochs), of each level, initializer and backend."""
    columns = [name for name in trained.columns if name.startswith("gradient_norm/")]
    for title, part in _panels(trained, factors, limit=None):
        existing = [name for name in columns if part[name].notna().any()] or columns[:1]
        groups = dict(iter(part.groupby(["initializer", "backend"], sort=False)))
        for initializer, backend in product(part["initializer"].unique(), part["backend"].unique()):
            if (initializer, backend) in groups:
                norms = groups[initializer, backend].groupby("epoch")[existing].median().to_numpy(np.float64).T
                yield "\n".join(filter(None, [title, initializer, backend])), norms


def _heat(panel: Axes, values: Array, ends: tuple[float, float]) -> AxesImage:
    """Draw values (layers, epochs) as colours, which reach from one of the ends to the other."""
    layers, epochs = values.shape
    return panel.imshow(
        np.where(np.isfinite(values), values, np.nan),
        cmap="cividis",  # even in lightness, and the same to colour-blind eyes
        vmin=ends[0],
        vmax=ends[1],
        aspect="auto",
        origin="lower",
        extent=(0.5, epochs + 0.5, 0.5, layers + 0.5),
        interpolation="nearest",
    )


def _panels(frame: pd.DataFrame, by: Sequence[str], limit: int | None = PANELS) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of each level, at most `limit` of them; without factors, all rows without a title."""
    if not by:
        return [("", frame)]
    parts = list(frame.groupby(list(by), sort=False))[:limit]
    return [(" · ".join(f"{name} {value}" for name, value in zip(by, key, strict=True)), part) for key, part in parts]


def _grid(panels: int, rows: int) -> tuple[Figure, NDArray[Any]]:
    """Return a figure and its axes, (panels, rows). The axes of a panel stand one below the other.

    The axes of a lone panel stand side by side.
    """
    figure, columns = _beside(rows) if panels == 1 and rows > 1 else _below(panels, rows)
    for unused in np.ravel(columns[panels:]):
        unused.set_axis_off()
    for used in np.ravel(columns[:panels]):
        used.spines[["top", "right"]].set_visible(False)
        used.grid(color="0.92")
        used.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        used.tick_params(labelsize=8)
    return figure, np.array(columns[:panels])


def _beside(rows: int) -> tuple[Figure, list[NDArray[Any]]]:
    figure = Figure(figsize=(11, 5), layout="constrained")
    return figure, [figure.subplots(1, rows)]


def _below(panels: int, rows: int) -> tuple[Figure, list[NDArray[Any]]]:
    across = min(panels, ACROSS)
    down = -(-panels // across)
    size = (1.5 + 2.4 * across, 1.2 + (2.7 if rows > 1 else 2) * rows * down)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows * down, across, squeeze=False)
    return figure, [axes[at // across * rows : (at // across + 1) * rows, at % across] for at in range(across * down)]


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

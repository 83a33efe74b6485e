"""Pictures of verdicts: ranks, pairs, survival, backends and sources of the spread."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from tasks.core.design.columns import MEASURES_BY_NAME, RANKED, TITLES
from tasks.core.report.styles import Style
from tasks.core.report.tables import p_text
from tasks.core.statistics.inference import Array
from tasks.core.statistics.profiles import Profiles
from tasks.core.statistics.ranks import Ranking
from tasks.core.statistics.survival import Reaching
from tasks.core.statistics.verdicts import ALWAYS, BETTER, EQUIVALENT, NEVER, UNDECIDED, WORSE, amount, turned

DECIDED = (BETTER, WORSE, EQUIVALENT, ALWAYS, NEVER)
SIGNS = {BETTER: "+", WORSE: "−", EQUIVALENT: "=", UNDECIDED: "?", ALWAYS: "all", NEVER: "none"}
DECIDED_COLOUR, UNDECIDED_COLOUR = "#0072B2", "#999999"
SMALL_COLOUR = "#009E73"  # of differences that are too small to matter
LINE_COLOUR = "#4d4d4d"
INK, PAPER = "#111111", "#fefefe"  # of text on coloured ground, in either theme
DARK_EFFECT = 1.2  # the ground of a larger effect is dark, so its text is white
LARGE_EFFECT = 2.0  # where the colours of a matrix end
ACROSS = 2
PANELS = 12  # of one picture; more panels could not be read
NAMED = 12  # a matrix of up to so many rivals has the differences written out
BAR = 4.0  # inches of a colour bar
OFFSETS = {"native": 0.16, "shared": -0.16}  # of rows of different weights, where initializers are 1 apart


def _shell(wanted: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure and the axes of at most PANELS panels, each of a size in inches.

    A line below the panels says how many are left out.
    """
    panels = min(wanted, PANELS)
    columns = min(panels, ACROSS)
    rows = -(-panels // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for unused in axes[panels:]:
        unused.set_axis_off()
    for used in axes[:panels]:
        used.spines[["top", "right"]].set_visible(False)
        used.tick_params(labelsize=8)
    if wanted > panels:
        figure.supxlabel(f"and {wanted - panels} panels more, in the tables", fontsize=9)
    return figure, axes[:panels]


def mean_ranks(rankings: Sequence[Ranking]) -> Figure:
    """Draw mean ranks on a line, the best on the left; a bar joins initializers that are not apart (Demšar, 2006)."""
    from scikit_posthocs import critical_difference_diagram

    rivals = max(len(each.initializers) for each in rankings)
    figure, axes = _shell(len(rankings), (6.5, 1.5 + 0.15 * rivals))
    for panel, each in zip(axes, rankings, strict=False):
        names = each.initializers
        critical_difference_diagram(
            pd.Series(each.ranks.mean, names),
            pd.DataFrame(np.where(each.ranks.apart, 0.0, 1.0), names, names),
            ax=panel,
            label_props={"fontsize": 8},
            elbow_props={"linewidth": 0.8, "color": LINE_COLOUR},
            marker_props={"color": DECIDED_COLOUR, "s": 14},
            crossbar_props={"color": "#000000", "marker": "", "linewidth": 3},
        )
        panel.set_title(
            f"{each.backend} · {each.title}, mean rank over {each.ranks.blocks} {each.blocks}\n"
            f"Friedman p {p_text(each.ranks.friedman)}",
            fontsize=8,
        )
        panel.tick_params(labelsize=8)
    return figure


Field = tuple[int, int, pd.Series, str]
"""A field of a matrix: its column and row, the pair's row in the table of pairs, and the colour to write in."""


def matrices(pairs: pd.DataFrame, keys: Sequence[str]) -> Figure:
    """Draw each row's initializer against each column's: verdict, difference and, as colour, effect size."""
    ranked = pairs[pairs["measure"].isin(RANKED)]
    parts = list(ranked.groupby([*keys, "measure"], sort=False))
    rivals = max(part["left"].nunique() for _, part in parts) + 1
    side = 1.9 + 0.42 * rivals
    figure, axes = _shell(len(parts), (side, side - 0.4))
    for panel, ((*key, measure), part) in zip(axes, parts, strict=False):
        _matrix(panel, part, f"{' · '.join(map(str, key))} · {TITLES[measure]}")
    image = axes[0].images[0]
    bar = figure.colorbar(image, ax=axes, shrink=min(0.8, BAR / figure.get_figheight()), extend="both")
    bar.set_label("effect size (g):\nthe row's initializer is better", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _matrix(panel: Axes, part: pd.DataFrame, title: str) -> None:
    names = list(dict.fromkeys([*part["left"], *part["right"]]))
    higher = MEASURES_BY_NAME[part["measure"].iloc[0]].higher_is_better
    effects, fields = np.full((len(names), len(names)), np.nan), []
    for (_, row), (_, other) in zip(part.iterrows(), turned(part).iterrows(), strict=True):
        left, right = names.index(row["left"]), names.index(row["right"])
        effect = row["effect_size"] if higher else -row["effect_size"]
        effects[left, right], effects[right, left] = effect, -effect
        ink = PAPER if abs(effect) > DARK_EFFECT else INK
        fields += [(right, left, row, ink), (left, right, other, ink)]
    (_written if len(names) <= NAMED else _marked)(panel, fields)
    panel.imshow(effects, cmap="RdBu", vmin=-LARGE_EFFECT, vmax=LARGE_EFFECT)
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    panel.set_yticks(range(len(names)), names, fontsize=7)
    panel.set_title(title, fontsize=8)
    panel.spines[:].set_visible(False)


def _written(panel: Axes, fields: Sequence[Field]) -> None:
    """Write the sign of each pair's verdict and the estimate."""
    for across, down, row, ink in fields:
        estimate = f"\n{amount(row['estimate'], row['scale'])}" if np.isfinite(row["estimate"]) else ""
        panel.text(across, down, SIGNS[row["verdict"]] + estimate, ha="center", va="center", fontsize=6, color=ink)


def _marked(panel: Axes, fields: Sequence[Field]) -> None:
    """Draw the sign of each pair's verdict as a marker: many markers are drawn at once, and many texts one by one."""
    for verdict in dict.fromkeys(row["verdict"] for _, _, row, _ in fields):
        across, down, _, inks = zip(*(field for field in fields if field[2]["verdict"] == verdict), strict=True)
        panel.scatter(across, down, s=14, c=inks, marker=rf"$\mathrm{{{SIGNS[verdict]}}}$", linewidths=0)


def survival(reaching: Sequence[Reaching], looks: Mapping[str, Style], target: float) -> Figure:
    """Draw, by epoch, the share of cells that have yet to reach the target (Kaplan & Meier, 1958)."""
    figure, axes = _shell(len(reaching), (5.2, 3.2))
    for panel, each in zip(axes, reaching, strict=False):
        for at, (name, curve) in enumerate(each.curves.items()):
            epochs = np.concatenate([[0.0], curve.epochs])  # in steps from 1 at epoch 0
            sides = [np.concatenate([[1.0], side]) for side in (curve.share, curve.low, curve.high)]
            _steps(panel, epochs, sides, looks[name], "post", (at % 3, 3))
        panel.set_title(f"{each.title}: log-rank p {p_text(each.p)}, {each.missed} of {each.cells} missed", fontsize=8)
        panel.set(ylim=(-0.03, 1.03))
        panel.set_xlabel("epoch", fontsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.grid(color="0.92")
    axes[0].set_ylabel(f"share short of {target:g}", fontsize=8)
    _name(figure, looks)
    return figure


def profiles(profiles: Sequence[Profiles], looks: Mapping[str, Style]) -> Figure:
    """Draw, by target accuracy, the share of cells of all datasets that reach it."""
    figure, axes = _shell(len(profiles), (5.2, 3.2))
    for panel, each in zip(axes, profiles, strict=False):
        for at, (name, curve) in enumerate(each.curves.items()):
            sides = (curve.share, curve.low, curve.high)
            _steps(panel, curve.targets, sides, looks[name], "pre", (0.02 * (at + 1), 0.2))
        panel.set_title(f"{each.title}, {each.datasets} datasets", fontsize=8)
        panel.set(ylim=(-0.03, 1.03))
        panel.set_xlabel("target accuracy", fontsize=8)
        panel.grid(color="0.92")
    axes[0].set_ylabel("share of cells that reach it", fontsize=8)
    _name(figure, looks)
    return figure


def _name(figure: Figure, looks: Mapping[str, Style]) -> None:
    """Name the initializers in a legend above the panels."""
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=name) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)


def _steps(
    panel: Axes,
    x: Array,
    sides: Sequence[Array],
    look: Style,
    where: Literal["pre", "post"],
    marked: tuple[int, int] | tuple[float, float],
) -> None:
    """Draw a curve in steps with its interval. Markers of several curves start at different places.

    sides: share, low and high. where: whether a step is before or after its point. marked: matplotlib's `markevery`.
    """
    share, low, high = sides
    panel.fill_between(x, low, high, step=where, color=look.colour, alpha=0.08, linewidth=0)
    (line,) = panel.step(x, share, where=where, color=look.colour, linewidth=1.3)
    line.set(marker=look.marker, markersize=4, markevery=marked)


def between_backends(backends: pd.DataFrame, keys: Sequence[str], names: Sequence[str]) -> Figure:
    """Draw the difference between the backends under each initializer, with its interval, on a band of the margin.

    A ratio is on a logarithmic axis, whose ticks are in per cent.

    keys: the columns of the factors. names: the backends.
    """
    ranked = backends[backends["measure"].isin(RANKED)]
    others = [key for key in keys if key != "weights"]
    parts = list(ranked.groupby(["measure", *others], sort=False))
    rows = list(dict.fromkeys(ranked["initializer"]))[::-1]
    figure, axes = _shell(len(parts), (5.4, 1.3 + 0.3 * len(rows)))
    for panel, ((measure, *key), part) in zip(axes, parts, strict=False):
        _differences(panel, part, rows)
        title = " · ".join([TITLES[measure], *(f"{name} {level}" for name, level in zip(others, key, strict=True))])
        panel.set_title(title, fontsize=8)
        panel.set_xlabel(f"{names[0]} {'/' if (part['scale'] == 'ratio').any() else '−'} {names[1]}", fontsize=8)
        panel.set_yticks(range(len(rows)), rows, fontsize=8)
        panel.grid(axis="x", color="0.92")
    handles = list(_explained("weights" in keys))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def _differences(panel: Axes, part: pd.DataFrame, rows: Sequence[str]) -> None:
    """Draw a panel's differences, each at the height of its initializer in `rows`; shared weights are diamonds."""
    measure, margin = MEASURES_BY_NAME[part["measure"].iloc[0]], part["margin"].iloc[0]
    reach = measure.scaled_margin(margin)
    alike, low, high = (measure.unscaled(np.asarray(at)).item() for at in (0.0, -reach, reach))
    panel.axvspan(low, high, color=SMALL_COLOUR, alpha=0.12, linewidth=0)
    panel.axvline(alike, color=LINE_COLOUR, linewidth=0.8)
    for _, row in part.iterrows():
        weights = str(row.get("weights"))
        place = rows.index(row["initializer"]) + OFFSETS.get(weights, 0)
        colour = DECIDED_COLOUR if row["verdict"] in DECIDED else UNDECIDED_COLOUR
        panel.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.5)
        panel.plot(row["estimate"], place, "D" if weights == "shared" else "o", color=colour, markersize=5)
    if measure.scale == "ratio":
        panel.set_xscale("log")
        panel.xaxis.set(major_locator=MaxNLocator(5), minor_locator=NullLocator(), major_formatter=_per_cent)


def _per_cent(ratio: float, _: int | None = None) -> str:
    """Return a ratio as a tick of an axis has it."""
    return amount(ratio, "ratio")


def _explained(weights: bool) -> Iterator[Line2D]:
    """Yield the legend's entries; weights: whether `weights` is a factor."""
    yield Line2D([], [], color=DECIDED_COLOUR, marker="o", label="95 % interval, decided")
    yield Line2D([], [], color=UNDECIDED_COLOUR, marker="o", label="no verdict")
    yield Line2D([], [], color=SMALL_COLOUR, alpha=0.3, linewidth=6, label="too small to matter")
    if weights:
        yield Line2D([], [], color=LINE_COLOUR, marker="D", linestyle="", label="shared weights, circles native ones")


def sources(spread: pd.DataFrame) -> Figure:
    """Draw the standard deviation that each source gives to accuracy and loss, its interval and single seeds' range.

    A geometric standard deviation begins at 1, on a logarithmic axis.
    """
    measures = list(spread["measure"].unique())
    rows = list(dict.fromkeys(spread["source"]))[::-1]
    figure, axes = _shell(len(measures), (5.4, 1 + 0.3 * len(rows)))
    for panel, measure in zip(axes, measures, strict=True):
        part = spread[spread["measure"] == measure]
        places = [rows.index(source) for source in part["source"]]
        ratio = MEASURES_BY_NAME[measure].scale == "ratio"
        ends = np.abs(part[["low", "high"]].to_numpy().T - part["sd"].to_numpy())
        panel.barh(places, part["sd"] - ratio, left=float(ratio), color=DECIDED_COLOUR, alpha=0.6, height=0.6)
        panel.hlines(np.array(places) - 0.2, part["least"], part["most"], color=UNDECIDED_COLOUR, linewidth=1)
        panel.errorbar(part["sd"], places, xerr=ends, fmt="none", color=LINE_COLOUR, capsize=3)
        panel.set_yticks(range(len(rows)), rows, fontsize=8)
        panel.set_xlabel(f"{'geometric ' if ratio else ''}standard deviation of {TITLES[measure]}", fontsize=8)
        if ratio:
            panel.set_xscale("log")
            panel.xaxis.set(major_locator=MaxNLocator(5), minor_locator=NullLocator(), major_formatter="×{x:g}")
        panel.grid(axis="x", color="0.92")
    return figure

"""Pictures of the watch: the history of what changed."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tasks.core.report.styles import PALETTE
from tasks.core.report.watch_history import Series
from tasks.core.report.watch_text import DIRECTIONS
from tasks.core.watch.watched import Direction

LINE = PALETTE[0]
COLOURS: dict[Direction, str] = {"worse": PALETTE[5], "changed": PALETTE[1], "better": PALETTE[2]}
MARKERS: dict[Direction, str] = {"worse": "v", "changed": "D", "better": "^"}
PANELS = 8  # of a picture; the table of the history has a small line for each series
ACROSS = 2
TICKS = 4  # nights that are named below a panel
FEW = 40  # nights up to which each one has a point


def histories(shown: Sequence[Series], names: Sequence[str], differing: Sequence[int]) -> Figure:
    """Draw the first series over all nights, one panel each, with a mark on each night that has a flag on the series.

    names: those of all nights, oldest first. differing: the places of the nights before which the environment changed.
    """
    shown = shown[:PANELS]
    across = min(len(shown), ACROSS)
    down = -(-len(shown) // across)
    figure = Figure(figsize=(6.5 if across == 1 else 11, 0.6 + 2.1 * down), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
    for axes, each in zip(panels, shown, strict=False):
        _history(axes, each, differing)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    places = np.unique(np.linspace(0, len(names) - 1, TICKS).round().astype(int)).tolist()
    for axes in panels:
        axes.set_xticks(places, [names[place] for place in places], fontsize=8)
        axes.tick_params(labelbottom=True)
    figure.legend(handles=_legend(shown, differing), loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def _history(axes: Axes, each: Series, differing: Sequence[int]) -> None:
    few = len(each.values) <= FEW
    axes.plot(each.values, color=LINE, linewidth=1.2, marker="o" if few else "", markersize=3)
    for place in differing:
        axes.axvline(place - 0.5, color="0.3", linestyle=":", linewidth=1.2)
    for direction, places in each.marks.items():
        at = [place for place in places if np.isfinite(each.values[place])]
        axes.plot(at, each.values[at], linestyle="", marker=MARKERS[direction], color=COLOURS[direction], markersize=7)
    axes.set_title(each.words, fontsize=9, loc="left")
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02, y=0.15)
    axes.ticklabel_format(axis="y", useOffset=False)


def _legend(shown: Sequence[Series], differing: Sequence[int]) -> list[Line2D]:
    present = {direction for each in shown for direction in each.marks}
    marks = [
        Line2D([], [], linestyle="", marker=MARKERS[each], color=COLOURS[each], label=each)
        for each in DIRECTIONS
        if each in present
    ]
    upgrade = Line2D([], [], color="0.3", linestyle=":", linewidth=1.2, label="the environment changed")
    return [Line2D([], [], color=LINE, label="each night"), *marks, *([upgrade] if differing else [])]

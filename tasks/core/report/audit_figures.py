"""Pictures of an audit: variance through depth, and each kernel's standard deviation over He's."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.core.audit.audit import Audit
from tasks.core.audit.findings import Severity
from tasks.core.audit.flow import Flow
from tasks.core.report.audit_text import severities, shortened

COLOURS: dict[Severity | None, str] = {"fault": "#D55E00", "doubt": "#E69F00", "note": "#56B4E9", None: "#0072B2"}
MARKERS: dict[Severity | None, str] = {"fault": "X", "doubt": "^", "note": "s", None: "o"}
MOST = 60  # kernels or layers that are told by name; of more, every so-manieth is
LETTERS = 34
TALLEST = 14.0  # inches


def flows(flow: Flow) -> Figure:
    """Draw the variance of each layer's outputs, and of the loss's gradient in these, in order of execution."""
    names = [layer.name for layer in flow.layers]
    figure = Figure(figsize=(max(6.0, min(2.5 + 0.35 * len(names), 14.0)), 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    ways = (
        (upper, "variance of outputs", [layer.forward for layer in flow.layers]),
        (lower, "variance of the gradient\nin outputs", [layer.backward for layer in flow.layers]),
    )
    for axes, words, values in ways:
        places = [at for at, value in enumerate(values) if value]
        axes.plot(places, [values[at] for at in places], color=COLOURS[None], marker="o", markersize=4)
        axes.set_yscale("log")
        axes.set_ylabel(words)
        _plain(axes, "y")
        if flow.wrong_at in names:
            axes.axvline(names.index(flow.wrong_at), color=COLOURS["fault"], linestyle="--", linewidth=1)
    lower.set_xticks(*_some(names), rotation=40, ha="right", fontsize=7)
    return figure


def of_he(audit: Audit) -> Figure:
    """Draw the standard deviation of each kernel over that of He's law, in the model's order from top to bottom."""
    worst = severities(audit)
    rows = [row for row in audit.rows if row.of_he][::-1]
    figure = Figure(figsize=(8.5, min(1.4 + 0.24 * len(rows), TALLEST)), layout="constrained")
    axes = figure.subplots()
    for severity, colour in COLOURS.items():
        places = [at for at, row in enumerate(rows) if worst.get(row.name) == severity]
        if places:
            values = [rows[at].of_he or np.nan for at in places]
            axes.plot(
                values, places, linestyle="", color=colour, marker=MARKERS[severity], label=severity or "no finding"
            )
    axes.axvline(1, color="0.3", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("standard deviation, He's = 1")
    axes.set_yticks(*_some([row.name for row in rows]), fontsize=7)
    axes.set_ylim(-0.8, len(rows) - 0.2)
    _plain(axes, "x")
    axes.legend(fontsize=8, frameon=False, loc="best")
    return figure


def _some(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return places and words of as many names as can be read along an axis."""
    places = np.arange(0, len(names), -(-len(names) // MOST)).tolist() if names else []
    return places, [shortened(names[at], LETTERS) for at in places]


def _plain(axes: Axes, along: str) -> None:
    axes.grid(axis="x" if along == "x" else "y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)

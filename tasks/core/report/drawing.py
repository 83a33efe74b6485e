"""Drawing: which pictures a report has, and how a figure becomes a part of the page or a file."""

import base64
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

from tasks.core.report import figures, verdict_figures
from tasks.core.report.styles import styles
from tasks.core.report.wording import reworded
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.measures import factors
from tasks.core.statistics.side_by_side import RUNS, SideBySide

if TYPE_CHECKING:
    from tasks.core.audit.audit import Audit
    from tasks.core.report.watch_history import History, Series
    from tasks.core.watch.night import Night

NEUTRAL = {"#000000": "currentColor", "#333333": "currentColor", "#4d4d4d": "currentColor"}
"""Colours that follow the page's text, which is black on a light page and white on a dark one."""
GROUND = ("#ebebeb", "#e6e6e6", "#cccccc")  # of grids and frames, which stay faint on a light and on a dark page
MARKERS = re.compile(
    r'<g clip-path="[^"]*">\n<use xlink:href="[^"]*" x="[^"]*" y="[^"]*" (?P<style>style="[^"]*")/>\n'
    r'(?:<use xlink:href="[^"]*" x="[^"]*" y="[^"]*" (?P=style)/>\n)*</g>'
)
LARGE = 120_000  # characters; a larger drawing goes into the page as pixels, so that the page stays below 3 MB
DPI, PIXELS = 90, 600_000
WIDEST = 8.4  # rem of the page for an inch of a drawing; a small picture does not fill the page

CAPTIONS = {
    "comparison": (
        "Test accuracy and test loss",
        "Each small dot is a seed. The larger mark is the mean of an initializer, with its 95 % interval. The first "
        "table has the numbers.",
    ),
    "ranks": (
        "Ranks",
        "Initializers on a line of mean ranks, best on the left; bars join what cannot be told apart: over the seeds "
        "of one dataset by the tests of pairs, over several datasets by Wilcoxon's signed-rank test.",
    ),
    "pairs": (
        "Pairs",
        "Each row's initializer against each column's: + better, − worse, = equivalent, ? undecided, with the "
        "difference, of a loss in per cent or as a factor; all: the row's cells always finish and the column's never "
        "do, none: the reverse; blue is better, red is worse. The table of pairs has the numbers.",
    ),
    "backends": (
        "Backends",
        "The difference between the backends under each initializer, of a loss in per cent, with its 95 % interval. In "
        "the green band a difference is too small to matter. The table of backends has the numbers.",
    ),
    "runs": (
        "The second run against the first",
        "The difference between the runs under each initializer, of a loss in per cent, with its 95 % interval, over "
        "the cells that both runs have. In the green band a difference is too small to matter. The table of runs has "
        "the numbers.",
    ),
    "reaching": (
        "Epochs to the target",
        "By epoch, the share of each initializer's cells that have yet to reach the target accuracy (Kaplan–Meier). "
        "This is exploratory.",
    ),
    "profiles": (
        "Profiles over datasets",
        "By target accuracy, the share of each initializer's cells that reach it, with its 95 % interval. Every "
        "dataset counts the same, and a cell that did not finish reaches nothing. A curve that lies above another one "
        "at every target belongs to the better initializer.",
    ),
    "spread": (
        "Where the spread comes from",
        "The standard deviation that each source gives to accuracy and loss, with its 95 % interval over seeds. The "
        "thin line below it runs from the least to the most that it is in a single seed.",
    ),
    "picks": (
        "Picks",
        "By value of the tuned setting, the mean validation score over the seeds on which each initializer has picked; "
        "a ring marks the pick. The table of picks has the numbers.",
    ),
    "curves": (
        "Training",
        "Train loss and test accuracy by epoch: the mean over seeds and its 95 % interval.",
    ),
    "variances": (
        "Signals at the start",
        "Variance of pre-activations and of their gradient by layer, before training; dots are what theory expects, "
        "where a theory describes the network.",
    ),
    "flow": (
        "Variance through depth",
        "Variance of each weighted layer's outputs, and of the loss's gradient in these, in order of execution, in "
        "the first pass. A dashed line marks the layer where the pass goes wrong first, if it does.",
    ),
    "of_he": (
        "Standard deviations",
        "The standard deviation of each kernel over that of He's law for its operation, in the model's order from top "
        "to bottom. Marks tell what was found of it. The table of parameters has the numbers.",
    ),
    "history": (
        "History of what changed",
        "What was flagged tonight over all nights, a panel for each group and measure. Marks are flags of tonight and "
        "of earlier nights; a dotted line stands before a night on which the environment differed from before. The "
        "table of the history has every group and measure.",
    ),
    "gradients": (
        "Gradients",
        "Norm of each layer's weight gradient by epoch, a heat map for each initializer.",
    ),
}
"""Title of each picture, and what it shows in words, for readers who do not see it."""


@dataclass(frozen=True)
class Picture:
    """A figure with its caption. The drawing is SVG on transparent ground."""

    name: str
    title: str
    alt: str
    drawing: str
    figure: Figure

    @classmethod
    def of(cls, name: str, figure: Figure) -> "Picture":
        """Draw a figure, whose title and caption CAPTIONS has."""
        return cls(name, *CAPTIONS[name], svg(figure), figure)

    @property
    def embedded(self) -> str:
        """The HTML that shows the picture in the page: the drawing itself, or its pixels if the drawing is large."""
        if len(self.drawing) <= LARGE:
            width = f"max-width: min(68rem, {WIDEST * self.figure.get_figwidth():.0f}rem)"
            return self.drawing.replace("<svg", f'<svg style="{width}"', 1)
        page = io.BytesIO()
        width, height = self.figure.get_size_inches()
        self.figure.set_layout_engine("none")  # drawing it as SVG has laid it out, which takes as long as to draw it
        canvas: Any = FigureCanvasAgg(self.figure)  # matplotlib does not type what prints
        with _resolution(self.figure):
            self.figure.set_dpi(min(DPI, (PIXELS / (width * height)) ** 0.5))
            canvas.print_png(page)
        return f'<img alt="" src="data:image/png;base64,{base64.b64encode(page.getvalue()).decode()}">'


def pictures(findings: Findings, layers: pd.DataFrame, history: pd.DataFrame) -> list[Picture]:
    """Draw every picture for which there are findings.

    layers, history: the rows of every cell's `layers.csv` and `history.csv`, or empty tables.
    """
    figures = chain(_of_findings(findings), _of_signals(findings, layers, history) if len(layers) else ())
    return _drawn(_worded(figures) if findings.study.regression else figures)


def _worded(figures: Iterable[tuple[str, Figure]]) -> Iterator[tuple[str, Figure]]:
    """Yield figures with the words of real targets."""
    for name, figure in figures:
        for text in figure.findobj(Text):
            text.set_text(reworded(text.get_text()))
        yield name, figure


def of_audit(audit: "Audit") -> list[Picture]:
    """Draw the pictures of an audit: variance through depth, and each kernel's standard deviation over He's."""
    return _drawn(_of_audit(audit))


def _of_audit(audit: "Audit") -> Iterator[tuple[str, Figure]]:
    from tasks.core.report import audit_figures  # benchmarks need nothing of audits

    if audit.flow:
        yield "flow", audit_figures.flows(audit.flow)
    if any(row.of_he for row in audit.rows):
        yield "of_he", audit_figures.of_he(audit)


def of_runs(beside: SideBySide) -> list[Picture]:
    """Draw the picture of two runs side by side, if they share cells that differ."""
    return _drawn(_of_runs(beside) if beside.differ else ())


def _of_runs(beside: SideBySide) -> Iterator[tuple[str, Figure]]:
    yield "runs", verdict_figures.between_backends(beside.verdicts, beside.keys, RUNS[::-1])


def of_watch(nights: Sequence["Night"], history: "History") -> dict[str, Picture]:
    """Draw, by study, the history of what is flagged tonight; nights: tonight last."""
    changed = {each.study: history.changed(each) for each in nights[-1].watched}
    shown = {study: found for study, found in changed.items() if found}
    drawn = _drawn(_of_watch(nights, history, shown))
    return {
        study: replace(each, name=f"history-{study}", title=f"{each.title} in {study}")
        for study, each in zip(shown, drawn, strict=True)
    }


def _of_watch(
    nights: Sequence["Night"], history: "History", shown: Mapping[str, Sequence["Series"]]
) -> Iterator[tuple[str, Figure]]:
    from tasks.core.report import watch_figures  # benchmarks need nothing of the watch

    for study, found in shown.items():
        yield "history", watch_figures.histories(found, history.names, history.upgrades(study, nights))


def _drawn(figures: Iterable[tuple[str, Figure]]) -> list[Picture]:
    """Draw figures as they are asked for, with matplotlib's own defaults."""
    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of the user, or of the current folder, may say otherwise
        return [Picture.of(name, figure) for name, figure in figures]


def _of_findings(findings: Findings) -> Iterator[tuple[str, Figure]]:
    """Yield the name and the figure of each picture for which there are findings."""
    cells, names = findings.cells, factors(findings.cells)
    looks = styles(cells["initializer"])
    yield "comparison", figures.intervals(cells, findings.comparison, looks)
    if findings.rankings:
        yield "ranks", verdict_figures.mean_ranks(findings.rankings)
    if len(findings.pairs):
        yield "pairs", verdict_figures.matrices(findings.pairs, ["backend", *names])
    if len(findings.backends):
        yield "backends", verdict_figures.between_backends(findings.backends, names, findings.study.backends)
    if findings.reaching:
        yield "reaching", verdict_figures.survival(findings.reaching, looks, findings.study.target)
    if findings.profiles:
        yield "profiles", verdict_figures.profiles(findings.profiles, looks)
    if len(findings.spread):
        yield "spread", verdict_figures.sources(findings.spread)
    if findings.study.tune and len(findings.tuned):
        yield "picks", figures.picks(findings.tuned, findings.study.tune, looks)


def _of_signals(findings: Findings, layers: pd.DataFrame, history: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    names, looks = factors(findings.cells), styles(findings.cells["initializer"])
    yield "curves", figures.curves(history, names, looks)
    yield "variances", figures.variances(layers, names, looks)
    yield "gradients", figures.gradients(history, names)


def svg(figure: Figure) -> str:
    """Return a figure as SVG for a page.

    Text stays text, the ground is transparent, black takes the colour of the page's text, grids that of the page's
    grids. The width is left to the page. The same figure always gives the same SVG.
    """
    page = io.StringIO()
    canvas: Any = FigureCanvasSVG(figure)  # matplotlib does not type what prints
    with (
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "initbench", "font.sans-serif": ["DejaVu Sans"]}),
        _transparent(figure),
        _resolution(figure),
    ):
        canvas.print_svg(page, metadata={"Date": None})  # `savefig` would draw a figure with a layout twice
    drawn = page.getvalue()
    drawn = _shortened(_themed(drawn[drawn.index("<svg") :]))
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", drawn, count=1)


@contextmanager
def _transparent(figure: Figure) -> Iterator[None]:
    """Make a figure's grounds transparent for a drawing; give it its colours back in the end."""
    grounds = [figure.patch, *(axes.patch for axes in figure.axes)]
    colours = {ground: ground.get_facecolor() for ground in grounds}
    for ground in grounds:
        ground.set_facecolor("none")
    try:
        yield
    finally:
        for ground, colour in colours.items():
            ground.set_facecolor(colour)


@contextmanager
def _resolution(figure: Figure) -> Iterator[None]:
    """Give a figure its dots an inch back after a drawing: `print_svg` sets 72, and pixels may have fewer."""
    dots = figure.dpi
    try:
        yield
    finally:
        figure.set_dpi(dots)


def _themed(drawn: str) -> str:
    for colour, word in NEUTRAL.items():
        drawn = drawn.replace(colour, word)
    for colour in GROUND:
        drawn = drawn.replace(colour, "var(--grid)")
    return drawn


def _shortened(drawn: str) -> str:
    """Return a drawing without what a page does not need: metadata, many digits, fonts and repeated styles."""
    drawn = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r' (?:d|x|y|transform)="[^"]*"', _rounded, drawn)
    drawn = re.sub(r'font-family: [^;"]*;? ?', "", drawn)
    drawn = re.sub(r"\n\s*", "\n", drawn)
    return MARKERS.sub(_styled_together, drawn)


def _rounded(attribute: re.Match[str]) -> str:
    """Return an attribute of a drawing with numbers rounded to a hundredth of a point, on one line."""
    short = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attribute[0])
    return short.replace(" \n", " ").replace("\n", "")


def _styled_together(markers: re.Match[str]) -> str:
    """Return markers that have one style with the style in the group around them."""
    style = markers["style"]
    return markers[0].replace(f" {style}", "").replace("<g ", f"<g {style} ", 1)


def on_paper(drawing: str) -> str:
    """Return a drawing as a file of its own, black on white."""
    style = f"background: white; color: black; --grid: {GROUND[0]}; font-family: sans-serif"
    return drawing.replace("<svg", f'<svg style="{style}"', 1)

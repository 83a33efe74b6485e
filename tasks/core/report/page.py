"""The report: findings as one page that needs nothing else, and as text for GitHub and LaTeX."""

import base64
import gzip
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

import matplotlib as mpl
import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from tabulate import tabulate

from tasks.core.design.columns import MEASURES, RANKED, TITLES
from tasks.core.report import figures, verdict_figures
from tasks.core.statistics import table
from tasks.core.statistics.findings import FRAMEWORKS, Findings
from tasks.core.statistics.measures import factors
from tasks.core.statistics.verdicts import UNDECIDED, seeds_needed

CELLS = 2_000  # of the table of cells; more are in cells.csv alone
ROWS = 500  # of the table of pairs in the page; more are in pairs.csv alone
NEUTRAL = {"#000000": "currentColor", "#333333": "currentColor", "#4d4d4d": "currentColor"}
MARKERS = re.compile(
    r'<g clip-path="[^"]*">\n<use xlink:href="[^"]*" x="[^"]*" y="[^"]*" (?P<style>style="[^"]*")/>\n'
    r'(?:<use xlink:href="[^"]*" x="[^"]*" y="[^"]*" (?P=style)/>\n)*</g>'
)
LARGE = 120_000  # characters; a drawing of more goes into the page as pixels, so that the page stays below 3 MB
DPI, PIXELS = 90, 600_000
GROUND = ("#ebebeb", "#e6e6e6", "#cccccc")  # grids and frames, which stay faint on either ground


CAPTIONS = {
    "comparison": (
        "Test accuracy and test loss",
        "Dots, one a seed, with mean and 95 % interval of each initializer; the first table has the numbers.",
    ),
    "ranks": (
        "Ranks",
        "Initializers on a line of mean ranks, best on the left; bars join what Friedman's and Nemenyi's tests cannot "
        "tell apart. They use ranks alone and are weaker than the tests of pairs, whose verdicts stand.",
    ),
    "pairs": (
        "Pairs",
        "Each row's initializer against each column's: + better, − worse, = equivalent, ? undecided, with the "
        "difference; blue is better, red is worse. The table of pairs has the numbers.",
    ),
    "backends": (
        "Backends",
        "The difference between the backends under each initializer with its 95 % interval, on the band of what is too "
        "small to matter; the table of backends has the numbers.",
    ),
    "reaching": (
        "Epochs to the target",
        "By epoch, the share of each initializer's cells that have yet to reach the target accuracy (Kaplan–Meier).",
    ),
    "spread": (
        "Where the spread comes from",
        "The standard deviation that each source gives to accuracy and loss, with its 95 % interval.",
    ),
    "curves": (
        "Training",
        "Train loss and test accuracy by epoch: the mean over seeds and its 95 % interval.",
    ),
    "variances": (
        "Signals at the start",
        "Variance of pre-activations and of their gradient by layer, untrained; dotted, what theory expects.",
    ),
    "gradients": (
        "Gradients",
        "Norm of each layer's weight gradient by epoch, a heat map for each initializer.",
    ),
}
"""Title of each picture, and what it shows, in words."""


@dataclass(frozen=True)
class Picture:
    """A figure with what it shows, in words, for those who do not see it; drawn as SVG, its ground transparent."""

    name: str
    title: str
    alt: str
    drawing: str
    figure: Figure

    @classmethod
    def of(cls, name: str, title: str, alt: str, figure: Figure) -> "Picture":
        """Draw a figure."""
        return cls(name, title, alt, svg(figure), figure)

    @property
    def embedded(self) -> str:
        """What stands for it in a page: the drawing, or its pixels where it is large."""
        if len(self.drawing) <= LARGE:
            return self.drawing
        page = io.BytesIO()
        width, height = self.figure.get_size_inches()
        self.figure.savefig(page, format="png", dpi=min(DPI, (PIXELS / (width * height)) ** 0.5))
        return f'<img alt="" src="data:image/png;base64,{base64.b64encode(page.getvalue()).decode()}">'


@dataclass(frozen=True)
class Entry:
    """A field of a table: what is shown, what it is sorted by, and where it leads."""

    text: str
    order: float | str
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    name: str
    caption: str
    columns: list[str]
    rows: list[list[Entry]]


def pictures(findings: Findings, layers: pd.DataFrame, history: pd.DataFrame) -> list[Picture]:
    """Draw all that the findings have; layers and history are rows of every cell's files, or empty."""
    cells, names = findings.cells, factors(findings.cells)
    looks = figures.styles(cells["initializer"])
    drawn: dict[str, Callable[[], Figure]] = {
        "comparison": lambda: figures.intervals(cells, findings.comparison, looks)
    }
    if findings.rankings:
        drawn["ranks"] = lambda: verdict_figures.critical_differences(findings.rankings)
    if len(findings.pairs):
        drawn["pairs"] = lambda: verdict_figures.matrices(findings.pairs, ["backend", *names])
    if len(findings.backends):
        drawn["backends"] = lambda: verdict_figures.between_backends(findings.backends, names, findings.study.backends)
    if findings.reaching:
        drawn["reaching"] = lambda: verdict_figures.survival(findings.reaching, looks, findings.study.target)
    if len(findings.spread):
        drawn["spread"] = lambda: verdict_figures.sources(findings.spread)
    if len(layers):
        drawn["curves"] = lambda: figures.curves(history, names, looks)
        drawn["variances"] = lambda: figures.variances(layers, names, looks)
        drawn["gradients"] = lambda: figures.gradients(history, names)
    return [Picture.of(name, *CAPTIONS[name], draw()) for name, draw in drawn.items()]


def svg(figure: Figure) -> str:
    """Return a figure as SVG for a page: text as text, no ground, black in the colour of the page's text."""
    page = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "initbench", "font.sans-serif": ["DejaVu Sans"]}):
        figure.savefig(page, format="svg", transparent=True, metadata={"Date": None})
    drawn = page.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for colour, word in NEUTRAL.items():
        drawn = drawn.replace(colour, word)
    for colour in GROUND:
        drawn = drawn.replace(colour, "var(--grid)")
    drawn = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r' (?:d|x|y|transform)="[^"]*"', _rounded, drawn)
    drawn = re.sub(r'font-family: [^;"]*;? ?', "", drawn)  # the page's
    drawn = re.sub(r"\n\s*", "\n", drawn)
    drawn = MARKERS.sub(_styled_together, drawn)
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", drawn, count=1)  # it is as wide as its frame


def _rounded(attribute: re.Match[str]) -> str:
    """Return an attribute of a drawing to a hundredth of a point, on one line."""
    short = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attribute[0])
    return short.replace(" \n", " ").replace("\n", "")


def _styled_together(markers: re.Match[str]) -> str:
    """Return markers of one style with the style in the group around them."""
    style = markers["style"]
    return markers[0].replace(f" {style}", "").replace("<g ", f"<g {style} ", 1)


def on_paper(drawing: str) -> str:
    """Return a drawing as a file of its own, black on white."""
    style = f"background: white; color: black; --grid: {GROUND[0]}; font-family: sans-serif"
    return drawing.replace("<svg", f'<svg style="{style}"', 1)


def markdown(findings: Findings, link: str) -> str:
    """Return the findings as GitHub takes them in an issue."""
    tables = [table.as_text(findings.comparison, [], "github")]
    if len(findings.backends):
        tables.append(f"### Backends\n\n{_tabulated(_backends(findings, RANKED), 'github')}")
    return (
        "\n\n".join(
            [
                f"## {findings.study.name}",
                "\n".join(f"- {line}" for line in findings.headline),
                *tables,
                "\n".join(f"- {line}" for line in findings.notes),
                f"[In MLflow]({link})",
            ]
        )
        + "\n"
    )


def latex(findings: Findings) -> str:
    r"""Return the tables in booktabs; `\usepackage{booktabs}` is all they need. The words stand beside, as comments."""
    words = "\n".join(f"% {' '.join(line.split())}" for line in [*findings.headline, *findings.notes])
    tables = [table.as_text(findings.comparison, [], "latex_booktabs")]
    if len(findings.backends):
        tables.append(_tabulated(_backends(findings, RANKED), "latex_booktabs"))
    return "\n".join([words, *(_latin(each) for each in tables)]) + "\n"


def _latin(text: str) -> str:
    """Write signs as LaTeX's own commands, which any font has."""
    commands = {"×": r"$\times$", "†": r"$\dagger$", "−": r"$-$", "±": r"$\pm$"}
    for sign, command in commands.items():
        text = text.replace(sign, command)
    return text


def _tabulated(shown: Table, style: str) -> str:
    rows = [[entry.text for entry in row] for row in shown.rows]
    return str(tabulate(rows, headers=shown.columns, tablefmt=style, disable_numparse=True))


def html(
    findings: Findings,
    pictures: Sequence[Picture],
    environment: Mapping[str, object],
    link: str,
    cell_link: Callable[[str], str],
) -> str:
    """Return the page: no file beside it and no network is needed to read, sort or filter it."""
    bundle = resources.files("itables") / "html"
    templates = Environment(
        loader=PackageLoader("tasks.core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    others = [_measures(findings), _pairs(findings), _backends(findings), _defaults(findings), _spread(findings)]
    others.append(_cells(findings, cell_link))
    return templates.get_template("report.html").render(
        study=findings.study.name,
        headline=findings.headline,
        invalid=bool(findings.misbehaved),
        notes=findings.notes,
        first=_groups(findings),
        others=[each for each in others if each.rows],
        pictures=[(each, Markup(each.embedded)) for each in pictures],  # noqa: S704  # drawn here
        methods=findings.methods(environment),
        link=link,
        style=_packed(bundle / "dt_bundle.css"),
        script=_packed(bundle / "dt_bundle.js"),
    )


def _packed(file: Traversable) -> str:
    """Return a file as the page unpacks it: gzip in base64, a third of its size."""
    return base64.b64encode(gzip.compress(file.read_bytes(), mtime=0)).decode()


def _groups(findings: Findings) -> Table:
    comparison = findings.comparison.head(ROWS)
    shown = table.shown(comparison)
    orders = {
        **{TITLES[name]: comparison[f"{name}_mean"] for name in RANKED},
        "cells": comparison["finished"],
        "epochs to target": comparison["epochs_to_target_median"],
        "ms/cell": comparison["train_seconds_mean"],
        **{f"{way}": comparison[f"{way}_slope_mean"] for way in ("forward", "backward")},
    }
    columns = list(shown.columns)
    rows = [
        [
            Entry(str(text), _order(orders[name].iloc[at]) if name in orders else str(text))
            for name, text in zip(columns, texts, strict=True)
        ]
        for at, texts in enumerate(shown.itertuples(index=False))
    ]
    left_out = f"; {ROWS} of {len(findings.comparison)}, all in comparison.csv"
    caption = f"Initializers, best first{left_out if len(findings.comparison) > ROWS else ''}"
    return Table("groups", caption, columns, rows)


def _measures(findings: Findings) -> Table:
    keys = ["backend", *factors(findings.cells), "initializer"]
    many = len(findings.comparison) * len(MEASURES) > ROWS
    told = [measure for measure in MEASURES if not many or measure.name in RANKED]
    left_out = "; the others are in comparison.csv" if many else ""
    rows = [
        [
            *_named(row, keys),
            Entry(RESTRICTED if measure.name == "epochs_to_target" else measure.title, measure.name),
            Entry("higher" if measure.higher_is_better else "lower", ""),
            *(_with_interval(row, f"{measure.name}_{part}", f"{measure.name}_{ends}") for part, ends in CENTRES),
            _number(row[f"{measure.name}_sd"], ".3g"),
            Entry(str(row["finished"]), int(row["finished"])),
        ]
        for _, row in findings.comparison.iterrows()
        for measure in told
    ]
    names = [*keys, "measure", "better is", "mean", "interquartile mean", "SD", "finished"]
    return Table("measures", f"Measures of each initializer, with 95 % intervals{left_out}", names, rows)


def _named(row: pd.Series, keys: Sequence[str]) -> list[Entry]:
    return [Entry(str(row[key]), str(row[key])) for key in keys]


def _with_interval(row: pd.Series, part: str, ends: str) -> Entry:
    middle, low, high = row[part], row[f"{ends}low"], row[f"{ends}high"]
    interval = "" if np.isnan(low) else f" [{low:.4g}, {high:.4g}]"
    return Entry("" if np.isnan(middle) else f"{middle:.4g}{interval}", _order(middle))


def _order(value: float) -> float:
    """Return a number to sort by; what has none goes last."""
    return float(value) if np.isfinite(value) else 1e300


def _number(value: float, style: str) -> Entry:
    return Entry(format(value, style) if np.isfinite(value) else "", _order(value))


def _p(value: float) -> Entry:
    return Entry("" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}", _order(value))


def _difference(row: pd.Series) -> Entry:
    if np.isnan(row["difference"]):
        return Entry("", _order(np.nan))
    ends = "" if np.isnan(row["low"]) else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
    return Entry(f"{row['difference']:+.3f}{ends}", float(row["difference"]))


def _share(row: pd.Series) -> Entry:
    share, low, high = (row[f"better_share{end}"] for end in ("", "_low", "_high"))
    return Entry("" if np.isnan(share) else f"{share:.2f} [{low:.2f}, {high:.2f}]", _order(share))


def _judgement(row: pd.Series) -> list[Entry]:
    more = row["more_seeds"]
    open_ = row["verdict"] == UNDECIDED and row["measure"] != "train_seconds"  # whose unit is a batch
    needed = seeds_needed(more) if open_ else ""
    return [
        Entry(row["verdict"], row["verdict"]),
        Entry(needed, _order(more)),
        _difference(row),
        _number(row["effect_size"], "+.2f"),
        _share(row),
        _p(row["p"]),
        _p(row["p_equivalent"]),
        Entry(f"{row['n']}" + (f", {row['left_out']} with holes" if row["left_out"] else ""), int(row["n"])),
    ]


CENTRES = (("mean", ""), ("iqm", "iqm_"))  # columns of the comparison, and what those of their intervals begin with
ALONE = "intervals are of each difference by itself, p is after Holm's adjustment"
RESTRICTED = "epochs to target, a miss counting as all epochs"
JUDGEMENT = [
    "verdict",
    "to settle",
    "difference",
    "effect size",
    "P(better)",
    "p (Holm)",
    "p equivalent (Holm)",
    "seeds",
]


def _shortened(rows: pd.DataFrame, file: str) -> tuple[pd.DataFrame, str]:
    """Return as many rows as a page takes, of the ranked measures and the clearest first, and where the others are."""
    shown = rows
    if len(shown) > ROWS:
        shown = shown[shown["measure"].isin(RANKED)]
    if len(shown) > ROWS:
        shown = shown.sort_values("p").head(ROWS)
    return shown, f"; {len(shown):,} of {len(rows):,}, the others are in {file}" if len(shown) < len(rows) else ""


def _pairs(findings: Findings) -> Table:
    keys = ["backend", *factors(findings.cells)]
    pairs, left_out = _shortened(findings.pairs, "pairs.csv")
    caption = f"Pairs of initializers, the left against the right; {ALONE}{left_out}"
    rows = [
        [
            *_named(row, keys),
            Entry(TITLES[row["measure"]], row["measure"]),
            Entry(row["left"], row["left"]),
            Entry(row["right"], row["right"]),
            *_judgement(row),
        ]
        for _, row in pairs.iterrows()
    ]
    return Table("pairs", caption, [*keys, "measure", "left", "right", *JUDGEMENT], rows)


def _backends(findings: Findings, told: Sequence[object] = tuple(TITLES)) -> Table:
    keys = factors(findings.cells)
    names = [FRAMEWORKS[backend] for backend in findings.study.backends]
    shown, left_out = _shortened(findings.backends[findings.backends["measure"].isin(told)], "backends.csv")
    rows = [
        [
            Entry(TITLES[row["measure"]], row["measure"]),
            *_named(row, keys),
            Entry(row["initializer"], row["initializer"]),
            *_judgement(row),
        ]
        for _, row in shown.iterrows()
    ]
    return Table(
        "backends",
        f"Backends: {' − '.join(names)}; {ALONE}{left_out}",
        ["measure", *keys, "initializer", *JUDGEMENT],
        rows,
    )


def _spread(findings: Findings) -> Table:
    rows = [
        [
            Entry(TITLES[row["measure"]], row["measure"]),
            Entry(row["source"], row["source"]),
            Entry(f"{row['sd']:.4f} [{row['low']:.4f}, {row['high']:.4f}]", row["sd"]),
            Entry(row["level"], row["level"]),
            Entry(str(row["seeds"]), int(row["seeds"])),
        ]
        for _, row in findings.spread.iterrows()
    ]
    return Table("spread", "Spread by source", ["measure", "source", "standard deviation", "level", "seeds"], rows)


def _defaults(findings: Findings) -> Table:
    keys = [name for name in factors(findings.cells) if name != "weights"]
    rows = [
        [
            Entry(TITLES[row["measure"]], row["measure"]),
            *_named(row, keys),
            Entry(row["initializer"], row["initializer"]),
            *(_number(row[name], "+.4f") for name in ("native", "shared")),
            _difference(row),
            _p(row["p"]),
        ]
        for _, row in findings.defaults.iterrows()
    ]
    names = ["measure", *keys, "initializer", "native", "shared", "native − shared", "p"]
    return Table("defaults", "Backends' difference by weights", names, rows)


def _cells(findings: Findings, link: Callable[[str], str]) -> Table:
    keys = ["backend", *factors(findings.cells), "initializer"]
    rows = [
        [
            *_named(row, keys),
            Entry(str(row["seed"]), int(row["seed"]), link(row["run_id"])),
            Entry(row["status"], row["status"]),
            Entry(row["health"], row["health"]),
            _number(row["test_accuracy"], ".3f"),
            _number(row["test_loss"], ".3f"),
            _number(row["brier_score"], ".3f"),
            _number(row["epochs_to_target"], "g"),
            Entry(row["reason"], row["reason"]),
        ]
        for _, row in findings.cells.head(CELLS).fillna({"reason": "", "health": ""}).iterrows()
    ]
    left_out = f", {CELLS:,} of {len(findings.cells):,}, all in cells.csv" if len(findings.cells) > CELLS else ""
    measured = ["test accuracy", "test loss", "Brier score", "epochs to target", "reason"]
    return Table(
        "cells",
        f"Cells{left_out}; a seed leads to its run in MLflow",
        [*keys, "seed", "status", "health", *measured],
        rows,
    )

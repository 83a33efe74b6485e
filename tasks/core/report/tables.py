"""Tables as people read them: the comparison for terminals, GitHub and LaTeX, and every table of the page.

Nothing here draws, so that texts are made without loading matplotlib.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tabulate import tabulate

from tasks.core.design.columns import (
    BY_VALUE,
    COMPARED,
    DIRECTIONS,
    MEASURES,
    MEASURES_BY_NAME,
    OVER_RATES,
    RANKED,
    RANKED_MEASURES,
    TITLES,
    titled,
)
from tasks.core.report.details import FRAMEWORKS
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.measures import factors
from tasks.core.statistics.notes import COPIED, copied_law
from tasks.core.statistics.side_by_side import RUNS, SideBySide
from tasks.core.statistics.spread import number, told
from tasks.core.statistics.table import interval
from tasks.core.statistics.tuning import standpoint
from tasks.core.statistics.verdicts import FAR, UNDECIDED, amount, estimated, seeds_needed

CELLS = 2_000  # cells that the page lists; cells.csv has all
ROWS = 500  # rows of any other table of the page; its file has all
LAST = 1e300  # sorts behind every number
CENTRES = (("mean", ""), ("iqm", "iqm_"))
"""Columns of the comparison, `<measure>_mean` and `_iqm`, and how the columns of their intervals begin."""
ALONE = (
    "intervals are of each difference by itself, p is adjusted: by primary measures over the run, else over the family"
)
RESTRICTED = "a cell that missed the target counts as having taken all epochs"
OF_A_CELL = {"test_accuracy": ".3f", "test_loss": ".3f", "brier_score": ".3f", "epochs_to_target": "g"}
"""Measures that the table of cells shows, and how their numbers are written."""
JUDGEMENT = [
    *("verdict", "to settle", "difference", "of plain means", "effect size"),
    *("P(better)", "p", "p equivalent", "seeds"),
]


def shown(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison as people read it: rounded, with intervals in brackets, without empty columns."""
    names = list(comparison.columns)
    between = names[names.index("backend") + 1 : names.index("initializer")]
    table = pd.DataFrame(
        {
            **{name: comparison[name] for name in ("backend", *between)},
            "initializer": comparison["initializer"].map(_marked),
            **({"picked": comparison.apply(_picked, axis=1)} if "picked" in comparison else {}),
            "cells": comparison.apply(_counts, axis=1),
            **{name: column for measure in RANKED for name, column in _shown_measure(comparison, measure)},
            TITLES["epochs_to_target"]: comparison.apply(_epochs, axis=1),
            "health": comparison.apply(_health, axis=1),
            **{way: comparison.apply(_a_layer, axis=1, args=(way,)) for way in DIRECTIONS},
            "ms/cell": comparison["train_seconds_mean"].map(_milliseconds),
        }
    )
    empty = [way for way in DIRECTIONS if not table[way].any()]
    return table.drop(columns=empty)


def _shown_measure(comparison: pd.DataFrame, measure: str) -> Iterator[tuple[str, pd.Series]]:
    title = TITLES[measure]
    yield title, comparison.apply(interval, axis=1, args=(measure,))
    if MEASURES_BY_NAME[measure].scale == "ratio":
        yield f"{title}: geometric mean", comparison[MEASURES_BY_NAME[measure].centre].map(_rounded)
    if f"{measure}_against_best" in comparison:
        yield f"{title}: against best", comparison[f"{measure}_against_best"]


def _rounded(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def _marked(initializer: str) -> str:
    return f"{initializer} {COPIED}" if copied_law(initializer) else initializer


def _picked(row: pd.Series) -> str:
    return f"{row['picked']:g} (edge)" if row["edge"] else f"{row['picked']:g}"


def _counts(row: pd.Series) -> str:
    others = [f"{row[status]} {status}" for status in ("diverged", "failed") if row[status]]
    return ", ".join([str(row["finished"]), *others])


def _epochs(row: pd.Series) -> str:
    if np.isnan(row["epochs_to_target_median"]):
        return ""
    median = "never" if np.isinf(row["epochs_to_target_median"]) else f"{row['epochs_to_target_median']:g}"
    return f"{median} ({row['target_missed']} missed)" if row["target_missed"] else median


def _health(row: pd.Series) -> str:
    cells = row["finished"] + row["diverged"]
    return row["health"] if row["health_cells"] == cells else f"{row['health']} {row['health_cells']}/{cells}"


def _a_layer(row: pd.Series, direction: str) -> str:
    """Return the factor by which variance changes from layer to layer, and theory's factor in brackets."""
    measured, theory = (np.exp(row[f"{direction}_slope{part}_mean"]) for part in ("", "_theory"))
    if np.isnan(measured):
        return ""
    return f"×{measured:.2g}" if np.isnan(theory) else f"×{measured:.2g} (×{theory:.2g})"


def _milliseconds(seconds: float) -> str:
    return "" if np.isnan(seconds) else f"{1000 * seconds:.1f}"


def as_text(comparison: pd.DataFrame, notes: Sequence[str], style: str) -> str:
    """Return the comparison as a table in one of tabulate's styles (`simple`, `github`), and notes below it."""
    body = tabulate(shown(comparison).to_dict("list"), headers="keys", tablefmt=style, disable_numparse=True)
    return "\n\n".join([body, *notes]) + "\n"


@dataclass(frozen=True)
class Entry:
    """A field of a table of the page: its text, what the page sorts it by, and the address that it links to."""

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

    @property
    def heading(self) -> str:
        """The caption without what it says behind its first comma or semicolon."""
        return self.caption.partition(";")[0].partition(",")[0]

    def tabulated(self, style: str) -> str:
        """Return the table as text, in one of tabulate's styles."""
        rows = [[entry.text for entry in row] for row in self.rows]
        return str(tabulate(rows, headers=self.columns, tablefmt=style, disable_numparse=True))


def groups(findings: Findings) -> Table:
    """Return the page's first table: the comparison as people read it, sorted by numbers."""
    comparison = findings.comparison.head(ROWS)
    texts = shown(comparison)
    orders = {
        **{TITLES[name]: comparison[f"{name}_mean"] for name in RANKED},
        **{f"{each.title}: geometric mean": comparison[each.centre] for each in RANKED_MEASURES},
        **({"picked": comparison["picked"]} if "picked" in comparison else {}),
        "cells": comparison["finished"],
        TITLES["epochs_to_target"]: comparison["epochs_to_target_median"],
        "ms/cell": comparison["train_seconds_mean"],
        **{way: comparison[f"{way}_slope_mean"] for way in DIRECTIONS},
    }
    columns = list(texts.columns)
    rows = [
        [
            Entry(str(text), _order(orders[name].iloc[at]) if name in orders else str(text))
            for name, text in zip(columns, row, strict=True)
        ]
        for at, row in enumerate(texts.itertuples(index=False))
    ]
    left_out = f"; {ROWS} of {len(findings.comparison)}, all in comparison.csv"
    caption = (
        f"Initializers {standpoint(findings.study)}, best first{left_out if len(findings.comparison) > ROWS else ''}"
    )
    return Table("groups", caption, columns, rows)


def measures(findings: Findings) -> Table:
    """Return the table of all measures of each group, or of the ranked ones alone if these are many rows."""
    keys = ["backend", *factors(findings.cells), "initializer"]
    many = len(findings.comparison) * len(MEASURES) > ROWS
    real = findings.study.regression
    told = [each for each in MEASURES if (each.name in RANKED or not many) and not (real and each.of_classes)]
    left_out = "; the others are in comparison.csv" if many else ""
    rows = [
        [
            *_named(row, keys),
            Entry(titled(measure.name) + (f"; {RESTRICTED}" if measure.censored else ""), measure.name),
            Entry("higher" if measure.higher_is_better else "lower", ""),
            *(_with_interval(row, f"{measure.name}_{part}", f"{measure.name}_{ends}") for part, ends in CENTRES),
            _number(row[measure.centre] if measure.scale == "ratio" else np.nan, ".4g"),
            _number(row[f"{measure.name}_sd"], ".3g"),
            Entry(str(row["finished"]), int(row["finished"])),
        ]
        for _, row in findings.comparison.iterrows()
        for measure in told
    ]
    names = [*keys, "measure", "better is", "mean", "interquartile mean", "geometric mean", "SD", "finished"]
    return Table("measures", f"Measures of each initializer, with 95 % intervals{left_out}", names, rows)


def pairs(findings: Findings) -> Table:
    """Return the table of pairs of initializers."""
    keys = ["backend", *factors(findings.cells)]
    told, left_out = _shortened(findings.pairs, "pairs.csv")
    rows = [
        [*_named(row, keys), _measure(row), *_named(row, ["left", "right"]), *_judgement(row)]
        for _, row in told.iterrows()
    ]
    caption = f"Pairs of initializers, the left against the right; {ALONE}{left_out}"
    return Table("pairs", caption, [*keys, "measure", "left", "right", *JUDGEMENT], rows)


def backends(findings: Findings, measures: Sequence[object] = tuple(TITLES)) -> Table:
    """Return the table of the first backend against the second one under each initializer, by these measures."""
    keys = [*factors(findings.cells), "initializer"]
    names = [FRAMEWORKS[backend] for backend in findings.study.backends]
    told, left_out = _shortened(findings.backends[findings.backends["measure"].isin(measures)], "backends.csv")
    rows = [[_measure(row), *_named(row, keys), *_judgement(row)] for _, row in told.iterrows()]
    caption = f"Backends: {' against '.join(names)}; {ALONE}{left_out}"
    return Table("backends", caption, ["measure", *keys, *JUDGEMENT], rows)


def _shortened(rows: pd.DataFrame, file: str) -> tuple[pd.DataFrame, str]:
    """Return at most ROWS rows, and a phrase that says where the others are.

    Rows of other than the ranked measures are left out first, then those with the largest p-values.
    """
    told = rows
    if len(told) > ROWS:
        told = told[told["measure"].isin(RANKED)]
    if len(told) > ROWS:
        told = told.sort_values("p").head(ROWS)
    return told, f"; {len(told):,} of {len(rows):,}, the others are in {file}" if len(told) < len(rows) else ""


def spread(findings: Findings) -> Table:
    """Return the table of what each source gives to the spread."""
    rows = [
        [
            _measure(row),
            Entry(row["source"], row["source"]),
            Entry(told(row), row["sd"]),
            Entry(_single_seeds(row), row["most"]),
            Entry(row["level"], row["level"]),
            Entry(str(row["seeds"]), int(row["seeds"])),
        ]
        for _, row in findings.spread.iterrows()
    ]
    columns = ["measure", "source", "standard deviation", "single seeds", "level", "seeds"]
    return Table("spread", "Spread by source", columns, rows)


def _single_seeds(row: pd.Series) -> str:
    least, most = (number(row[name], row["scale"]) for name in ("least", "most"))
    return "" if np.isnan(row["most"]) else f"{least} to {most}"


def defaults(findings: Findings) -> Table:
    """Return the table of the backends' difference under native and under shared weights."""
    keys = [*(name for name in factors(findings.cells) if name != "weights"), "initializer"]
    rows = [
        [
            _measure(row),
            *_named(row, keys),
            *(_amount(row[name], row["scale"]) for name in ("native", "shared")),
            Entry(estimated(row), _order(row["estimate"])),
            _p(row["p"]),
        ]
        for _, row in findings.defaults.iterrows()
    ]
    names = ["measure", *keys, "native", "shared", "native against shared", "p"]
    return Table("defaults", "Backends' difference by weights", names, rows)


def cells(findings: Findings, link: Callable[[str], str]) -> Table:
    """Return the table of cells. A cell's seed links to its run; `link` returns the address of a run, given its id."""
    keys = ["backend", *factors(findings.cells), "initializer"]
    real = findings.study.regression
    told = {name: style for name, style in OF_A_CELL.items() if not (real and MEASURES_BY_NAME[name].of_classes)}
    rows = [
        [
            *_named(row, keys),
            Entry(str(row["seed"]), int(row["seed"]), link(row["run_id"])),
            *_named(row, ["status", "health"]),
            *(_number(row[name], style) for name, style in told.items()),
            Entry(row["reason"], row["reason"]),
        ]
        for _, row in findings.cells.head(CELLS).fillna({"reason": "", "health": ""}).iterrows()
    ]
    left_out = f", {CELLS:,} of {len(findings.cells):,}, all in cells.csv" if len(findings.cells) > CELLS else ""
    names = [*keys, "seed", "status", "health", *(TITLES[name] for name in told), "reason"]
    caption = f"Cells{left_out}; a seed leads to its run in MLflow"
    return Table("cells", caption, names, rows)


def runs(beside: SideBySide) -> Table:
    """Return the table of the second run against the first one, by the ranked measures."""
    rows = beside.verdicts if beside.differ else beside.verdicts[:0]
    keys = [*beside.keys, "initializer"]
    told = rows[rows["measure"].isin(RANKED)]
    caption = f"Runs, the second against the first, over the cells that both have; {ALONE}"
    if not beside.differ:
        none = "no cell is in both" if beside.verdicts.empty else "no cell that both have differs"
        caption = f"Runs, the second against the first: {none}"
    entries = [[*_named(row, keys), _measure(row), *_judgement(row)] for _, row in told.iterrows()]
    return Table("runs", caption, [*keys, "measure", *JUDGEMENT], entries)


def changed(beside: SideBySide) -> Table:
    """Return the table of pairs of initializers whose verdict is another one in the second run."""
    rows = [[Entry(part, part) for part in line.rpartition(": ")[::2]] for line in beside.changed]
    return Table("verdicts", "Verdicts that differ between the runs", ["where", "verdict"], rows)


def differing_cells(beside: SideBySide) -> Table:
    """Return the table of cells that differ, with the ranked measures in both runs, those of the first run first."""
    rows = beside.cells[~beside.cells["equal"]]
    keys = ["backend", *factors(beside.first.cells), "initializer", "seed", "in"]
    names = [f"{TITLES[measure]}, {run}" for measure in RANKED for run in RUNS]
    left_out = f"; {CELLS} of {len(rows)}, all in cells.csv" if len(rows) > CELLS else ""
    entries = [[*_named(row, keys), *_in_both(row)] for _, row in rows.sort_values(keys).head(CELLS).iterrows()]
    return Table("cells", f"Cells that differ{left_out}", [*keys, *names], entries)


def _in_both(row: pd.Series) -> list[Entry]:
    return [_number(row[f"{measure}_{run}"], ".4f") for measure in RANKED for run in RUNS]


def picks(findings: Findings) -> Table:
    """Return the table of what each initializer has picked, with the score of every value."""
    tune = findings.study.tune
    if tune is None or findings.tuned.empty:
        return Table("picks", "", [], [])
    keys = [name for name in findings.tuned.columns if name not in BY_VALUE]
    rows = [
        [
            *_named(group.iloc[0], keys),
            *(Entry(_picked(row), float(row["picked"])) for _, row in _chosen(group).iterrows()),
            *(_score(row) for _, row in group.iterrows()),
        ]
        for _, group in findings.tuned.groupby(keys, sort=False)
    ]
    names = [*keys, f"picked {tune.title}", *(f"at {value:g}" for value in tune.values)]
    by = tune.by.replace("_", " ")
    caption = f"Picks; {by} at each {tune.title}, mean ± SD over {tune.seeds} seeds of their own"
    return Table("picks", caption, names, rows)


def _chosen(group: pd.DataFrame) -> pd.DataFrame:
    return group[group["picked"]].assign(picked=group["value"])


def _score(row: pd.Series) -> Entry:
    """Return the score of a value; of cells that did not finish, how many."""
    lost = row["cells"] - row["finished"]
    spread = "" if np.isnan(row["score_sd"]) else f" ± {row['score_sd']:.2g}"
    words = [] if np.isnan(row["score"]) else [f"{row['score']:.3g}{spread}"]
    return Entry(", ".join([*words, *([f"{lost} lost"] if lost else [])]), _order(row["score"]))


def rates(findings: Findings) -> Table:
    """Return the table that says at how many learning rates the verdict of each pair holds."""
    keys = [name for name in findings.over_rates.columns if name not in (*OVER_RATES, *COMPARED)]
    told, left_out = _most(findings.over_rates)
    rows = [
        [
            *_named(row, keys),
            _measure(row),
            *_named(row, ["left", "right", "verdict"]),
            Entry(f"{row['holds']} of {row['rates']}", int(row["holds"])),
            Entry("reversed" if row["reversed"] else "", int(row["reversed"])),
        ]
        for _, row in told.iterrows()
    ]
    names = [*keys, "measure", "left", "right", "verdict", "holds at", "between rates"]
    return Table("rates", f"Verdicts over learning rates{left_out}", names, rows)


def _most(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return at most ROWS rows, those of ranked measures that hold at most rates first, and what is left out."""
    if len(rows) <= ROWS:
        return rows, ""
    told = rows[rows["measure"].isin(RANKED)].sort_values("holds", ascending=False, kind="stable").head(ROWS)
    return told, f"; {len(told):,} of {len(rows):,}, the others are in rates.csv"


def _named(row: pd.Series, keys: Sequence[str]) -> list[Entry]:
    return [Entry(str(row[key]), str(row[key])) for key in keys]


def _measure(row: pd.Series) -> Entry:
    return Entry(titled(row["measure"]), row["measure"])


def _judgement(row: pd.Series) -> list[Entry]:
    """Return the fields JUDGEMENT of a pair. A measure that a batch shares is not settled by a number of seeds."""
    more = row["more_seeds"]
    settled_by_seeds = row["verdict"] == UNDECIDED and not MEASURES_BY_NAME[row["measure"]].per_batch
    return [
        Entry(row["verdict"], row["verdict"]),
        Entry(_to_settle(row["more_seeds_low"], more) if settled_by_seeds else "", _order(more)),
        Entry(estimated(row), _order(row["estimate"])),
        _number(row["difference"] if row["scale"] == "ratio" else np.nan, "+.3f"),
        _number(row["effect_size"], "+.2f"),
        _share(row),
        _p(row["p"]),
        _p(row["p_equivalent"]),
        Entry(f"{row['n']}" + (f", {row['left_out']} with holes" if row["left_out"] else ""), int(row["n"])),
    ]


def _to_settle(low: float, high: float) -> str:
    """Return the range of further seeds that would probably settle a pair.

    >>> _to_settle(9.0, 28.0), _to_settle(30.0, float("inf"))
    ('probably +9 to +28 seeds', 'probably 200 seeds or more')
    """
    words = seeds_needed(high)
    return words if np.isnan(high) or high > FAR or low == high else f"probably +{low:.0f} to +{high:.0f} seeds"


def _with_interval(row: pd.Series, part: str, ends: str) -> Entry:
    middle, low, high = row[part], row[f"{ends}low"], row[f"{ends}high"]
    brackets = "" if np.isnan(low) else f" [{low:.4g}, {high:.4g}]"
    return Entry("" if np.isnan(middle) else f"{middle:.4g}{brackets}", _order(middle))


def _amount(estimate: float, scale: object) -> Entry:
    return Entry("" if np.isnan(estimate) else amount(estimate, scale), _order(estimate))


def _share(row: pd.Series) -> Entry:
    share, low, high = (row[f"better_share{end}"] for end in ("", "_low", "_high"))
    return Entry("" if np.isnan(share) else f"{share:.2f} [{low:.2f}, {high:.2f}]", _order(share))


def _number(value: float, style: str) -> Entry:
    return Entry(format(value, style) if np.isfinite(value) else "", _order(value))


def _p(value: float) -> Entry:
    return Entry("" if np.isnan(value) else p_text(value).removeprefix("= "), _order(value))


def p_text(value: float) -> str:
    """Return how a p-value compares with a number, to be read behind `p`.

    >>> p_text(0.0302), p_text(0.0001), p_text(float("nan"))
    ('= 0.030', '< 0.001', 'unknown')
    """
    return "unknown" if np.isnan(value) else "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _order(value: float) -> float:
    """Return a number to sort by; NaN and infinity come last."""
    return float(value) if np.isfinite(value) else LAST

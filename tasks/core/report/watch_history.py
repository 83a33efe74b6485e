"""The history of nights: a series for each group and measure, small lines that show one each, and a strip of verdicts.

A line is one path of SVG on a grid of whole numbers, so that a year of hundreds of groups stays a page that opens.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from tasks.core.design.columns import MEASURES_BY_NAME
from tasks.core.report.watch_text import ranked, title
from tasks.core.statistics.inference import Array
from tasks.core.watch.night import Night
from tasks.core.watch.paired import ALL
from tasks.core.watch.watched import VERDICTS, Direction, Flag, Verdict, Watched

KEYS = ["study", "group", "measure"]
HEIGHT = 24  # steps of a line's grid from its lowest to its highest value
LISTED = 5  # flagged nights that a line names
COLUMNS = 120  # of a line; if there are more nights, several share a column, which shows their lowest and highest value
TALL: dict[Verdict, int] = {"failed": 10, "not deterministic": 10, "changed": 8, "not comparable": 5}
TALL |= {"first night": 3, "quiet": 2}
"""How tall a night stands in the strip, so that colour is not all that tells verdicts apart."""
TALLEST = max(TALL.values())


@dataclass(frozen=True)
class Series:
    """A measure of a group over all nights.

    values: (nights,), NaN where a night has none. marks: of each direction, the places of the nights with a flag on
    this series. before, tonight: the addresses of the last night's record and of tonight's; empty if there is none.
    """

    study: str
    group: str
    measure: str
    values: Array
    marks: Mapping[Direction, Sequence[int]] = field(default_factory=dict)
    before: str = ""
    tonight: str = ""

    @property
    def words(self) -> str:
        """The group and the measure."""
        return f"{self.group}, {title(self.measure)}" if self.group else title(self.measure)

    @property
    def flagged(self) -> list[int]:
        """The places of the nights with a flag."""
        return sorted({place for places in self.marks.values() for place in places})

    def told(self, names: Sequence[str]) -> str:
        """Return in words what the line shows; names: those of all nights."""
        known = self.values[np.isfinite(self.values)]
        if not known.size:
            return f"{self.study}, {self.words}: no values"
        marked = [names[place] for place in self.flagged]
        many = f"{len(marked)} nights, last on {marked[-1]}" if len(marked) > LISTED else ", ".join(marked)
        lies = f"{known.size} night{'s' if known.size > 1 else ''} from {known.min():.4g} to {known.max():.4g}"
        return f"{self.study}, {self.words}: {lies}{f', flagged on {many}' if marked else ''}"


@dataclass(frozen=True)
class History:
    """All series over all nights.

    names: those of the nights, oldest first. series: first those with a flag tonight, then by study and measure.
    """

    names: list[str]
    series: list[Series]

    @classmethod
    def of(cls, values: pd.DataFrame, nights: Sequence[Night]) -> "History":
        """Return the history of values under the flags of nights.

        values: the columns night, study, group, measure, value and link. Of two rows of one night, study, group and
        measure the later one holds. nights: tonight last; flags of earlier nights are marked if these are among them.
        """
        names = sorted({*values["night"], *(each.name for each in nights)})
        order = [each.study for each in nights[-1].watched]
        found = _series(values, names, nights) if len(values) else []
        return cls(names, sorted(found, key=lambda each: _order(each, order, names.index(nights[-1].name))))

    def changed(self, tonight: Watched) -> list[Series]:
        """Return the series of a study that a flag of tonight is about, the worst first."""
        own = [each for each in self.series if each.study == tonight.study]
        about = [
            each
            for flag, _ in ranked([tonight])
            for each in own
            if flag.measure == each.measure and _about(flag, each.group)
        ]
        return list({(each.group, each.measure): each for each in about}.values())

    def upgrades(self, study: str, nights: Sequence[Night]) -> list[int]:
        """Return the places of the nights on which a study's environment differed from before."""
        return [
            self.names.index(night.name)
            for night in nights
            for each in night.watched
            if each.study == study and each.differing
        ]


def _series(values: pd.DataFrame, names: list[str], nights: Sequence[Night]) -> Iterator[Series]:
    flags = _by_study(nights)
    wide = values.pivot_table(index=KEYS, columns="night", values="value", aggfunc="last").reindex(columns=names)
    links = values.groupby(["study", "night"])["link"].last().to_dict()
    for key, row in zip(wide.index, wide.to_numpy(np.float64), strict=True):
        study, group, measure = map(str, key)
        marks: dict[Direction, list[int]] = {}
        for name, flag in flags.get(study, []):
            if _about(flag, group) and flag.measure in ("", measure):
                marks.setdefault(flag.direction, []).append(names.index(name))
        before, tonight = (str(links.get((study, name), "")) for name in ["", *names][-2:])
        yield Series(study, group, measure, row, marks, before, tonight)


def _about(flag: Flag, group: str) -> bool:
    """Tell whether a flag is about a group: about it, about all initializers of its level, or about the whole study."""
    level, _, initializer = flag.group.rpartition(" · ")
    return flag.group in ("", group) or (initializer == ALL and group.startswith(f"{level} · "))


def _by_study(nights: Sequence[Night]) -> dict[str, list[tuple[str, Flag]]]:
    """Return the flags of each study with the name of their night."""
    found: dict[str, list[tuple[str, Flag]]] = {}
    for night in nights:
        for each in night.watched:
            found.setdefault(each.study, []).extend((night.name, flag) for flag in each.flags)
    return found


def _order(each: Series, studies: Sequence[str], tonight: int) -> tuple[bool, int, int]:
    measures = list(MEASURES_BY_NAME)
    return (
        tonight not in each.flagged,
        studies.index(each.study) if each.study in studies else len(studies),
        measures.index(each.measure) if each.measure in measures else len(measures),
    )


def spark(each: Series, names: Sequence[str]) -> Markup:
    """Return a series as a small line of SVG, with a dot on each night that has a flag."""
    columns, scaled = _scaled(each.values)
    dots = Markup().join(
        Markup('<path class="dot {}" d="{}"/>').format(
            direction, "".join(_dot(columns[at], scaled[at]) for at in places)
        )
        for direction, places in each.marks.items()
    )
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" viewBox="0 -2 {} {}" preserveAspectRatio="none">'
        '<path d="{}"/>{}</svg>'
    ).format(each.told(names), max(int(columns[-1]), 1), HEIGHT + 4, _path(columns, scaled), dots)


def strip(verdicts: Sequence[Verdict]) -> Markup:
    """Return the verdicts of all nights as a strip of SVG: a bar for each night, a path for each verdict."""
    bars = {
        verdict: "".join(
            f"M{start} {TALLEST - TALL[verdict]}h{end - start}V{TALLEST}H{start}z"
            for start, end in _runs([each == verdict for each in verdicts])
        )
        for verdict in VERDICTS
        if verdict in verdicts
    }
    paths = (Markup('<path class="{}" d="{}"/>').format(each.replace(" ", "-"), drawn) for each, drawn in bars.items())
    return Markup(
        '<svg class="strip" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(len(verdicts), TALLEST, Markup().join(paths))


def _scaled(values: Array) -> tuple[NDArray[np.int_], Array]:
    """Return the column of each value, and its height in steps from the top, NaN where there is no value."""
    finite = np.where(np.isfinite(values), values, np.nan)
    count = len(values)
    columns = np.arange(count) if count <= COLUMNS else np.arange(count) * COLUMNS // count
    known = finite[~np.isnan(finite)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    if low == high:
        return columns, np.where(np.isnan(finite), np.nan, HEIGHT // 2)
    return columns, np.round((high - finite) / (high - low) * HEIGHT)


def _path(columns: NDArray[np.int_], scaled: Array) -> str:
    """Return the path through a line's points; it breaks at a column without a value."""
    drawn = ""
    for run in _unbroken(_points(columns, scaled)):
        (column, height), *others = run
        drawn += f"M{column} {height}" + ("" if others else "h0")
        for at, (right, down) in enumerate(others, start=1):
            if at < len(others) and height == down == run[at + 1][1]:
                continue  # on a level line its ends are enough
            drawn += f"l{right - column} {down - height}"
            column, height = right, down
    return drawn


def _unbroken(points: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Return the points of each part of a line in which no column is left out."""
    found: list[list[tuple[int, int]]] = []
    for point in points:
        if found and point[0] <= found[-1][-1][0] + 1:
            found[-1].append(point)
        else:
            found.append([point])
    return found


def _points(columns: NDArray[np.int_], scaled: Array) -> Iterator[tuple[int, int]]:
    """Yield the points of a line: of each column the lowest and the highest value, in the order in which they came."""
    for column in np.unique(columns):
        heights = scaled[columns == column]
        heights = heights[~np.isnan(heights)]
        if heights.size:
            for place in sorted({int(heights.argmin()), int(heights.argmax())}):
                yield int(column), int(heights[place])


def _dot(column: float, height: float) -> str:
    """Return a path's part that is a dot, by its round ends; a night without a value has its dot at the bottom."""
    return f"M{int(column)} {HEIGHT if np.isnan(height) else int(height)}h0"


def _runs(held: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each run of nights for which something holds.

    >>> list(_runs([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    steps = np.flatnonzero(np.diff([False, *held, False]))
    yield from zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True)

"""The page of a night of the watch, made of the parts of the report: the verdict, what changed, and the history."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from tasks.core.report import page, watch_text
from tasks.core.report.tables import LAST, ROWS, Entry, Table
from tasks.core.report.watch_history import History, Series, spark, strip
from tasks.core.watch.night import Night
from tasks.core.watch.watched import VERDICTS, Direction, Flag, Verdict, Watched

if TYPE_CHECKING:
    from tasks.core.report.drawing import Picture

ALARMING: tuple[Verdict, ...] = ("failed", "not deterministic")
METHODS = (
    "Every night trains the same studies from the same seeds, so on a quiet night every bit is as on the night before. "
    "A flag says what changed, in what direction and against which nights. Brackets are the interval of a change, and "
    "p is adjusted for all that is compared in a night. The size of a change of a loss or of a speed is a ratio, that "
    "of any other change a difference. In the history each line runs from the lowest to the highest value of its own "
    "series, and breaks where a night has no value. If there are more nights than a line has columns, a column shows "
    "the lowest and the highest value of its nights."
)


@dataclass(frozen=True)
class Told:
    """What the page tells of a study: its heading, its flags in sentences, how many more there are, its picture.

    differing: in what its environment differs. picked: which of its initializers picked another value.
    """

    name: str
    heading: str
    flags: list[tuple[Direction, str, str]]
    more: int
    differing: list[str]
    picked: list[str]
    link: str
    picture: tuple["Picture", Markup] | None


def html(nights: Sequence[Night], history: History, pictures: Mapping[str, "Picture"]) -> str:
    """Return the page of the last of the nights, the earlier ones being its past; pictures: by study."""
    tonight = nights[-1]
    verdict = watch_text.judged(tonight.watched, tonight.verdict)
    news = [each for each in tonight.watched if each.flags or each.differing or each.picked]
    told = [_told(each, pictures.get(each.study)) for each in news]
    tables = [studies(tonight), flags(tonight), past(nights), series(history)]
    return page.rendered(
        template="watch.html",
        heading=f"{tonight.name}: did anything change?",
        answer=[f"{verdict[0].upper()}{verdict[1:]}: {watch_text.headline(tonight)}"],
        invalid=tonight.verdict in ALARMING or "worse" in verdict,
        told=sorted(told, key=lambda each: not each.flags),
        tables={each.name: each for each in tables},
        strip=strip([each.verdict for each in nights]),
        counts=_counts(nights),
        span=f"{nights[0].name} to {tonight.name}",
        pictures=[],
        methods=METHODS,
        links={},
    )


def _counts(nights: Sequence[Night]) -> list[tuple[str, Verdict, int]]:
    """Return each verdict with the name of its style, and how many nights have it."""
    counted = Counter(each.verdict for each in nights)
    return [(each.replace(" ", "-"), each, counted[each]) for each in VERDICTS if counted[each]]


def _told(watched: Watched, picture: "Picture | None") -> Told:
    flags = watch_text.ranked([watched])
    return Told(
        name=watched.study,
        heading=f"{watched.study}: {watch_text.judged([watched], watched.verdict)}",
        flags=[
            (flag.direction, watch_text.sentence(flag, study), watch_text.evidence(flag))
            for flag, study in flags[: watch_text.TOLD]
        ],
        more=max(len(flags) - watch_text.TOLD, 0),
        differing=[*map(watch_text.went, watched.differing)],
        picked=[*map(watch_text.went, watched.picked)],
        link=watched.link,
        picture=(picture, Markup(picture.embedded)) if picture else None,  # noqa: S704  # drawn here
    )


def studies(night: Night) -> Table:
    """Return the table of studies, the worst first."""
    ordered = sorted(night.watched, key=lambda each: VERDICTS.index(each.verdict))
    rows = [
        [
            Entry(each.study, each.study, each.link),
            _ordered(watch_text.judged([each], each.verdict), VERDICTS.index(each.verdict)),
            Entry(str(len(each.flags) or ""), len(each.flags)),
            Entry(differing := "; ".join(map(watch_text.went, each.differing)), differing),
        ]
        for each in ordered
    ]
    return Table("studies", "Studies, the worst first", ["study", "verdict", "flags", "environment"], rows)


def flags(night: Night) -> Table:
    """Return the table of flags, the worst first."""
    columns = ["study", "group", "measure", "level", "direction", "change", "against", "nights", "p", "evidence"]
    found = watch_text.ranked(night.watched)
    left_out = f"; {ROWS} of {len(found)}" if len(found) > ROWS else ""
    return Table("flags", f"Flags, the worst first{left_out}", columns, [_flag(*each) for each in found[:ROWS]])


def _flag(flag: Flag, study: str) -> list[Entry]:
    measure = watch_text.title(flag.measure)
    return [
        *(Entry(each, each) for each in (study, flag.group, measure, flag.level)),
        _ordered(flag.direction, watch_text.DIRECTIONS.index(flag.direction)),
        Entry(watch_text.amount(flag), flag.size if np.isfinite(flag.size) else LAST),
        Entry(flag.against, flag.against),
        Entry(str(flag.nights), flag.nights),
        Entry("" if flag.p is None else f"{flag.p:.2g}", LAST if flag.p is None else flag.p),
        Entry(flag.words, flag.words),
    ]


def past(nights: Sequence[Night]) -> Table:
    """Return the table of the nights that were not quiet, the newest first."""
    loud = [each for each in reversed(nights) if each.verdict != "quiet"]
    left_out = f"; the last {ROWS} of {len(loud)}" if len(loud) > ROWS else ""
    rows = [
        [
            Entry(each.name, each.name, each.link),
            _ordered(watch_text.judged(each.watched, each.verdict), VERDICTS.index(each.verdict)),
            Entry(told := watch_text.headline(each, "That night"), told),
        ]
        for each in loud[:ROWS]
    ]
    return Table("past", f"Nights that were not quiet, the newest first{left_out}", ["night", "verdict", "what"], rows)


def series(history: History) -> Table:
    """Return the table of the history: a line for each study, group and measure, those with a flag tonight first."""
    columns = ["all nights", "study", "group", "measure", "last night", "tonight", "flagged nights"]
    shown = history.series[:ROWS]
    left_out = f"; {ROWS} of {len(history.series)} lines" if len(history.series) > ROWS else ""
    caption = f"History, a line for each study, group and measure{left_out}"
    return Table("history", caption, columns, [_series(each, history.names) for each in shown])


def _series(each: Series, names: Sequence[str]) -> list[Entry]:
    measure = watch_text.title(each.measure)
    before, tonight = [np.nan, *each.values][-2:]
    return [
        Entry(spark(each, names), each.words),  # first, so that a phone shows it whole
        *(Entry(word, word) for word in (each.study, each.group, measure)),
        _number(before, each.before),
        _number(tonight, each.tonight),
        Entry(str(len(each.flagged) or ""), len(each.flagged)),
    ]


def _ordered(words: str, rank: int) -> Entry:
    """Return words that are sorted by their rank, and stand on the left as words do."""
    return Entry(words, f"{rank} {words}")


def _number(value: float, link: str) -> Entry:
    known = np.isfinite(value)
    return Entry(f"{value:.4g}" if known else "", float(value) if known else LAST, link if known else "")

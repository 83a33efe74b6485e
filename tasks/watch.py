"""The watch of a night: hold each study against the nights before it, and keep and tell what changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from tasks import comparison, fence
from tasks.core.design.grid import UNTUNED, Picks
from tasks.core.design.study import Study
from tasks.core.report import audit_text, drawing, watch_feed, watch_page, watch_text
from tasks.core.report.watch_history import History
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.side_by_side import keyed
from tasks.core.training.outcome import first_line
from tasks.core.watch import bits, comparable, judge, speed
from tasks.core.watch.judge import Held
from tasks.core.watch.night import Night
from tasks.core.watch.paired import RECENT, Cells, Tonight
from tasks.core.watch.values import paces, values
from tasks.core.watch.watched import Flag, Watched
from tasks.tracking import benchmarks, nights, reading
from tasks.tracking.nights import FEED, PAGE, Entry, Kept
from tasks.tracking.store import CELLS, TUNING, Benchmark

EVENT = "initbench.flag"  # a Prefect event, one for each flag


@dataclass(frozen=True)
class Asked:
    """A study of the night. run_id: of its benchmark, None if there is no result; fault: what went wrong, in words."""

    study: str
    run_id: str | None
    fault: str


@dataclass(frozen=True)
class Audited:
    """An audit of the night. fault: why there is none; changes: since the last night, None if there was none."""

    name: str
    fault: str = ""
    changes: str | None = None
    link: str = ""


@dataclass(frozen=True, eq=False)
class Known:
    """A study's benchmark with what it found and where it ran."""

    benchmark: Benchmark
    findings: Findings
    environment: Mapping[str, object]

    @classmethod
    def of(cls, run_id: str) -> "Known":
        """Return what is known of a published benchmark."""
        benchmark, findings = comparison.recall(run_id)
        return cls(benchmark, findings, benchmarks.environment(benchmark))

    @property
    def studies(self) -> tuple[Study, ...]:
        """The study and, if it tunes, the one in which its initializers pick."""
        study = self.findings.study
        return (study, study.tuning()) if study.tune else (study,)

    @property
    def recorded(self) -> list[bits.Recorded]:
        """The bits and the history of every cell, one entry for each of the studies."""
        found = self.findings
        cells = ((found.cells, found.picks), (found.tuning_cells, UNTUNED))
        return [self._recorded(study, *own) for study, own in zip(self.studies, cells, strict=False)]

    def _recorded(self, study: Study, cells: pd.DataFrame, picks: Picks) -> bits.Recorded:
        (history,) = reading.read_files(self.benchmark, cells, "history.csv")
        return bits.Recorded(keyed(study, cells, picks), reading.read_bits(self.benchmark, cells), history)

    @cached_property
    def identity(self) -> str:
        """A hash of all that comparable nights have alike."""
        return comparable.identity(self.findings.study, self.environment)


@task(cache_policy=NO_CACHE)
def watch(
    due: datetime, at: datetime, asked: Sequence[Asked], audits: Sequence[Audited], tags: Mapping[str, str]
) -> Night:
    """Hold the studies of a night against the nights before, keep the night in MLflow, and show it in Prefect.

    due: when the night was due; its date is the night's name. at: the time now, which is the name if a night of that
    date or of a later one is on record. tags: those of the night's run.
    """
    fence.check()
    past = nights.nights()
    name = _named(due, at, [each.name for each in past])
    known = {each.study: Known.of(each.run_id) for each in asked if each.run_id}
    told, history = nights.book()
    history = _continued(history[history["night"] != name], name, known.values())
    held = _with_speed([_held(each, known.get(each.study), past) for each in asked], history, name, known, past)
    run, book = nights.opened(tags)
    tonight = Night(name, (*judge.watched(held), *map(_audited, audits)), at.isoformat(), run.file_link(PAGE))
    whole = (*(each for each in told if each.name != name), tonight)
    shown = History.of(history, whole)
    nights.keep(
        run,
        book,
        whole,
        {study: Entry(each.benchmark.run_id, each.identity) for study, each in known.items()},
        page=watch_page.html(whole, shown, drawing.of_watch(whole, shown)),
        feed=watch_feed.feed(whole, name=book.link, link=book.file_link(FEED)),
        history=history,
    )
    _show(tonight)
    return tonight


def _named(due: datetime, now: datetime, taken: Sequence[str]) -> str:
    """Return the name of a night: the date on which it was due or, if that is not after all other nights, the time."""
    date = f"{due:%Y-%m-%d}"
    return date if all(each < date for each in taken) else f"{now:%Y-%m-%d %H:%M:%S}"


def _audited(audit: Audited) -> Watched:
    """Return what a night says of an audit."""
    name = f"audit of {audit.name}"
    if audit.fault:
        return Watched(name, "failed", differing=(audit.fault,))
    if audit.changes is None:
        return Watched(name, "first night", link=audit.link)
    changed = Flag("audit", "", "", "changed", "last night", audit.changes)
    flags = () if audit.changes == audit_text.UNCHANGED else (changed,)
    return Watched(name, "changed" if flags else "quiet", flags, link=audit.link)


def _continued(history: pd.DataFrame, name: str, known: Iterable[Known]) -> pd.DataFrame:
    """Return the history of all nights so far, and of tonight, whose name is given."""
    rows = [values(name, each.findings, benchmarks.metrics(each.benchmark), each.benchmark.link) for each in known]
    parts = [each for each in (history, *rows) if len(each)]
    return pd.concat(parts, ignore_index=True) if parts else history


def _show(night: Night) -> None:
    """Show a night in Prefect: as artifacts, and as an event for each flag, to which automations answer."""
    headline = watch_text.headline(night)
    create_markdown_artifact(watch_text.markdown(night), key="watch", description=headline)
    create_link_artifact(night.link, key="watch-page", link_text=f"The night of {night.name}", description=headline)
    for study, text, payload in watch_text.notices(night):
        emit_event(
            EVENT,
            resource={"prefect.resource.id": f"initbench.study.{study}", "prefect.resource.name": study},
            payload={"night": night.name, "text": text, "link": night.link, **payload},
        )


def _held(asked: Asked, known: Known | None, past: Sequence[Kept]) -> Held:
    """Return a study of the night beside its comparable nights."""
    if known is None:
        return Held(asked.study, fault=asked.fault)
    found = Held(asked.study, known.benchmark.link, asked.fault)
    before = [each for each in past if asked.study in each.studies]
    if not before:
        return found
    try:
        return _beside(found, known, before)
    except Exception as error:  # it is gone, or of another release: the other studies are held all the same
        return replace(found, incomparable=(f"the last night cannot be read: {first_line(error)}",))


def _beside(found: Held, known: Known, before: Sequence[Kept]) -> Held:
    """Return a study of the night beside the nights that have it, newest first, if they are comparable."""
    study = found.study
    last = Known.of(before[0].studies[study].run_id)
    chain = nights.comparable(study, known.identity, before)
    if not chain:
        differing = comparable.incomparable(
            last.findings.study, known.findings.study, last.environment, known.environment
        )
        return replace(found, incomparable=(*differing,) or ("initbench describes the study otherwise since then",))
    return replace(
        found,
        attributed=tuple(comparable.attributed(last.environment, known.environment)),
        tonight=_tonight(study, known, chain),
        bits=tuple(bits.beside(*pair) for pair in zip(last.recorded, known.recorded, strict=True)),
    )


def _tonight(study: str, known: Known, chain: Sequence[Kept]) -> tuple[Tonight, ...]:
    """Return tonight's cells beside those of the nights since the baseline, of a chain of comparable ones.

    If the study tunes, the cells by which its initializers pick come next.
    """
    age = nights.age(study, chain)
    past = [_cells(each.studies[study].run_id) for each in chain[: min(age, RECENT)]]
    baseline = past[-1] if age <= RECENT else _cells(chain[age - 1].studies[study].run_id)
    tonight = _parts(known.findings.study, known.findings.cells, known.findings.tuning_cells)
    return tuple(
        Tonight(part, cells, recent, first, age)
        for part, cells, recent, first in zip(known.studies, tonight, zip(*past, strict=True), baseline, strict=True)
    )


def _cells(run_id: str) -> tuple[Cells, ...]:
    """Return the cells of a study in a night on record and, if the study tunes, those by which initializers picked."""
    benchmark, study = benchmarks.opened(run_id)
    picking = benchmarks.table(benchmark, TUNING) if study.tune else pd.DataFrame()
    return _parts(study, benchmarks.table(benchmark, CELLS), picking)


def _parts(study: Study, cells: pd.DataFrame, picking: pd.DataFrame) -> tuple[Cells, ...]:
    own = Cells.of(study, cells, picking)
    return (own, Cells(picking)) if study.tune else (own,)


def _with_speed(
    held: Sequence[Held], history: pd.DataFrame, tonight: str, known: Mapping[str, Known], past: Sequence[Kept]
) -> list[Held]:
    """Return the studies of the night with the flags of their speed."""
    paced = {}
    for study, each in known.items():
        names = [night.name for night in reversed(nights.comparable(study, each.identity, past))]
        paced[study] = paces(history, study, [*names, tonight])
    series = sum(len(each[-1].measures) for each in paced.values())
    return [replace(each, speed=speed.flags(paced.get(each.study, ()), series)) for each in held]

"""The watch of a night: hold each study against the nights before it, and keep and tell what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from tasks.core.report.watch_history import History
from tasks.core.watch.bits import Beside
from tasks.core.watch.night import Night
from tasks.core.watch.paired import RECENT, Tonight

from tasks import comparison, fence
from tasks.core.report import drawing, watch_feed, watch_page, watch_text
from tasks.core.statistics.findings import Findings
from tasks.core.watch import bits, comparable, judge, speed
from tasks.core.watch.judge import Held
from tasks.core.watch.values import values
from tasks.tracking import benchmarks, nights, reading
from tasks.tracking.nights import FEED, PAGE, Entry, Kept
from tasks.tracking.store import CELLS, Benchmark

EVENT = "initbench.flag"


@dataclass(frozen=True)
class Asked:
    """A study of the night. run_id: of its benchmark, None if there is no result; fault: what went wrong, in words."""

    study: str
    run_id: str | None
    fault: str


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
    def recorded(self) -> bits.Recorded:
        """The bits and the history of every cell."""
        cells = self.findings.cells
        (history,) = reading.read_files(self.benchmark, cells, "history.csv")
        return bits.Recorded(self.findings, reading.read_bits(self.benchmark, cells), history)

    @property
    def identity(self) -> str:
        """A hash of all that comparable nights have alike."""
        return comparable.identity(self.findings.study, self.environment)


@task(cache_policy=NO_CACHE)
def watch(due: datetime, at: str, asked: Sequence[Asked], tags: Mapping[str, str]) -> Night:
    """Hold the studies of a night against the nights before, keep the night in MLflow, and show it in Prefect.

    due: when the night was due. Its date is the night's name, with the time if another night has that date. at: the time
    now, as RFC 3339 writes it. tags: those of the night's run.
    """
    fence.check()
    past = nights.nights()
    name = f"{due:%Y-%m-%d}" if not any(each.name == f"{due:%Y-%m-%d}" for each in past) else f"{due:%Y-%m-%d %H:%M:%S}"
    told, history = nights.book()
    known = {each.study: Known.of(each.run_id) for each in asked if each.run_id}
    run, shared = nights.opened(tags)
    rows = [
        values(name, each.findings, each.benchmark.link, benchmarks.speed(each.benchmark)) for each in known.values()
    ]
    history = pd.concat([each for each in (history, *rows) if len(each)], ignore_index=True)
    held = [_held(each, known.get(each.study), past) for each in asked]
    slower = speed.flags(history, name)
    held = [judge.with_speed(each, slower.get(each.study, ())) for each in held]
    tonight = Night(name, judge.watched(held), at, run.file_link(PAGE))
    whole = (*told, tonight)
    shown = History.of(history, whole)
    pictures = drawing.of_night(shown, whole)
    nights.keep(
        run,
        shared,
        whole,
        {study: Entry(each.benchmark.run_id, each.identity) for study, each in known.items()},
        page=watch_page.html(whole, shown, pictures),
        feed=watch_feed.feed(whole, name=shared.link, link=shared.file_link(FEED)),
        history=history,
    )
    _show(tonight)
    return tonight


def _show(night: Night) -> None:
    """Show a night in Prefect: as an artifact, and as an event for each flag, to which automations answer."""
    headline = watch_text.headline(night)
    create_markdown_artifact(watch_text.markdown(night), key="watch", description=headline)
    create_link_artifact(night.link, key="watch-page", link_text=f"The night of {night.name}", description=headline)
    for flag, study in watch_text.ranked(night.watched):
        emit_event(
            EVENT,
            resource={"prefect.resource.id": f"initbench.study.{study}", "prefect.resource.name": study},
            payload={
                "night": night.name,
                "level": flag.level,
                "direction": flag.direction,
                "text": watch_text.sentence(flag, study),
                "evidence": watch_text.evidence(flag),
                "link": night.link,
            },
        )


def _held(asked: Asked, known: Known | None, past: Sequence[Kept]) -> Held:
    """Return a study of the night beside its comparable nights."""
    if known is None:
        return Held(asked.study, fault=asked.fault)
    link = known.benchmark.link
    before = [each for each in past if asked.study in each.studies]
    if not before:
        return Held(asked.study, link, asked.fault)
    last = Known.of(before[0].studies[asked.study].run_id)
    if lines := comparable.incomparable(last.findings.study, known.findings.study, last.environment, known.environment):
        return Held(asked.study, link, asked.fault, incomparable=tuple(lines))
    return Held(
        asked.study,
        link,
        asked.fault,
        attributed=tuple(comparable.attributed(last.environment, known.environment)),
        tonight=_tonight(asked.study, known, before),
        bits=_bits(last, known),
    )


def _bits(last: Known, tonight: Known) -> Beside:
    return bits.beside(last.recorded, tonight.recorded)


def _tonight(study: str, known: Known, before: Sequence[Kept]) -> Tonight:
    """Return tonight's cells beside those of the nights since the baseline.

    The baseline is the newest night that was accepted, else the first one of those that are comparable with tonight.
    """
    chain: list[Kept] = []
    for each in before:
        if each.studies[study].identity != known.identity:
            break
        chain.append(each)
        if study in each.accepted:
            break
    needed = {each.name: each for each in (*chain[:RECENT], chain[-1])}
    tables = {name: _cells(each, study) for name, each in needed.items()}
    recent = [tables[each.name] for each in chain[:RECENT]]
    return Tonight(known.findings.study, known.findings.cells, recent, tables[chain[-1].name], len(chain))


def _cells(night: Kept, study: str) -> pd.DataFrame:
    """Return the cells of a study in a night on record."""
    benchmark, _ = benchmarks.opened(night.studies[study].run_id)
    return benchmarks.table(benchmark, CELLS)

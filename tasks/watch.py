"""The watch of a night: hold each study against the nights before it, and keep and tell what changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import takewhile

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from tasks import comparison, fence
from tasks.core.report import drawing, watch_feed, watch_page, watch_text
from tasks.core.report.watch_history import History
from tasks.core.statistics.findings import Findings
from tasks.core.watch import bits, comparable, judge, speed
from tasks.core.watch.judge import Held
from tasks.core.watch.night import Night
from tasks.core.watch.paired import RECENT, Cells, Tonight
from tasks.core.watch.values import paces, values
from tasks.tracking import benchmarks, nights, reading
from tasks.tracking.nights import FEED, PAGE, Entry, Kept
from tasks.tracking.store import CELLS, Benchmark

EVENT = "initbench.flag"  # a Prefect event, one for each flag


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

    @cached_property
    def identity(self) -> str:
        """A hash of all that comparable nights have alike."""
        return comparable.identity(self.findings.study, self.environment)


@task(cache_policy=NO_CACHE)
def watch(due: datetime, at: str, asked: Sequence[Asked], tags: Mapping[str, str]) -> Night:
    """Hold the studies of a night against the nights before, keep the night in MLflow, and show it in Prefect.

    due: when the night was due. Its date is the night's name, with the time if another night has that date. at: the
    time now, as RFC 3339 writes it. tags: those of the night's run.
    """
    fence.check()
    past = nights.nights()
    date, time = f"{due:%Y-%m-%d}", f"{due:%Y-%m-%d %H:%M:%S}"
    name = time if any(each.name == date for each in past) else date
    known = {each.study: Known.of(each.run_id) for each in asked if each.run_id}
    told, history = nights.book()
    history = _continued(history, name, known.values())
    held = [_held(each, known.get(each.study), past) for each in asked]
    run, book = nights.opened(tags)
    tonight = Night(name, judge.watched(_with_speed(held, history, name, known, past)), at, run.file_link(PAGE))
    whole = (*told, tonight)
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
    found = Held(asked.study, known.benchmark.link, asked.fault)
    before = [each for each in past if asked.study in each.studies]
    if not before:
        return found
    last = Known.of(before[0].studies[asked.study].run_id)
    if before[0].studies[asked.study].identity != known.identity:
        differing = comparable.incomparable(
            last.findings.study, known.findings.study, last.environment, known.environment
        )
        return replace(found, incomparable=tuple(differing))
    return replace(
        found,
        attributed=tuple(comparable.attributed(last.environment, known.environment)),
        tonight=_tonight(asked.study, known, _comparable(asked.study, known, past)),
        bits=bits.beside(last.recorded, known.recorded),
    )


def _comparable(study: str, known: Known, past: Sequence[Kept]) -> list[Kept]:
    """Return the nights of a study that are comparable with tonight, newest first, up to the first one that is not."""
    own = (each for each in past if study in each.studies)
    return [*takewhile(lambda each: each.studies[study].identity == known.identity, own)]


def _tonight(study: str, known: Known, chain: Sequence[Kept]) -> Tonight:
    """Return tonight's cells beside those of the nights since the baseline, which end a chain of comparable ones.

    The baseline is the newest night that was accepted, else the first of them.
    """
    age = next((at for at, each in enumerate(chain, 1) if study in each.accepted), len(chain))
    recent = [_cells(each, study) for each in chain[: min(age, RECENT)]]
    baseline = recent[-1] if age <= RECENT else _cells(chain[age - 1], study)
    return Tonight(known.findings.study, Cells(known.findings.cells), recent, baseline, age)


def _cells(night: Kept, study: str) -> Cells:
    """Return the cells of a study in a night on record."""
    benchmark, _ = benchmarks.opened(night.studies[study].run_id)
    return Cells(benchmarks.table(benchmark, CELLS))


def _with_speed(
    held: Sequence[Held], history: pd.DataFrame, tonight: str, known: Mapping[str, Known], past: Sequence[Kept]
) -> list[Held]:
    """Return the studies of the night with the flags of their speed."""
    paced = {}
    for study, each in known.items():
        names = [night.name for night in reversed(_comparable(study, each, past))]
        paced[study] = paces(history, study, [*names, tonight])
    series = sum(len(each[-1].measures) for each in paced.values())
    return [replace(each, speed=speed.flags(paced.get(each.study, ()), series)) for each in held]

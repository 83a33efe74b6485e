"""Read the cells back from the store, compare them, and publish the findings in MLflow and Prefect."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from tasks import fence
from tasks.core.design import grid
from tasks.core.design.grid import Cell
from tasks.core.design.study import Study
from tasks.core.report import drawing, page, runs_page, tables
from tasks.core.report.answer import answer
from tasks.core.statistics import checks, table
from tasks.core.statistics.findings import CONTROLS, Findings
from tasks.core.statistics.side_by_side import SideBySide
from tasks.core.watch import pace
from tasks.tracking import benchmarks, reading, recording
from tasks.tracking.store import CELLS, TUNING, Benchmark
from tasks.trainers import pool

BESIDE, PAGE = "compare", "compare.html"  # the folder in a benchmark's run, and the page, that hold it against another
MIB = 2**20
ANSWERED = "comparison.svg"  # the picture that stands beside the answer


@dataclass(frozen=True)
class Result:
    """A study's cells as the store holds them, one row each, and its claims with the judgement of each."""

    cells: pd.DataFrame
    judged: pd.DataFrame


@task(cache_policy=NO_CACHE)
def collect(study: Study, benchmark: Benchmark, run_ids: Mapping[Cell, str]) -> Result:
    """Read a study's cells back from the store, and judge the study's claims by them."""
    return _result(study, benchmark, run_ids)


def _result(study: Study, benchmark: Benchmark, run_ids: Mapping[Cell, str]) -> Result:
    cells = reading.read(benchmark, study, run_ids)
    return Result(cells, checks.judge(study.checks, cells))


@task(cache_policy=NO_CACHE)
def compare(
    study: Study, benchmark: Benchmark, result: Result, controls: Result | None, tuning: Result | None
) -> Findings:
    """Return the findings from a study's cells, from those of its controls, and from those by which it has tuned."""
    behaved, picking = controls.judged if controls else None, tuning.cells if tuning else None
    return Findings.of(study, result.cells, result.judged, behaved, picking, look=benchmarks.look(benchmark))


@task(cache_policy=NO_CACHE)
def publish(benchmark: Benchmark, findings: Findings) -> None:
    """Store the report and its tables in the benchmark's run, and show a summary in Prefect."""
    fence.check()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(benchmark, findings, folder)
        misbehaved = findings.misbehaved
        tags = {} if findings.controls is None else {"initbench.valid": str(not misbehaved).lower()}
        peaks = {f"peak_memory_{name}": held / MIB for name, held in pool.peaks().items()}
        speeds = pace.measured(reading.paced(benchmark), _begun())
        recording.publish(benchmark, folder, table.metrics(findings.comparison) | peaks | speeds, tags)
        recording.groups(benchmark, findings.study)
        pictures = [picture.name for picture in sorted(folder.glob("*.svg"))]
    rows = [dict(row) for _, row in tables.shown(findings.comparison).astype(str).iterrows()]
    first, *_ = answer(findings)
    create_table_artifact(rows, key="comparison", description=first)
    create_markdown_artifact(_summary(benchmark, findings, pictures), key="summary", description=first)
    create_link_artifact(benchmark.link, key="mlflow", link_text="This benchmark in MLflow", description="Every number")


def _begun() -> float:
    """Return when the current flow run began, in seconds since 1970."""
    run = FlowRunContext.get()
    return run.start_time.timestamp() if run else float("nan")


def _summary(benchmark: Benchmark, findings: Findings, pictures: Sequence[str]) -> str:
    """Return the summary in Markdown: the answer with its picture, links, the details, and the other pictures."""
    report, cells = f"{benchmark.link}/artifacts/report.html", benchmark.cells_link
    links = f"[The report]({report}) · [every cell, by initializer]({cells}) · [all of it in MLflow]({benchmark.link})"
    words = page.markdown(findings, links, benchmark.file_link(ANSWERED))
    others = (f"![{name}]({benchmark.file_link(name)})" for name in pictures if name != ANSWERED)
    return "\n\n".join([words, *others])


def write(benchmark: Benchmark, findings: Findings, folder: Path) -> None:
    """Write the report, as a page and as text, with its tables and pictures into a folder."""
    for name, rows in findings.tables.items():
        rows.to_csv(folder / f"{name}.csv", index=False)
    (folder / "comparison.md").write_text(page.markdown(findings, f"[In MLflow]({benchmark.link})"))
    (folder / "comparison.tex").write_text(page.latex(findings))
    pictures = drawing.pictures(findings, *reading.read_files(benchmark, findings.cells, "layers.csv", "history.csv"))
    for picture in pictures:
        (folder / f"{picture.name}.svg").write_text(drawing.on_paper(picture.drawing))
    environment = benchmarks.environment(benchmark)
    audits = benchmarks.audits(benchmark) if findings.study.audit else {}
    html = page.html(findings, pictures, environment, audits, benchmark.link, benchmark.link_to)
    (folder / "report.html").write_text(html)


def rebuild(run_id: str, folder: Path) -> tuple[Benchmark, Findings]:
    """Write a benchmark's report again, from its record in MLflow, into a folder; make the folder if needed.

    Raises:
        StoreError: if there is no such benchmark, or some of its cells were deleted.
    """
    benchmark, findings = recall(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    write(benchmark, findings, folder)
    return benchmark, findings


def side_by_side(first: str, second: str, folder: Path | None = None) -> SideBySide:
    """Return two published benchmarks side by side; write their page and tables into a folder, if one is given.

    Raises:
        StoreError: if there is no such benchmark, or some of its cells were deleted.
    """
    (one, before), (other, after) = recall(first), recall(second)
    beside = SideBySide(before, after, benchmarks.environment(one), benchmarks.environment(other))
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        beside.cells.to_csv(folder / "cells.csv", index=False)
        beside.verdicts.to_csv(folder / "verdicts.csv", index=False)
        (folder / PAGE).write_text(runs_page.html(beside, drawing.of_runs(beside), (one.link, other.link)))
    return beside


def publish_beside(first: str, second: str) -> tuple[str, str]:
    """Store the page of two published benchmarks side by side, with its tables, in the run of the second one.

    Return whether the answer changes, in a sentence, and the address of the page.

    Raises:
        StoreError: if there is no such benchmark, or some of its cells were deleted.
        FencedError: if the current flow run was ended from outside.
    """
    with tempfile.TemporaryDirectory() as folder:
        beside = side_by_side(first, second, Path(folder))
        fence.check()
        benchmark, _ = benchmarks.opened(second)
        recording.attach(benchmark, Path(folder), BESIDE)
    return beside.answer, f"{benchmark.link}/artifacts/{BESIDE}/{PAGE}"


def recall(run_id: str) -> tuple[Benchmark, Findings]:
    """Return a published benchmark, with the findings from its cells.

    Raises:
        StoreError: if there is no such benchmark, or some of its cells were deleted.
    """
    benchmark, study = benchmarks.opened(run_id)
    result = _recalled(study, benchmark, CELLS)
    picking = _recalled(study.tuning(), benchmark, TUNING).cells if study.tune else None
    judged = benchmarks.table(benchmark, "checks.csv")
    controls = judged[judged["part"] == CONTROLS] if "part" in judged else judged[:0]
    others = controls if len(controls) else None
    look = benchmarks.look(benchmark)
    return benchmark, Findings.of(study, result.cells, result.judged, others, picking, look=look)


def _recalled(study: Study, benchmark: Benchmark, file: str) -> Result:
    """Return the result of a study whose cells a file of the benchmark lists."""
    listed = benchmarks.table(benchmark, file)["run_id"]
    return _result(study, benchmark, dict(zip(grid.cells(study), listed, strict=True)))

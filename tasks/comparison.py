"""Read the cells back, compare them, and publish the comparison in MLflow and Prefect."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from tasks import tracking
from tasks.core import checks, datasets, figures, table
from tasks.core.study import Cell, Study
from tasks.tracking import Benchmark

TABLES = ("cells.csv", "comparison.csv", "comparison.md", "checks.csv")
DPI = 130


@dataclass(frozen=True)
class Result:
    """A study's cells as the store holds them, one row each, and its claims as they were judged."""

    cells: pd.DataFrame
    judged: pd.DataFrame

    @property
    def misbehaved(self) -> list[str]:
        """The claims that do not hold, or could not be tested."""
        return list(dict.fromkeys(self.judged.loc[self.judged["result"] != checks.HELD, "claim"]))


@task(cache_policy=NO_CACHE)
def collect(study: Study, benchmark: Benchmark, run_ids: Mapping[Cell, str]) -> Result:
    """Read a study's cells back, and hold its claims against them."""
    cells = tracking.read(benchmark, study, run_ids)
    return Result(cells, checks.judge(study.checks, cells))


@task(cache_policy=NO_CACHE)
def compare(study: Study, result: Result, controls: Result | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the comparison of a study's cells, and the notes that go with it."""
    test_rows = len(datasets.divide(datasets.load(study.dataset), study.split, study.seed_list[0]).test_rows)
    verdict = table.validity(checks.lines(controls.judged), controls.misbehaved) if controls else []
    notes = [*verdict, *checks.lines(result.judged), *table.notes(study, result.cells, test_rows)]
    return table.compare(result.cells), notes


@task(cache_policy=NO_CACHE)
def publish(
    benchmark: Benchmark, result: Result, controls: Result | None, comparison: pd.DataFrame, notes: list[str]
) -> None:
    """Store the comparison with the benchmark's run and show it in Prefect."""
    markdown = table.as_text(comparison, notes, "github")
    judged = [result.judged, *([controls.judged] if controls else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result.cells.to_csv(folder / "cells.csv", index=False)
        comparison.to_csv(folder / "comparison.csv", index=False)
        pd.concat(judged).to_csv(folder / "checks.csv", index=False)
        (folder / "comparison.md").write_text(markdown)
        _draw(benchmark, result.cells, comparison, folder)
        tags = {"initbench.valid": str(not controls.misbehaved).lower()} if controls else {}
        tracking.publish(benchmark, folder, table.metrics(comparison), tags)
    rows = [dict(row) for _, row in table.shown(comparison).astype(str).iterrows()]
    create_table_artifact(rows, key="comparison", description=notes[0])
    create_markdown_artifact(f"{markdown}\n[Open in MLflow]({benchmark.link})\n", key="summary")
    create_link_artifact(benchmark.link, key="mlflow", link_text="This benchmark in MLflow")


def _draw(benchmark: Benchmark, cells: pd.DataFrame, comparison: pd.DataFrame, folder: Path) -> None:
    """Draw every picture of a comparison; those of signals need a cell that was trained."""
    looks = figures.styles(cells["initializer"])
    drawn = {"comparison": figures.intervals(cells, comparison, looks)}
    layers, history = tracking.read_files(benchmark, cells, "layers.csv", "history.csv")
    if not layers.empty:
        factors = table.factors(cells)
        drawn["variances"] = figures.variances(layers, factors, looks)
        drawn["curves"] = figures.curves(history, factors, looks)
        drawn["gradients"] = figures.gradients(history, factors)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI)

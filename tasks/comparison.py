"""Read the cells back, compare them, and publish the comparison in MLflow and Prefect."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from tasks import tracking
from tasks.core import datasets, figures, table
from tasks.core.study import Study
from tasks.tracking import Benchmark

TABLES = ("cells.csv", "comparison.csv", "comparison.md")


@task(cache_policy=NO_CACHE)
def compare(study: Study, benchmark: Benchmark, run_ids: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return the cells as the store holds them, the comparison of them, and the notes that go with it."""
    cells = tracking.read(benchmark, study, run_ids)
    test_rows = len(datasets.divide(datasets.load(study.dataset), study.split, study.seed_list[0]).test_rows)
    return cells, table.compare(cells), table.notes(study, cells, test_rows)


@task(cache_policy=NO_CACHE)
def publish(
    benchmark: Benchmark,
    cells: pd.DataFrame,
    comparison: pd.DataFrame,
    notes: Sequence[str],
) -> None:
    """Store the comparison with the benchmark's run and show it in Prefect."""
    markdown = table.as_text(comparison, notes, "github")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells.to_csv(folder / "cells.csv", index=False)
        comparison.to_csv(folder / "comparison.csv", index=False)
        (folder / "comparison.md").write_text(markdown)
        figures.intervals(cells, comparison).savefig(folder / "comparison.png", dpi=150)
        tracking.publish(benchmark, folder, table.metrics(comparison))
    rows = [dict(row) for _, row in table.shown(comparison).astype(str).iterrows()]
    create_table_artifact(rows, key="comparison", description=notes[0])
    create_markdown_artifact(f"{markdown}\n[Open in MLflow]({benchmark.link})\n", key="summary")
    create_link_artifact(benchmark.link, key="mlflow", link_text="This benchmark in MLflow")

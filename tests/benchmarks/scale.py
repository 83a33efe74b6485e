"""What many cells cost: `python -m tests.benchmarks.scale cell`, or `full`, or `group`.

Cells that were trained once are recorded under other seeds, as if a benchmark of 1,000 and then of 10,000 cells had
trained them; the benchmark is then found, read back, compared and drawn. The ratios of the two sizes are what counts.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from tasks.core.design import grid
from tasks.core.design.study import Study
from tasks.core.report import drawing
from tasks.core.statistics import checks
from tasks.core.statistics.findings import Findings
from tasks.tracking import reading, recording, reuse
from tasks.trainers import memory
from tests.benchmarks.recording import trained
from tests.shared.keys import HERE

SEEDS = (62, 625)  # 992 and 10,000 cells
TOGETHER = 64  # cells in one call


def seconds(work):
    begun, spent = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - begun, time.process_time() - spent


def record(study, outcomes, parent):
    """Record every cell of a study, each with the outcome of a cell that was trained."""
    run_ids = {}
    for batch in grid.batches(study, HERE):
        for part in batch.cut(TOGETHER):
            made = [replace(outcomes[at % len(outcomes)], cell=cell) for at, cell in enumerate(part.cells)]
            found = recording.record(parent, part, made, {})
            run_ids |= {cell: found[key] for cell, key in part.keys.items()}
    return {cell: run_ids[cell] for cell in grid.cells(study)}


def measured(outcomes, level, seeds):
    study = Study(seeds=seeds, record=level)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        before = memory.held(os.getpid())
        with recording.benchmark(study, {}, {}) as parent:
            run_ids, *recorded = seconds(lambda: record(study, outcomes, parent))
            grown = memory.held(os.getpid()) - before
            _, *shown = seconds(lambda: recording.groups(parent, study))
            found, *finding = seconds(lambda: reuse.find(study.name, grid.batches(study, HERE)))
            assert len(found.run_ids) == len(run_ids)
            cells, *read = seconds(lambda: reading.read(parent, study, run_ids))
            rows, *files = seconds(lambda: reading.read_files(parent, cells, "layers.csv", "history.csv"))
            findings, *compared = seconds(lambda: Findings.of(study, cells, checks.judge(study.checks, cells), None))
            _, *drawn = seconds(lambda: drawing.pictures(findings, *rows))
        size = sum(each.stat().st_size for each in Path(folder).rglob("*") if each.is_file())
        times = {
            "record": recorded,
            "runs of groups": shown,
            "find": finding,
            "read rows": read,
            "read files": files,
            "compare": compared,
            "draw": drawn,
        }
        return len(run_ids), times, grown, size


def main():
    _, outcomes = trained()
    level, *sizes = sys.argv[1:]
    (few, less, _, _), (many, more, grown, size) = (
        measured(outcomes, level, seeds) for seeds in (map(int, sizes) if sizes else SEEDS)
    )
    rows = [
        [name, less[name][0], more[name][0], more[name][1], more[name][1] / many * few / max(less[name][1], 1e-9)]
        for name in less
    ]
    columns = ["", f"s, {few} cells", f"s, {many} cells", "s of processor time", "cost a cell, times that of few"]
    print(tabulate(rows, columns, floatfmt=".3g"))  # noqa: T201
    print(f"the process grew by {grown / 2**20:.0f} MiB; the store takes {size / many / 1024:.0f} KiB a cell")  # noqa: T201


if __name__ == "__main__":
    main()

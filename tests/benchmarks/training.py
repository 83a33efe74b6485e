"""How much cheaper cells are together: `python -m tests.benchmarks.training pytorch`, or `keras`.

Times one batch of cells against one cell at a time and against the framework's plain way, in turn within one run,
and prints the medians and their ratio to the batch. The machine's own speed cancels out.
"""

import importlib
import sys
import time
from statistics import median

from tasks.core.design import grid
from tasks.core.design.study import Study
from tasks.core.training import batch
from tests.shared import plain

CELLS = 64
SINGLES = 4  # single cells timed per round, for they take long
ROUNDS = 5


def seconds(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def chosen():
    """Return the backend that the command names, the default study, and a batch of its cells."""
    name = sys.argv[1]
    framework = importlib.import_module(f"tasks.backends.{name}")
    framework.setup(threads=1)
    return framework, Study(), [cell for cell in grid.cells(Study()) if cell.backend == name][:CELLS]


def main() -> None:
    framework, study, cells = chosen()
    settings = study.settings(framework.NAME, ())
    train_plainly = plain.TRAIN[framework.NAME]

    def train(some):
        batch.train(framework, settings, some, clock=time.perf_counter)

    ways = {
        f"batch of {CELLS}": lambda: seconds(lambda: train(cells)) / CELLS,
        "batches of one": lambda: seconds(lambda: [train([cell]) for cell in cells[:SINGLES]]) / SINGLES,
        "plain framework": lambda: seconds(lambda: [train_plainly(study, c) for c in cells[:SINGLES]]) / SINGLES,
    }
    for way in ways.values():
        way()  # compiles
    measured = {label: [] for label in ways}
    for _ in range(ROUNDS):
        for label, way in ways.items():
            measured[label].append(way())
    base = median(measured[f"batch of {CELLS}"])
    for label, times in measured.items():
        print(f"{label:20}{1000 * median(times):9.2f} ms a cell{median(times) / base:8.1f} x")  # noqa: T201


if __name__ == "__main__":
    main()

"""What a benchmark would do: which cells are reused, which are trained, in what batches."""

from dataclasses import dataclass

from tasks import machine, tracking
from tasks.core import datasets
from tasks.core.study import Batch, Cell, Platform, Study


@dataclass(frozen=True)
class Plan:
    """A study on a platform: the run ids of the cells to reuse, and the batches to train."""

    study: Study
    platform: Platform
    reused: dict[Cell, str]
    batches: list[Batch]

    def __str__(self) -> str:
        new = [cell for batch in self.batches for cell in batch.cells]
        lines = {
            "study": self.study.name,
            "backends": ", ".join(self.study.backends),
            "initializers": ", ".join(self.study.initializers),
            "seeds": ", ".join(map(str, self.study.seed_list)),
            "cells": f"{len(self.study.cells())}: {len(new)} to train in {len(self.batches)} tasks, "
            f"{len(self.reused)} reused",
        }
        rows = [f"{name:14}{value}" for name, value in lines.items()]
        for backend, initializer in dict.fromkeys((cell.backend, cell.initializer) for cell in new):
            seeds = [str(cell.seed) for cell in new if (cell.backend, cell.initializer) == (backend, initializer)]
            rows.append(f"{'to train':14}{backend} · {initializer} · seeds {', '.join(seeds)}")
        return "\n".join(rows)


def plan(study: Study, *, fresh: bool) -> Plan:
    """Look up what earlier benchmarks left; `fresh` looks at nothing.

    Raises:
        StoreError: if the tracking store cannot be used.
        ValueError: if the data cannot be split as the study says.
    """
    data = datasets.load(study.dataset)
    datasets.divide(data, study.split, study.seed_list[0])
    platform = machine.platform_for(data.checksum)
    reused = {} if fresh else tracking.find(study, platform)
    return Plan(study, platform, reused, study.batches([cell for cell in study.cells() if cell not in reused]))

"""Crews: who does the work of a benchmark, trainers on this machine or workers elsewhere."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from prefect import Task, runtime

from flows.plan import Plan
from tasks import cells, models, parity, remote
from tasks.trainers import process

THREADS = 200  # tasks at once; nearly all of them wait, and the cells of waiting tasks are trained together


@dataclass(frozen=True)
class Crew:
    """The tasks that need a framework, and a context that holds the trainers, or the workers' parts, meanwhile."""

    open: Callable[[Plan], AbstractContextManager[object]]
    train_cells: Task[..., Any]
    check_parity: Task[..., Any]
    crown: Task[..., Any]


CREWS = {
    "local": Crew(
        lambda plan: cells.trainers(plan.study.backends, plan.networks.in_flight()),
        cells.train_cells,
        parity.check_parity,
        models.crown,
    ),
    "workers": Crew(
        lambda plan: remote.parts(plan.study.name, fresh=plan.fresh),
        remote.train_cells,
        remote.check_parity,
        remote.crown,
    ),
}
"""The crew for each value of the study's `runner`."""


def end_with_worker() -> None:
    """End this process once the worker that started it has died: the next worker's processes need the GPUs."""
    if runtime.deployment.id:
        process.end_with(os.getppid())

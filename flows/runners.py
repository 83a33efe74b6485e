"""Runners: who does the work of a benchmark, trainers on this machine or workers elsewhere."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from prefect import Task

from flows.plan import Plan
from tasks import cells, here, models, parity, remote

THREADS = 200  # tasks at once; nearly all of them wait, and the cells of waiting tasks are trained together


@dataclass(frozen=True)
class Runner:
    """The tasks that need a framework, and a context that holds the trainers, or the workers' parts, meanwhile."""

    open: Callable[[Plan], AbstractContextManager[object]]
    train_cells: Task[..., Any]
    check_parity: Task[..., Any]
    crown: Task[..., Any]


RUNNERS = {
    "local": Runner(
        lambda plan: here.trainers(plan.study.backends, plan.networks.in_flight()),
        cells.train_cells,
        parity.check_parity,
        models.crown,
    ),
    "workers": Runner(
        lambda plan: remote.parts(plan.study.name, fresh=plan.fresh),
        remote.train_cells,
        remote.check_parity,
        remote.crown,
    ),
}
"""The runner for each value of the study's `runner`."""

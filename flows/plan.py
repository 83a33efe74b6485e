"""What a benchmark would do: which cells are reused, which are trained, in what batches."""

import os
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import PREFECT_API_URL

from flows import studies
from tasks import machine, remote, tracking
from tasks.core.training import datasets
from tasks.core.design.study import Batch, Cell, CsvFile, Platform, Study, short, source

DATA_FOLDERS = "INITBENCH_DATA"  # folders from which CSV files may be read, separated as in PATH


@dataclass(frozen=True)
class Plan:
    """A study on a platform: the run ids of the cells to reuse, the batches to train, and the controls' own plan.

    firsts: for each cell the first one of its key, which alone is trained: levels may differ in what changes nothing.
    """

    study: Study
    platform: Platform
    reused: dict[Cell, str]
    batches: list[Batch]
    firsts: dict[Cell, Cell]
    controls: "Plan | None" = None

    def run_ids(self, trained: dict[Cell, str]) -> dict[Cell, str]:
        """Return the run id of every cell of the grid, in its order, given those that were trained."""
        known = self.reused | trained
        return {cell: known[first] for cell, first in self.firsts.items()}

    def __str__(self) -> str:
        new = [cell for batch in self.batches for cell in batch.cells]
        lines = {
            "study": self.study.name,
            "data": ", ".join(map(source, self.study.datasets)),
            "hidden units": ", ".join(map(str, self.study.network.units)),
            "backends": ", ".join(self.study.backends),
            "initializers": ", ".join(self.study.initializers),
            **{short(factor): ", ".join(map(str, levels)) for factor, levels in self.study.factors.items()},
            "seeds": ", ".join(map(str, self.study.seed_list)),
            "cells": f"{len(self.study.cells())}: {len(new)} to train in {len(self.batches)} tasks, "
            + (f"{len(self.reused)} reused" if self.study.runner == "local" else "workers reuse what they have"),
        }
        if self.controls:
            missing = sum(len(batch.cells) for batch in self.controls.batches)
            lines["controls"] = f"{len(self.controls.study.cells())}: {missing} to train"
        untested = [check.claim for check in self.study.checks if not self.study.has_cells_for(check)]
        if untested:
            lines["not tested"] = "; ".join(untested)
        rows = [f"{name:14}{value}" for name, value in lines.items()]
        groups: dict[str, list[str]] = {}
        for cell in new:
            group, _, seed = str(cell).rpartition(" · seed ")
            groups.setdefault(group, []).append(seed)
        rows += [f"{'to train':14}{group} · seeds {', '.join(seeds)}" for group, seeds in groups.items()]
        return "\n".join(rows)


def plan(study: Study, *, fresh: bool) -> Plan:
    """Look up what earlier benchmarks left of a study and of its controls; `fresh` looks at nothing.

    Raises:
        StoreError: if the tracking store cannot be used.
        ValueError: if there are no such controls, or the data may not be read, or cannot be split as the study says.
    """
    controls = None
    if study.controls:
        shipped = studies.load(study.controls) if study.controls in studies.names() else None
        if shipped is None or not shipped.checks:
            able = [name for name in studies.names() if studies.load(name).checks]
            raise ValueError(f"controls must be a study that has checks: {', '.join(able)}; got {study.controls!r}")
        # under the study's own name, for their cells stand in its experiment
        changes = {"name": study.name, "backends": study.backends, "runner": study.runner, "controls": None}
        controls = plan(shipped.model_copy(update=changes), fresh=fresh)
    platform = survey(study)
    reused = {} if fresh or study.runner != "local" else tracking.find(study, platform)  # workers are other platforms
    by_key: dict[str, Cell] = {}
    firsts = {cell: by_key.setdefault(key, cell) for cell, key in study.cell_keys(platform).items()}
    batches = study.batches([cell for cell, first in firsts.items() if cell == first and cell not in reused])
    return Plan(study, platform, reused, batches, firsts, controls)


def check_runner(study: Study) -> None:
    """Refuse a study whose cells would wait for ever for somebody to train them.

    Raises:
        ValueError: if it asks for workers and there are none, or they could not reach the servers.
    """
    if study.runner == "local":
        return
    check_servers()
    remote.check_workers(study.backends)


def check_servers() -> None:
    """Refuse to have anything to do with workers where no servers are configured.

    Raises:
        ValueError: if Prefect's or MLflow's is not, or MLflow's does not answer.
    """
    if PREFECT_API_URL.value() is None or not tracking.served():
        raise ValueError(
            "runner: workers needs servers that the workers reach as well: set PREFECT_API_URL and MLFLOW_TRACKING_URI"
        )
    tracking.open_store()


def survey(study: Study) -> Platform:
    """Look at a study's data, and return the platform that this machine is with it.

    Raises:
        ValueError: if the data may not be read, or cannot be split as the study says.
    """
    for dataset in study.datasets:
        if isinstance(dataset, CsvFile):
            _allow(dataset)
    for levels in study.levels():
        at = study.at(levels)
        datasets.divide(datasets.load(at.dataset), at.split, study.seed_list[0])
    return machine.platform_for({source(each): datasets.load(each).checksum for each in study.datasets})


def _allow(source: CsvFile) -> None:
    """Refuse a file outside of the folders that may be read: a form in a web page must not open any file there is."""
    folders = os.environ.get(DATA_FOLDERS) or str(Path.cwd())
    allowed = [Path(folder).resolve() for folder in folders.split(os.pathsep) if folder]
    if not any(Path(source.path).resolve().is_relative_to(folder) for folder in allowed):
        raise ValueError(
            f"dataset.path must be in a folder that {DATA_FOLDERS} lists, or without it in the current one, now: "
            f"{', '.join(map(str, allowed))}; got {Path(source.path).resolve()}"
        )

"""The plan of a benchmark: which cells it reuses from the record, which cells it trains, and in what batches.

Only this module resolves the levels of a study, hashes the keys of its cells and looks up earlier cells. A benchmark
does all of this once, before it starts.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_API_URL
from pydantic import BaseModel, ConfigDict, model_serializer

from flows import studies
from tasks import machine, remote
from tasks.core.design import grid
from tasks.core.design.grid import Batch, Cell, Platform
from tasks.core.design.settings import CsvFile, Split, short, source
from tasks.core.design.study import Study
from tasks.core.training import datasets
from tasks.tracking import reading, store

DATA_FOLDERS = "INITBENCH_DATA"  # variable that lists the folders of CSV files, separated as in PATH


class Plan(BaseModel):
    """What a benchmark of a study does on this machine. Prefect's page shows a plan as its study.

    fresh: no earlier cell is reused; controls: the study that is trained along, or None; cell_keys, control_keys: the
    key of each cell of the study and of the controls, in the order of their grids; reused: the run ids of earlier
    cells, by key; batches, control_batches: the cells that are left to train.

    Two cells can have the same key: if their levels differ only in a setting that has no effect, or if a cell of the
    study is also one of the controls. Only the first of them is trained.
    """

    model_config = ConfigDict(frozen=True)

    study: Study
    fresh: bool
    controls: Study | None
    platform: Platform
    cell_keys: dict[Cell, str]
    control_keys: dict[Cell, str]
    reused: dict[str, str]
    batches: tuple[Batch, ...]
    control_batches: tuple[Batch, ...]

    @model_serializer
    def _as_its_study(self) -> dict[str, Any]:
        return self.study.model_dump(mode="json")

    def run_ids(self, trained: dict[str, str]) -> dict[Cell, str]:
        """Return the run id of every cell of the study, in the order of its grid; trained: new run ids by key."""
        known = self.reused | trained
        return {cell: known[key] for cell, key in self.cell_keys.items()}

    def control_run_ids(self, trained: dict[str, str]) -> dict[Cell, str]:
        """Return the run id of every cell of the controls, in the order of their grid."""
        known = self.reused | trained
        return {cell: known[key] for cell, key in self.control_keys.items()}

    def __str__(self) -> str:
        return "\n".join(f"{name:14}{value}" for name, value in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        study = self.study
        yield "study", study.name
        yield "data", ", ".join(map(source, study.datasets))
        yield "hidden units", ", ".join(map(str, study.network.units))
        yield "backends", ", ".join(study.backends)
        yield "initializers", ", ".join(study.initializers)
        for factor, levels in study.factors.items():
            yield short(factor), ", ".join(map(str, levels))
        yield "seeds", ", ".join(map(str, study.seed_list))
        yield "cells", f"{len(self.cell_keys)}: {self._todo()}"
        if self.controls:
            yield "controls", f"{len(self.control_keys)}: {_size(self.control_batches)} to train"
        untested = [check.claim for check in study.checks if not study.has_cells_for(check)]
        if untested:
            yield "not tested", "; ".join(untested)
        for group, seeds in self._groups().items():
            yield "to train", f"{group} · seeds {', '.join(seeds)}"

    def _todo(self) -> str:
        reused = sum(key in self.reused for key in self.cell_keys.values())
        known = f"{reused} reused" if self.study.runner == "local" else "workers reuse what they have"
        return f"{_size(self.batches)} to train in {len(self.batches)} tasks, {known}"

    def _groups(self) -> dict[str, list[str]]:
        """Return the seeds that are left to train, by backend, levels and initializer."""
        groups: dict[str, list[str]] = {}
        for batch in self.batches:
            for cell in batch.cells:
                group, _, seed = str(cell).rpartition(" · seed ")
                groups.setdefault(group, []).append(seed)
        return groups


def _size(batches: Sequence[Batch]) -> int:
    return sum(len(batch.keys) for batch in batches)


def plan(study: Study, *, fresh: bool) -> Plan:
    """Return the plan of a study: resolve it and its controls, and look up earlier cells.

    fresh: look up no earlier cells, so that every cell is trained.

    Raises:
        StoreError: if the tracking store cannot be used.
        ValueError: if there are no such controls, or the data may not be read, or cannot be split as the study says.
    """
    controls = _controls(study)
    platform = survey([study, *([controls] if controls else [])])
    own = grid.batches(study, platform)
    others = grid.batches(controls, platform) if controls else []
    # a worker looks up earlier cells itself, because keys depend on its platform
    reused = {} if fresh or study.runner != "local" else reading.find(study.name, [*own, *others])
    left = _once([*own, *others], set(reused))
    return Plan(
        study=study,
        fresh=fresh,
        controls=controls,
        platform=platform,
        cell_keys=_keys(own),
        control_keys=_keys(others),
        reused=reused,
        batches=_cut(study, left[: len(own)]),
        control_batches=_cut(controls, left[len(own) :]) if controls else (),
    )


def ready(study: Study, *, fresh: bool) -> Plan:
    """Return the plan of a study, after a check that the workers are there if the study asks for workers.

    Raises:
        StoreError: if the tracking store cannot be used.
        ValueError: if the study cannot be planned; or if it asks for workers and a backend has none, or there are no
            servers that workers can reach.
    """
    planned = plan(study, fresh=fresh)
    if study.runner == "workers":
        check_servers()
        remote.check_workers(study.backends)
    return planned


def _controls(study: Study) -> Study | None:
    """Return the controls of a study, under the study's name, so that their cells are recorded in its experiment.

    Raises:
        ValueError: if there are no such controls.
    """
    if not study.controls:
        return None
    shipped = studies.load(study.controls) if study.controls in studies.names() else None
    if shipped is None or not shipped.checks:
        able = [name for name in studies.names() if studies.load(name).checks]
        raise ValueError(f"controls must be a study that has checks: {', '.join(able)}; got {study.controls!r}")
    changes = {"name": study.name, "backends": study.backends, "runner": study.runner, "controls": None}
    return shipped.model_copy(update=changes)


def _keys(batches: Sequence[Batch]) -> dict[Cell, str]:
    return {cell: key for batch in batches for cell, key in batch.keys.items()}


def _once(batches: Sequence[Batch], known: set[str]) -> list[Batch]:
    """Return the batches without the cells whose key is known or is the key of a cell in an earlier batch."""
    left = []
    for batch in batches:
        left.append(batch.without(known))
        known |= {*batch.keys.values()}
    return left


def _cut(study: Study, batches: Sequence[Batch]) -> tuple[Batch, ...]:
    """Divide batches, so that a task trains no more cells than `grid.largest_batch` allows."""
    most = grid.largest_batch(study, _size(batches))
    return tuple(part for batch in batches for part in batch.cut(most))


def check_servers() -> None:
    """Check that servers are configured which workers on other machines can reach.

    Raises:
        ValueError: if Prefect's or MLflow's server is not configured, or MLflow's does not answer.
    """
    if PREFECT_API_URL.value() is None or not store.served():
        raise ValueError(
            "runner: workers needs servers that the workers reach as well: set PREFECT_API_URL and MLFLOW_TRACKING_URI"
        )
    store.open_store()


def survey(asked: Sequence[Study]) -> Platform:
    """Check the data of studies, and return the platform of this machine with the checksums of the data.

    Raises:
        ValueError: if the data may not be read, or cannot be split as the studies say.
    """
    checksums: dict[str, str] = {}
    for study in asked:
        for levels in study.levels():
            at = study.at(levels)
            checksums[source(at.dataset)] = checked(at.dataset, at.split, study.seed_list[0])
    return machine.platform_for(checksums)


def checked(dataset: str | CsvFile, split: Split, seed: int) -> str:
    """Return the checksum of a dataset, after a check that it may be read and can be split.

    Raises:
        ValueError: if the dataset may not be read, or cannot be read or split.
    """
    if isinstance(dataset, CsvFile):
        _allow(dataset)
    data = datasets.load(dataset)
    datasets.divide(data, split, seed)
    return data.checksum


def _allow(file: CsvFile) -> None:
    """Refuse a file outside of the folders of data, because a form in a web page must not open just any file."""
    folders = os.environ.get(DATA_FOLDERS) or str(Path.cwd())
    allowed = [Path(folder).resolve() for folder in folders.split(os.pathsep) if folder]
    if not any(Path(file.path).resolve().is_relative_to(folder) for folder in allowed):
        raise ValueError(
            f"dataset.path must be in a folder that {DATA_FOLDERS} lists, or without it in the current one, now: "
            f"{', '.join(map(str, allowed))}; got {Path(file.path).resolve()}"
        )

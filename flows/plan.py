"""What a benchmark would do: which cells are reused, which are trained, in what batches.

Here, and only here, the levels of a study are resolved, the keys of its cells hashed, and earlier cells looked up.
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

DATA_FOLDERS = "INITBENCH_DATA"  # folders from which CSV files may be read, separated as in PATH


class Plan(BaseModel):
    """What a benchmark of a study would do here. Prefect's page shows a plan as its study.

    fresh: no earlier cell is reused; controls: the study that is trained along, if any; cell_keys and control_keys: the
    key of each cell of the two, in the order of their grids; reused: the run ids of earlier cells, by key; batches and
    control_batches: the cells that are left to train.

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
        """Return the run id of every cell of the study, in the order of its grid; trained: run ids by key."""
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
    """Resolve a study and its controls, and look up which of their cells earlier benchmarks have finished.

    fresh: look up nothing.

    Raises:
        StoreError: if the tracking store cannot be used.
        ValueError: if there are no such controls, or the data may not be read, or cannot be split as the study says.
    """
    controls = _controls(study)
    platform = survey([study, *([controls] if controls else [])])
    own = grid.batches(study, platform)
    others = grid.batches(controls, platform) if controls else []
    # what a worker can reuse only that worker can tell, for its platform may be another one
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
    """Return the plan of a study that can be carried out at once.

    Raises:
        StoreError: if the tracking store cannot be used.
        ValueError: if the study cannot be planned; or if it asks for workers, and there are none, or they could not
            reach the servers.
    """
    planned = plan(study, fresh=fresh)
    if study.runner == "workers":
        check_servers()
        remote.check_workers(study.backends)
    return planned


def _controls(study: Study) -> Study | None:
    """Return the controls of a study, under the study's own name, for their cells stand in its experiment.

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
    """Return the batches without cells whose key is known, or stands in an earlier batch."""
    left = []
    for batch in batches:
        left.append(batch.without(known))
        known |= {*batch.keys.values()}
    return left


def _cut(study: Study, batches: Sequence[Batch]) -> tuple[Batch, ...]:
    """Divide batches into as many as the study allows tasks."""
    most = grid.largest_batch(study, _size(batches))
    return tuple(part for batch in batches for part in batch.cut(most))


def check_servers() -> None:
    """Refuse to have anything to do with workers where no servers are configured.

    Raises:
        ValueError: if Prefect's or MLflow's is not, or MLflow's does not answer.
    """
    if PREFECT_API_URL.value() is None or not store.served():
        raise ValueError(
            "runner: workers needs servers that the workers reach as well: set PREFECT_API_URL and MLFLOW_TRACKING_URI"
        )
    store.open_store()


def survey(asked: Sequence[Study]) -> Platform:
    """Look at the data of studies, and return the platform that this machine is with the data.

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
    """Return the checksum of a dataset that may be read and can be split.

    Raises:
        ValueError: if it may not, or cannot.
    """
    if isinstance(dataset, CsvFile):
        _allow(dataset)
    data = datasets.load(dataset)
    datasets.divide(data, split, seed)
    return data.checksum


def _allow(file: CsvFile) -> None:
    """Refuse a file outside of the folders that may be read: a form in a web page must not open any file there is."""
    folders = os.environ.get(DATA_FOLDERS) or str(Path.cwd())
    allowed = [Path(folder).resolve() for folder in folders.split(os.pathsep) if folder]
    if not any(Path(file.path).resolve().is_relative_to(folder) for folder in allowed):
        raise ValueError(
            f"dataset.path must be in a folder that {DATA_FOLDERS} lists, or without it in the current one, now: "
            f"{', '.join(map(str, allowed))}; got {Path(file.path).resolve()}"
        )

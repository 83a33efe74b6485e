"""The grid of a study: its cells, the keys by which they are found again, and the batches in which they are trained.

A cell is one point of the grid: a backend, a level of every factor, an initializer and a seed. The key of a cell is a
hash of all that decides its outcome: a later benchmark that needs the same cell finds it in the record by its key. A
batch is a number of cells that one task trains and records.
"""

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from types import MappingProxyType

from tasks.core.design.initializers import Backend, named
from tasks.core.design.parts import Level
from tasks.core.design.settings import CellSettings, Record, short, source
from tasks.core.design.study import Study

# Cells of one flow run on a worker. A flow run takes seconds to start, so it should have many cells; if it dies, all of
# its cells are trained again, so it should not have too many.
WORKER_BATCH = 64


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    >>> str(Cell("keras", "zeros", 3, levels=(("network.depth", 4),)))
    'keras · depth 4 · zeros · seed 3'
    """

    backend: Backend
    initializer: str
    seed: int
    levels: tuple[Level, ...] = ()

    @property
    def group(self) -> "Group":
        """What the cell has in common with the cells that differ from it in their seed alone."""
        return self.backend, self.levels, self.initializer

    def __str__(self) -> str:
        levels = [f"{short(factor)} {level}" for factor, level in self.levels]
        return " · ".join([self.backend, *levels, self.initializer, f"seed {self.seed}"])


Group = tuple[Backend, tuple[Level, ...], str]
"""Backend, levels and initializer of cells that differ in their seed alone."""
Picks = Mapping[Group, Level]
"""What each group has picked of the setting that a study tunes; empty if it tunes none."""
UNTUNED: Picks = MappingProxyType({})
ABSENT = "not installed"  # in place of the version of a package that a machine does not have


@dataclass(frozen=True)
class Platform:
    """All that decides a cell's numbers beside its study: versions, device and data.

    frameworks: the versions of each backend's framework, and of the libraries that draw and split; device: `cpu` or
    the GPU's model; rounding: what else decides how sums are rounded, which are the threads of a trainer and variables
    of the environment, by name; release: initbench's Major.Minor; data: the checksum of each dataset, by its name or
    path.
    """

    frameworks: Mapping[Backend, str]
    device: str
    rounding: Mapping[str, str]
    release: str
    data: Mapping[str, str]


@dataclass(frozen=True)
class Batch:
    """Cells of one backend, one level of every factor and one pick, which one task trains and records.

    settings: the settings that the cells share; key: a hash of the settings and of the platform; keys: the key of each
    cell; target, record: the study's target accuracy, and how much MLflow's page shows of a cell; part of no key, as
    they do not influence training.
    """

    settings: CellSettings
    platform: Platform
    target: float
    record: Record
    key: str
    keys: Mapping[Cell, str]

    @classmethod
    def of(
        cls, settings: CellSettings, cells: Sequence[Cell], platform: Platform, target: float, record: Record
    ) -> "Batch":
        """Return the batch of these cells, which share these settings, with the keys that they have on a platform."""
        key = digest(
            {
                **settings.identity,
                "framework": platform.frameworks[settings.backend],
                "device": platform.device,
                "rounding": dict(platform.rounding),
                "release": platform.release,
                "dataset": platform.data[source(settings.dataset)],  # the content counts, not the name
            }
        )
        keys = {cell: digest([key, cell.initializer, named(cell.initializer).release, cell.seed]) for cell in cells}
        return cls(settings, platform, target, record, key, keys)

    @property
    def backend(self) -> Backend:
        return self.settings.backend

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(self.keys)

    def without(self, known: Container[str]) -> "Batch":
        """Return the batch without the cells whose key is among the known ones."""
        return replace(self, keys={cell: key for cell, key in self.keys.items() if key not in known})

    def cut(self, most: int) -> list["Batch"]:
        """Divide the cells into batches of at most `most` cells, as even as possible; no cells give no batches."""
        pairs = list(self.keys.items())
        size = ceil(len(pairs) / max(1, ceil(len(pairs) / most)))
        return [replace(self, keys=dict(pairs[at : at + size])) for at in range(0, len(pairs), size)] if pairs else []

    def __str__(self) -> str:
        return named_together(self.cells)


def named_together(cells: Sequence[Cell]) -> str:
    """Return a name for cells of one backend: their number, or the full name if there is only one cell.

    >>> named_together([Cell("keras", "zeros", 0), Cell("keras", "zeros", 1)])
    'keras · 2 cells'
    """
    first, *others = cells
    return f"{first.backend} · {len(cells)} cells" if others else str(first)


def resolved(study: Study, picks: Picks = UNTUNED) -> list[tuple[CellSettings, list[Cell]]]:
    """Return the cells of a study in rows, one for each backend, combination of levels and pick, with its settings."""
    whole = study.tuning() if picks else study
    rows: dict[tuple[Backend, tuple[Level, ...]], list[Cell]] = {}
    for cell in cells(study):
        picked = (picks[cell.group],) if picks else ()
        rows.setdefault((cell.backend, (*cell.levels, *picked)), []).append(cell)
    return [(whole.settings(backend, levels), row) for (backend, levels), row in rows.items()]


def settings_of(study: Study, cell: Cell, picks: Picks = UNTUNED) -> CellSettings:
    """Return the settings of one of a study's cells."""
    whole, picked = (study.tuning(), (picks[cell.group],)) if picks else (study, ())
    return whole.settings(cell.backend, (*cell.levels, *picked))


def cells(study: Study) -> list[Cell]:
    """Return every cell of a study: backend by backend, level by level, initializer by initializer, seed by seed.

    >>> [str(cell) for cell in cells(Study(backends=("keras",), initializers=("zeros",), seeds=2))]
    ['keras · zeros · seed 0', 'keras · zeros · seed 1']
    """
    axes = product(study.backends, study.levels())
    return [cell for backend, levels in axes for cell in _row(study, backend, levels)]


def batches(study: Study, platform: Platform, picks: Picks = UNTUNED) -> list[Batch]:
    """Return the cells of a study with their keys, as one batch for each row of `resolved`."""
    return [Batch.of(settings, row, platform, study.target, study.record) for settings, row in resolved(study, picks)]


def largest_batch(study: Study, missing: int) -> int:
    """Return the largest number of cells that one task may train, of `missing` cells that are left to train.

    On this machine about `max_tasks` tasks share the missing cells. A worker takes up to WORKER_BATCH cells at once.

    >>> largest_batch(Study(max_tasks=2), missing=6)
    3
    """
    return max(1, ceil(missing / study.max_tasks)) if study.runner == "local" else WORKER_BATCH


def _row(study: Study, backend: Backend, levels: tuple[Level, ...]) -> list[Cell]:
    return [
        Cell(backend, initializer, seed, levels) for initializer, seed in product(study.initializers, study.seed_list)
    ]


def digest(value: object) -> str:
    """Return a hash of a value that JSON can hold, 16 hexadecimal digits; the order of the names does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

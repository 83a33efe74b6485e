"""The grid of a study: its cells, the keys by which they are found again, and the batches in which they are trained."""

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil

from tasks.core.design.initializers import Backend, named
from tasks.core.design.settings import CellSettings, Level, short, source
from tasks.core.design.study import Study

WORKER_BATCH = 64  # cells of one run on a worker, which takes seconds to start, and is run again whole if it dies


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    backend: Backend
    initializer: str
    seed: int
    levels: tuple[Level, ...] = ()

    def __str__(self) -> str:
        levels = [f"{short(factor)} {level}" for factor, level in self.levels]
        return " · ".join([self.backend, *levels, self.initializer, f"seed {self.seed}"])


@dataclass(frozen=True)
class Platform:
    """What decides a cell's numbers beside its study.

    frameworks: the version of each backend's framework; device: `cpu` or the GPU's model; release: initbench's
    Major.Minor; data: the checksum of each dataset.
    """

    frameworks: Mapping[Backend, str]
    device: str
    release: str
    data: Mapping[str, str]


@dataclass(frozen=True)
class Batch:
    """Cells of one backend and one level of every factor, which one task trains and records.

    settings: what the cells share; key: a hash of the settings and of the platform; keys: the key of each cell, a hash
    of all that decides its outcome; target: the test accuracy that counts as reached, which decides no outcome.
    """

    settings: CellSettings
    platform: Platform
    target: float
    key: str
    keys: Mapping[Cell, str]

    @classmethod
    def of(cls, settings: CellSettings, cells: Sequence[Cell], platform: Platform, target: float) -> "Batch":
        """Return these cells, which have these settings, with their keys on a platform."""
        key = _digest(
            {
                **settings.model_dump(),
                "framework": platform.frameworks[settings.backend],
                "device": platform.device,
                "release": platform.release,
                "dataset": platform.data[source(settings.dataset)],  # what is in it, not what it is called
            }
        )
        keys = {cell: _digest([key, cell.initializer, named(cell.initializer).release, cell.seed]) for cell in cells}
        return cls(settings, platform, target, key, keys)

    @property
    def backend(self) -> Backend:
        return self.settings.backend

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(self.keys)

    def without(self, known: Container[str]) -> "Batch":
        """Return the batch without the cells of these keys."""
        return replace(self, keys={cell: key for cell, key in self.keys.items() if key not in known})

    def cut(self, most: int) -> list["Batch"]:
        """Divide the cells into batches of at most so many, as even as can be; of no cells there are none."""
        pairs = list(self.keys.items())
        size = ceil(len(pairs) / max(1, ceil(len(pairs) / most)))
        return [replace(self, keys=dict(pairs[at : at + size])) for at in range(0, len(pairs), size)] if pairs else []

    def __str__(self) -> str:
        return named_together(self.cells)


def named_together(cells: Sequence[Cell]) -> str:
    """Return a name for cells of one backend: the name of a lone one, or how many they are."""
    first, *others = cells
    return f"{first.backend} · {len(cells)} cells" if others else str(first)


def cells(study: Study) -> list[Cell]:
    """Return the grid: backend by backend, level by level, initializer by initializer, seed by seed."""
    return [cell for backend, levels in _rows(study) for cell in _row(study, backend, levels)]


def batches(study: Study, platform: Platform) -> list[Batch]:
    """Return the grid with its settings and keys: one batch for each backend and combination of levels."""
    return [
        Batch.of(study.settings(backend, levels), _row(study, backend, levels), platform, study.target)
        for backend, levels in _rows(study)
    ]


def largest_batch(study: Study, missing: int) -> int:
    """Return how many cells a task takes, so that about `max_tasks` tasks train what is missing.

    Workers take up to WORKER_BATCH cells at once.

    >>> largest_batch(Study(max_tasks=2), missing=6)
    3
    """
    return max(1, ceil(missing / study.max_tasks)) if study.runner == "local" else WORKER_BATCH


def _rows(study: Study) -> list[tuple[Backend, tuple[Level, ...]]]:
    return list(product(study.backends, study.levels()))


def _row(study: Study, backend: Backend, levels: tuple[Level, ...]) -> list[Cell]:
    return [
        Cell(backend, initializer, seed, levels) for initializer, seed in product(study.initializers, study.seed_list)
    ]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

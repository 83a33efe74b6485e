"""The plan of a benchmark, and how a dry run shows it: which cells it reuses, which it trains, and in what batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer

from flows.examined import Networks
from tasks.core.design import grid
from tasks.core.design.grid import Batch, Cell
from tasks.core.design.settings import Network, short, source
from tasks.core.design.study import Study


@dataclass(frozen=True)
class Planned:
    """A study in a plan: the key of each cell, in the order of the grid, and the batches that are left to train."""

    study: Study
    keys: dict[Cell, str]
    batches: tuple[Batch, ...]

    def run_ids(self, known: dict[str, str]) -> dict[Cell, str]:
        """Return the run id of every cell, in the order of the grid; known: run ids by key."""
        return {cell: known[key] for cell, key in self.keys.items()}

    @property
    def missing(self) -> int:
        """How many cells are left to train."""
        return sum(len(batch.keys) for batch in self.batches)


class Plan(BaseModel):
    """What a benchmark of a study does on this machine. Prefect's page shows a plan as its study.

    own: the study itself; controls: the study that is trained along, or None; fresh: no earlier cell is reused; reused:
    the run ids of earlier cells, by key; data: the checksum of each dataset; notes: what to know of the store, and of
    the data's files; unreachable: verdicts that the grid cannot give. tuning: the cells of seeds of their own by which
    initializers pick, or None if the study tunes nothing. While one of them is left to train, nobody knows what will be
    picked: `own` has no keys, and `picked` makes another plan later.

    Two cells can have the same key: if their levels differ only in a setting that has no effect, or if a cell of the
    study is also one of the controls. Only the first of them is trained.
    """

    model_config = ConfigDict(frozen=True)

    own: Planned
    controls: Planned | None
    fresh: bool
    reused: dict[str, str]
    data: dict[str, str]
    notes: tuple[str, ...]
    tuning: Planned | None = None
    networks: Networks = Networks()
    unreachable: tuple[str, ...] = ()

    @model_serializer
    def _as_its_study(self) -> dict[str, Any]:
        return self.study.model_dump(mode="json")

    @property
    def study(self) -> Study:
        return self.own.study

    @property
    def stages(self) -> tuple[Planned, ...]:
        """The cells of the study: those by which initializers pick, if they do, and those that are compared."""
        return (self.tuning, self.own) if self.tuning else (self.own,)

    @property
    def left(self) -> tuple[Batch, ...]:
        """Everything that is left to train, as far as it is known; the controls last."""
        return (*(self.tuning.batches if self.tuning else ()), *self.left_after_tuning)

    @property
    def left_after_tuning(self) -> tuple[Batch, ...]:
        """What is left to train when initializers have picked, the controls last."""
        return (*self.own.batches, *(self.controls.batches if self.controls else ()))

    @property
    def to_check(self) -> tuple[Batch, ...]:
        """What the parity gate checks: everything that is left to train, or nothing if only controls are left."""
        return self.left if any(stage.batches for stage in self.stages) else ()

    def __str__(self) -> str:
        return "\n".join(f"{name:14}{value}" for name, value in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        study = self.study
        yield "study", study.name
        yield "data", ", ".join(map(source, study.datasets))
        yield from (("note", words) for words in self.notes)
        yield from self._network()
        yield "backends", ", ".join(study.backends)
        yield "initializers", ", ".join(study.initializers)
        for factor, levels in study.factors.items():
            yield short(factor), ", ".join(map(str, levels))
        yield "seeds", ", ".join(map(str, study.seed_list))
        if self.tuning and study.tune:
            yield "tune", f"{study.tune.setting}: {', '.join(map(str, study.tune.values))}; by {study.tune.by}"
            yield "tuning seeds", ", ".join(map(str, study.tune.seed_list))
            yield "tuning cells", f"{len(self.tuning.keys)}: {self._todo(self.tuning)}"
        later = "how many of them are reused is known when the tuning cells are trained"
        yield "cells", f"{study.size}: {self._todo(self.own) if self.own.keys else later}"
        if self.controls:
            keys = {*self.controls.keys.values()}
            shared = len(keys & {*self.own.keys.values()})
            also = f", {shared} are cells of the study" if shared else ""
            yield "controls", f"{len(keys)}: {self.controls.missing} to train{also}"
        untested = [check.claim for check in study.checks if not study.has_cells_for(check)]
        if untested:
            yield "not tested", "; ".join(untested)
        if self.unreachable:
            yield "out of reach", "; ".join(self.unreachable)
        for group, seeds in self._groups().items():
            yield "to train", f"{group} · seeds {', '.join(seeds)}"

    def _network(self) -> Iterator[tuple[str, str]]:
        network = self.study.network
        if isinstance(network, Network):
            shapes = dict.fromkeys(settings.perceptron.units for settings, _ in grid.resolved(self.study))
            yield from (("hidden units", ", ".join(map(str, units))) for units in shapes)
            return
        lines: dict[str, None] = {}
        for settings, each in self.networks.found:
            own = settings.own or network
            options = ", ".join(f"{name} {value}" for name, value in own.options.items())
            told = f"{len(each.layers.layers)} weighted layers, {each.size.parameters:,} parameters"
            builder = f"{settings.backend} {own.build[settings.backend]}"
            lines[" · ".join(filter(None, [builder, options, told]))] = None
        yield from (("network", words) for words in lines)

    def _todo(self, part: Planned) -> str:
        reused = sum(key in self.reused for key in part.keys.values())
        known = f"{reused} reused" if self.study.runner == "local" else "workers reuse what they have"
        return f"{part.missing} to train in {len(part.batches)} tasks, {known}"

    def _groups(self) -> dict[str, list[str]]:
        """Return the seeds that are left to train, by backend, levels and initializer."""
        groups: dict[str, list[str]] = {}
        for cell in (cell for stage in self.stages for batch in stage.batches for cell in batch.cells):
            group, _, seed = str(cell).rpartition(" · seed ")
            groups.setdefault(group, []).append(seed)
        return groups

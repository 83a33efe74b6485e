"""Which version of a package changed the numbers? Train the smallest part of a study that shows it, version by version.

Every version is tried in a throw-away environment: the present one, with this package alone moved. A part is trained
without Prefect and MLflow, so nothing is recorded.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flows import data
from tasks import throwaway
from tasks.core.design import grid
from tasks.core.design.study import Study
from tasks.core.training.bits import Bits, digests
from tasks.core.training.outcome import Outcome
from tasks.here import trainers

Hashes = Mapping[str, str]
"""A hash of everything that a cell gave, by the cell's name."""


class BisectError(ValueError):
    """No first version can be found."""


@dataclass(frozen=True)
class Found:
    """The first version of a package whose numbers differ from those of the oldest one.

    before: the last version that still has the old numbers; cell: the cell that shows it; differing, trained: of how
    many cells the numbers differ between the ends; broken: versions in between that could not train the cell.
    """

    package: str
    first: str
    before: str
    cell: str
    differing: int
    trained: int
    broken: tuple[str, ...]

    def __str__(self) -> str:
        between = f" ({', '.join(self.broken)} could not train it)" if self.broken else ""
        return (
            f"{self.package} {self.first} is the first version with other numbers than {self.before}{between}, seen in "
            f"{self.cell}; between the ends {self.differing} of {self.trained} cells differ"
        )


def bisect(study: Study, package: str, good: str, bad: str, *, told: Callable[[str], None]) -> Found:
    """Return the first version of a package under which a study's numbers are not those of the version `good`.

    The first seed of every group is trained under both ends. The first cell that differs is trained under versions in
    between. told: is called with a line for each step.

    Raises:
        ValueError: if there are no such versions, an end cannot be trained, or no cell differs.
    """
    versions = throwaway.versions(package, good, bad)
    names = [str(cell) for cell in grid.cells(_part(study))]

    @cache
    def hashes(version: str, cells: tuple[str, ...]) -> Hashes | str:
        try:
            with throwaway.moved(package, version) as python:
                found = _elsewhere(python, study, cells)
        except throwaway.PackageError as error:  # a version may have no wheel for this machine
            found = str(error)
        told(f"{package} {version}: {found if isinstance(found, str) else f'cells trained: {len(found)}'}")
        return found

    ends = [_sure(hashes(version, tuple(names)), package, version) for version in (good, bad)]
    differing = [name for name in names if ends[0][name] != ends[1][name]]
    if not differing:
        raise BisectError(
            f"the numbers of {package} {good} and {bad} must differ; all {len(names)} cells of the first seed are equal"
        )
    shown = differing[0]
    if _sure(hashes(good, (shown,)), package, good)[shown] != ends[0][shown]:
        raise BisectError(f"{shown} must give the same numbers alone as among other cells; it does not")
    first, before, broken = _first(versions, lambda version: _hash(hashes(version, (shown,)), shown), ends[0][shown])
    return Found(package, first, before, shown, len(differing), len(names), broken)


def _first(
    versions: Sequence[str], hashed: Callable[[str], str | None], known: str
) -> tuple[str, str, tuple[str, ...]]:
    """Return the first version whose hash is not the known one, the last one before it, and those that give none.

    The first version has the known hash, and the last one has not.
    """
    left, broken = list(versions), []
    while len(left) > 2:  # the two ends
        middle = left[len(left) // 2]
        found = hashed(middle)
        if found is None:
            left.remove(middle)
            broken.append(middle)
        else:
            left = left[left.index(middle) :] if found == known else left[: left.index(middle) + 1]
    before, first = left
    places = range(versions.index(before), versions.index(first))
    return first, before, tuple(each for each in versions if each in broken and versions.index(each) in places)


def _sure(found: Hashes | str, package: str, version: str) -> Hashes:
    if isinstance(found, str):
        raise BisectError(f"{package} {version} must be able to train the study; {found}")
    return found


def _hash(found: Hashes | str, name: str) -> str | None:
    return None if isinstance(found, str) else found[name]


def _part(study: Study) -> Study:
    """Return a study with its first seed alone; one that tunes has the cells by which initializers pick."""
    return (study.tuning() if study.tune else study).model_copy(update={"seeds": study.seed_list[:1]})


def _elsewhere(python: Path, study: Study, cells: Sequence[str]) -> Hashes | str:
    """Return the hashes of cells that another Python trains, or in a line why it cannot."""
    asked = json.dumps({"study": study.model_dump(mode="json"), "cells": cells})
    done = subprocess.run([python, "-m", "flows.bisect"], input=asked, capture_output=True, text=True)
    if done.returncode:
        return ["it was killed", *done.stderr.strip().splitlines()][-1]
    hashes: Hashes = json.loads(done.stdout.splitlines()[-1])
    return hashes


def trained(study: Study, cells: Sequence[str]) -> dict[str, str]:
    """Train cells of a study's first seed, and return the hash of each by its name.

    Raises:
        ValueError: if a cell failed.
    """
    part, hashes = data.spelled_out(_part(study)), {}
    rows = grid.resolved(part)
    data.checksums((settings, row[0].seed) for settings, row in rows)  # the data may be read, and are held
    with trainers(part.backends) as pool:
        for settings, row in rows:
            asked = [cell for cell in row if str(cell) in cells]
            for outcome in pool.train(settings, asked) if asked else ():
                hashes[str(outcome.cell)] = _hashed(outcome)
    return hashes


def _hashed(outcome: Outcome) -> str:
    """Return a hash of all curves and final weights of a cell."""
    if outcome.trained is None:
        raise ValueError(f"{outcome.cell}: {outcome.reason}")
    return Bits(end=digests(dict(outcome.trained.curves.items()) | outcome.trained.weights)).whole


def main() -> None:
    """Train what standard input asks for, and print the hashes."""
    asked = json.load(sys.stdin)
    print(json.dumps(trained(Study.model_validate(asked["study"]), asked["cells"])))  # noqa: T201


if __name__ == "__main__":
    main()

"""The data of a benchmark: which files may be read, and whether they can be split as asked."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.core.design.settings import CellSettings, CsvFile, source
from tasks.core.training import datasets

FOLDERS = "INITBENCH_DATA"  # variable that lists the folders of CSV files, separated as in PATH


def checksums(asked: Iterable[tuple[CellSettings, int]]) -> dict[str, str]:
    """Return the checksum of each dataset, after a check that it may be read and can be split.

    asked: the settings of cells, and one of the seeds that split the data.

    Raises:
        ValueError: if a dataset may not be read, or cannot be read or split.
    """
    found: dict[str, str] = {}
    for settings, seed in asked:
        if isinstance(settings.dataset, CsvFile):
            _allow(settings.dataset)
        data = datasets.load(settings.dataset)
        datasets.divide(data, settings.split, seed)
        found[source(settings.dataset)] = data.checksum
    return found


def notes(sources: Iterable[str | CsvFile]) -> tuple[str, ...]:
    """Return what to know of files before they are trained on: their sizes, and columns that may not be features."""
    return tuple(words for asked in sources if isinstance(asked, CsvFile) for words in _notes(asked))


def _notes(file: CsvFile) -> Iterator[str]:
    data = datasets.load(file)
    rows, features = data.x.shape
    yield f"{file.path} has {rows} rows, {data.classes} classes, and features: {features}"
    for name in datasets.counting(data):
        rises = f"column {name} of {file.path} rises from row to row, as a row's number does"
        yield f"{rises}; `exclude: [{name}]` leaves it out"


def _allow(file: CsvFile) -> None:
    """Refuse a file outside of the folders of data, because a form in a web page must not open just any file."""
    folders = os.environ.get(FOLDERS) or str(Path.cwd())
    allowed = [Path(folder).resolve() for folder in folders.split(os.pathsep) if folder]
    if not any(Path(file.path).resolve().is_relative_to(folder) for folder in allowed):
        raise ValueError(
            f"dataset.path must be in a folder that {FOLDERS} lists, or without it in the current one, now: "
            f"{', '.join(map(str, allowed))}; got {Path(file.path).resolve()}"
        )

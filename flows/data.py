"""The data of a benchmark: which files may be read, and whether they can be split as asked."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tasks import folders
from tasks.core.design.settings import CellSettings, CsvFile, Record, source
from tasks.core.training import datasets, memory
from tasks.core.training.parity import TWINS
from tasks.trainers.memory import free, free_on
from tasks.trainers.process import Slot

GIB = 2**30
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


def check_memory(asked: Iterable[CellSettings], slots: Sequence[Slot]) -> None:
    """Check that cells of these settings fit into the memory that is free on each GPU or, without any, on this machine.

    Fewer cells can train together if memory is short, but the parity gate trains a network with all of its twins.

    Raises:
        ValueError: if a network of some settings and its twins do not fit.
    """
    gpus = [slot.gpu for slot in slots if slot.gpu is not None]
    found, trainers = (min(map(free_on, gpus)), 1) if gpus else (free(), len(slots))
    share = "on a GPU" if gpus else f"in {trainers} trainers"
    for settings in asked:
        data = datasets.load(settings.dataset)
        needed = trainers * memory.needed(settings, data, cells=1 + TWINS, folds=1)
        if needed > found:
            rows, features = data.x.shape
            raise ValueError(
                f"training must fit into memory: {source(settings.dataset)} ({rows} rows, {features} features), "
                f"{len(settings.network.units)} hidden layers of up to {max(settings.network.units, default=0)} units "
                f"and batches of {settings.recipe.batch_size} rows need about {needed / GIB:.1f} GiB {share}; "
                f"{found / GIB:.1f} GiB are free"
            )


def recorded(settings: CellSettings, record: Record) -> int:
    """Return about how many bytes the record of a cell takes."""
    return memory.recorded(settings, datasets.load(settings.dataset), full=record == "full")


def check_temporary() -> None:
    """Check that files can be made where trainers, the record and the report make them on their way.

    Raises:
        ValueError: if they cannot.
    """
    if words := folders.fault(Path(tempfile.gettempdir())):
        raise ValueError(f"TMPDIR must be a folder for temporary files: {words}")


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
    listed = os.environ.get(FOLDERS) or str(Path.cwd())
    allowed = [Path(folder).resolve() for folder in listed.split(os.pathsep) if folder]
    if not any(Path(file.path).resolve().is_relative_to(folder) for folder in allowed):
        raise ValueError(
            f"dataset.path must be in a folder that {FOLDERS} lists, or without it in the current one, now: "
            f"{', '.join(map(str, allowed))}; got {Path(file.path).resolve()}"
        )

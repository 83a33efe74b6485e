"""The data and the code of a benchmark: which of them may be read, and whether cells can be trained with them."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tasks import folders, user_code
from tasks.core.design.own import ArrayFile, Loaded, OwnNetwork
from tasks.core.design.settings import CellSettings, CsvFile, Data, source
from tasks.core.design.study import Study
from tasks.core.training import datasets, memory
from tasks.core.training.datasets import Dataset
from tasks.core.training.parity import TWINS
from tasks.trainers import process
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
    divided = set()
    for settings, seed in asked:
        data, part = read(settings.dataset), (settings.dataset, settings.split, seed)
        if not settings.own and (len(data.problem.shape) > 1 or data.problem.positions):
            rule = "a perceptron needs rows of features with one target each; network.build names a network of your own"
            raise ValueError(f"{rule}; rows of {source(settings.dataset)} are {data.problem.shape}")
        if part not in divided:  # once each, because data can be large
            datasets.divide(data, settings.split, seed)
            divided.add(part)
        if source(settings.dataset) not in found:
            found[source(settings.dataset)] = data.checksum
    return found


def read(asked: Data) -> Dataset:
    """Return a dataset, after a check that it may be read. A function of a user's own runs in a process of its own.

    Raises:
        ValueError: if it may not be read, or cannot be.
    """
    if isinstance(asked, CsvFile | ArrayFile):
        _allow(asked)
    if isinstance(asked, Loaded) and not datasets.holds(asked):
        datasets.hold(asked, process.elsewhere(user_code.loaded, asked))
    return datasets.load(asked)


def spelled_out(study: Study) -> Study:
    """Return the study with what its data and its code say: the task of its data, and the checksums of builders.

    Raises:
        ValueError: if there is no such code or data, or code has another checksum than the study gives.
    """
    given = study.model_dump(exclude_unset=True)
    if isinstance(study.dataset, ArrayFile | Loaded) and study.dataset.task is None:
        found = read(study.dataset)
        whole = study.dataset.model_copy(update={"task": found.problem.task})
        datasets.hold(whole, found)
        given["dataset"] = whole.model_dump(exclude_none=True)
    if isinstance(study.network, OwnNetwork):
        references = {backend: study.network.build[backend] for backend in study.backends}
        code = {backend: user_code.checksum(each, user_code.NETWORKS) for backend, each in references.items()}
        for backend, asked in study.network.code.items():
            if asked != code.get(backend, asked):
                raise ValueError(
                    f"network.code.{backend} must be that of {references[backend]}, {code[backend]}; got {asked}"
                )
        given["network"] = study.network.model_dump(exclude_unset=True) | {"code": study.network.code | code}
    return Study.model_validate(given)


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
        if settings.own:
            continue  # `Networks.in_flight` counts these
        data = datasets.load(settings.dataset)
        needed = trainers * memory.needed(settings, data, cells=1 + TWINS, folds=1)
        if needed > found:
            rows, features = data.x.shape
            units, batch = settings.perceptron.units, settings.recipe.batch_size
            raise ValueError(
                f"training must fit into memory: {source(settings.dataset)} ({rows} rows, {features} features), "
                f"{len(units)} hidden layers of up to {max(units, default=0)} units "
                f"and batches of {'all' if batch == 'full' else batch} rows need about {needed / GIB:.1f} GiB {share}; "
                f"{found / GIB:.1f} GiB are free"
            )


def check_temporary() -> None:
    """Check that files can be made where trainers, the record and the report make them on their way.

    Raises:
        ValueError: if they cannot.
    """
    if words := folders.fault(Path(tempfile.gettempdir())):
        raise ValueError(f"TMPDIR must be a folder for temporary files: {words}")


def notes(sources: Iterable[Data]) -> tuple[str, ...]:
    """Return what to know of data before they are trained on: their sizes, and columns that may not be features."""
    own = [
        f"{source(asked)} has {_told(datasets.load(asked))}"
        for asked in sources
        if isinstance(asked, ArrayFile | Loaded)
    ]
    return (*(words for asked in sources if isinstance(asked, CsvFile) for words in _notes(asked)), *own)


def _told(data: Dataset) -> str:
    """Return how large data of one's own are, and what is in them."""
    problem = data.problem
    kind = "tokens" if problem.tokens else "real numbers"
    wanted = f"{data.classes} classes" if data.classes else f"{problem.outputs} real targets"
    each = f" at each of {problem.positions} positions" if problem.positions else ""
    held = f"; its last {data.held} rows are the test rows" if data.held else ""
    return f"{len(data.x)} rows of {problem.shape}, {kind}, scaled: {data.scaling}; {wanted}{each}{held}"


def _notes(file: CsvFile) -> Iterator[str]:
    data = datasets.load(file)
    rows, features = data.x.shape
    yield f"{file.path} has {rows} rows, {data.classes} classes, and features: {features}"
    for name in datasets.counting(data):
        rises = f"column {name} of {file.path} rises from row to row, as a row's number does"
        yield f"{rises}; `exclude: [{name}]` leaves it out"


def _allow(file: CsvFile | ArrayFile) -> None:
    """Refuse a file outside of the folders of data, because a form in a web page must not open just any file."""
    listed = os.environ.get(FOLDERS) or str(Path.cwd())
    allowed = [Path(folder).resolve() for folder in listed.split(os.pathsep) if folder]
    if not any(Path(file.path).resolve().is_relative_to(folder) for folder in allowed):
        raise ValueError(
            f"dataset.path must be in a folder that {FOLDERS} lists, or without it in the current one, now: "
            f"{', '.join(map(str, allowed))}; got {Path(file.path).resolve()}"
        )

"""The store: where MLflow keeps the record, how it is opened, and the errors when it fails.

This folder is the only importer of mlflow. A benchmark is a run of the experiment `initbench/<study>`; its cells are
runs nested under this run. Every call names a run by its id, because MLflow's notion of an active run does not reach
the threads in which tasks run.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from tasks import folders, postgres, sqlite
from tasks.core.training.outcome import first_line
from tasks.tracking import local, view

UI = "http://127.0.0.1:5000"  # where `initbench ui` shows a store that has no server of its own
BENCHMARK = "initbench.benchmark"  # tag of a benchmark's run
NIGHTLY = "initbench.nightly"  # tag of the runs of a nightly, in MLflow and in Prefect
QUESTION = "initbench.question"  # tag of a benchmark's run: a hash of its study without its seeds
SEEDS = "initbench.seeds"  # and of its seeds
GROUPED = "initbench.grouped"  # tag of a benchmark whose cells have no runs of their own
PRUNED = "initbench.pruned"  # tag of a benchmark whose cells have no weights any more
REVOKED = "initbench.revoked"  # tag of such a benchmark that says why its cells are not to be used again
PARENT = "mlflow.parentRunId"  # tag of a cell's run: the run id of its benchmark
KEY, SETTINGS = "initbench.cell", "initbench.settings"  # tags of a cell: its key, and that of its batch
STATUS, REASON = "initbench.status", "initbench.reason"  # tags of a cell: what became of it, and why it failed
HEALTH = "initbench.health"  # tag of a cell that was trained
DIGEST = "initbench.digest"  # tag of a cell: of its weights and first gradient, equal where every bit is
AS_BUILT = "initbench.as_built"  # tag of a cell: the parameters of its network that no initializer decides
DATA = "initbench.data"  # tag of a cell: the checksum of its data
CELLS, TUNING = "cells.csv", "tuning.csv"  # of a benchmark: its cells, and those by which initializers have picked
MACHINES = "workers/machines"  # the folder in a benchmark's run that describes the machines of its workers
AUDITS = "audit"  # the folder in a benchmark's run that has the audits of its networks; also of names of experiments
MARK = "#"  # between the id of a benchmark's run and the key of a cell that has no run of its own
FILES = frozenset({"weights.safetensors", "history.csv", "layers.csv", "predictions.csv"})  # of every trained cell
REUSABLE = ("finished", "diverged")  # what became of cells that are not trained again
PAGE = 1000  # runs in one answer to a search


class StoreError(ValueError):
    """The tracking store cannot be used."""


class RecordError(RuntimeError):
    """The tracking store failed while a benchmark ran."""


@dataclass(frozen=True)
class StudyRecord:
    """The experiment that holds a study's benchmarks and cells, and the store that it is in."""

    uri: str
    experiment_id: str


@dataclass(frozen=True)
class Recorded(StudyRecord):
    """A run in the store, and where MLflow's page shows it."""

    run_id: str

    @property
    def link(self) -> str:
        """Return the address at which MLflow's page shows the run."""
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs/{self.run_id}"

    def file_link(self, name: str) -> str:
        """Return the address from which a browser gets a file that was published with the run."""
        return f"{self._ui}/get-artifact?path={name}&run_uuid={self.run_id}"

    @property
    def _ui(self) -> str:
        served = without_password(self.uri.rstrip("/")) if self.uri.startswith("http") else UI
        return os.environ.get("INITBENCH_MLFLOW_UI", served).rstrip("/")


@dataclass(frozen=True)
class Benchmark(Recorded):
    """The run of a benchmark in the store, and where MLflow's page shows what belongs to it."""

    def link_to(self, run_id: str) -> str:
        """Return the address at which MLflow's page shows a run of the same experiment, or that of a cell."""
        run_id, _, _ = run_id.partition(MARK)
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs/{run_id}"

    @property
    def cells_link(self) -> str:
        """Return the address at which MLflow's page shows the cells of all benchmarks of the study, by initializer."""
        query = f"viewStateShareKey={view.KEY}&compareRunsMode=CHART"
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs?{query}"


def record_of(study: str) -> StudyRecord:
    """Return the record of a study that has some cells already."""
    found = client(uri()).get_experiment_by_name(experiment_name(study))
    return StudyRecord(uri(), found.experiment_id)


def without_password(address: str) -> str:
    """Return an address without the name and the password in it."""
    return re.sub("//[^/@]*@", "//", address)


def experiment_name(study: str) -> str:
    """Return the name of the experiment that holds a study's benchmarks and cells."""
    return f"initbench/{study}"


def uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite store of the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def local_uri() -> str:
    """Return the address of the current folder's SQLite store, made or not."""
    return f"sqlite:///{_local()}"


def local_artifacts() -> str:
    """Return the address of the folder in which the runs of the current folder's SQLite store keep their files."""
    return local.artifacts(_local()).as_uri()


def _local() -> Path:
    return Path.cwd() / "mlflow.db"


def served() -> bool:
    """Tell whether the store has a server, so that other machines can reach the store."""
    return uri().startswith("http")


def unmade(uri: str) -> bool:
    """Tell whether this is an SQLite store that is not made yet."""
    file = sqlite.file_of(uri)
    return file is not None and not file.exists()


@cache
def client(uri: str) -> MlflowClient:
    """Return a client of a store; make its tables if there are none, and have a moved SQLite store find its files.

    Several processes wait for each other, because MLflow makes and changes tables when it opens a store.

    Raises:
        StoreError: if the store cannot be used.
    """
    if uri.startswith("http") and not _answers(uri):
        raise StoreError(f"MLFLOW_TRACKING_URI must be the address of a running MLflow server; {uri} is not")
    file, url = sqlite.file_of(uri), postgres.url_of(uri)
    if uri.startswith("sqlite") and not file:  # its cells would be lost when the process ends
        raise StoreError(f"MLFLOW_TRACKING_URI must name a file, like sqlite:///mlflow.db; {uri} is in memory")
    try:
        with folders.alone(_usable(file).parent) if file else postgres.alone(url) if url else nullcontext():
            if file:
                local.make(file)
            opened = MlflowClient(uri)
            opened.search_experiments(max_results=1)  # makes the tables where there are none
            if file:
                local.followed(file)
    except _errors(uri) as error:
        if url and not isinstance(error, OSError) and postgres.half_made(url):
            raise StoreError(f"the store cannot be used: {postgres.remedy(url)}") from None
        found = without_password(uri)
        words = f"MLFLOW_TRACKING_URI must be a store that MLflow can use; of {found} it says: {first_line(error)}"
        raise StoreError(words) from None
    return opened


def _errors(uri: str) -> tuple[type[Exception], ...]:
    """Return the errors by which a store says that it cannot be used."""
    if uri.startswith("http"):
        return MlflowException, OSError
    from sqlalchemy.exc import SQLAlchemyError  # a second to import, and a server needs none of it

    return MlflowException, SQLAlchemyError, ImportError, OSError


def _usable(file: Path) -> Path:
    """Return the file of an SQLite store, made or not, whose folder exists.

    Raises:
        StoreError: if the store cannot be used.
    """
    if words := local.fault(file):
        raise StoreError(f"the store cannot be used: {words}")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def check(study: str) -> tuple[str, ...]:
    """Check, and make nothing meanwhile, that benchmarks of a study can be recorded; return what to know of the store.

    Raises:
        StoreError: if the store cannot be used, or the study's experiment is deleted.
    """
    file = sqlite.file_of(uri())
    if file and not file.exists():
        if words := local.fault(file):
            raise StoreError(f"the store cannot be used: {words}")
        return ()
    active_experiment(client(uri()), study)
    moved = local.followed(file) if file else ""
    return (moved,) if moved else ()


def check_room(needed: int) -> None:
    """Check that so many bytes can be recorded, if the store is an SQLite file; other stores have disks of their own.

    Raises:
        StoreError: if they cannot.
    """
    file = sqlite.file_of(uri())
    if file and (words := folders.fault(local.artifacts(file), folders.LEAST + needed)):
        raise StoreError(f"the store cannot hold all cells: {words}")


def active_experiment(client: MlflowClient, study: str) -> Experiment | None:
    """Return the experiment that holds a study's benchmarks, or None if there is none yet.

    Raises:
        StoreError: if the experiment is deleted, or its files cannot be written to.
    """
    found = client.get_experiment_by_name(experiment_name(study))
    if found is None:
        return None
    if found.lifecycle_stage != "active":
        raise StoreError(
            f"experiment {found.name} is deleted; restore it with `mlflow experiments restore --experiment-id "
            f"{found.experiment_id}`, or give the study another name"
        )
    place = found.artifact_location
    if is_local_uri(place) and (words := folders.fault(Path(local_file_uri_to_path(place)))):
        raise StoreError(f"experiment {found.name} must have a folder for its files; {words}")
    return found


def _answers(uri: str) -> bool:
    try:
        return httpx.get(f"{uri.rstrip('/')}/health").is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def open_store(at: str | None = None) -> None:
    """Make a store ready for use, by default the configured one.

    Raises:
        StoreError: if the store cannot be used.
    """
    client(at or uri())


def check_files(benchmark: Benchmark) -> None:
    """Check that this machine reaches the files of a benchmark.

    Raises:
        StoreError: if the files lie on the disk of another machine, and not behind MLflow's server.
    """
    location = client(benchmark.uri).get_run(benchmark.run_id).info.artifact_uri
    if is_local_uri(location) and not Path(local_file_uri_to_path(location), "study.yaml").exists():
        raise StoreError(
            f"a worker must reach the benchmark's files through MLflow's server, but they are in {location} on another "
            "machine. Workers elsewhere need `initbench up --postgres`, or another name for the study"
        )


def experiments(client: MlflowClient) -> list[str]:
    """Return the ids of the experiments that hold benchmarks."""
    found = client.search_experiments(filter_string="name LIKE 'initbench/%'")
    return [experiment.experiment_id for experiment in found]


def search(client: MlflowClient, experiment_ids: Sequence[str], query: str) -> Iterator[Run]:
    """Yield the runs of experiments that match a query, the newest first."""
    if experiment_ids:
        order = ["attributes.start_time DESC"]
        yield from pages(partial(client.search_runs, [*experiment_ids], query, max_results=PAGE, order_by=order))


def pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield all that one of MLflow's searches finds, page by page."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return

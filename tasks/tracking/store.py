"""The store: where MLflow keeps the record, how it is opened, and the errors when it fails.

This folder is the only importer of mlflow. A benchmark is a run of the experiment `initbench/<study>`; its cells are
runs nested under this run. Every call names a run by its id, because MLflow's notion of an active run does not reach
the threads in which tasks run.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from sqlalchemy.exc import SQLAlchemyError

from tasks.core.training.outcome import first_line
from tasks.tracking import view

UI = "http://127.0.0.1:5000"  # where `initbench ui` shows a store that has no server of its own
BENCHMARK = "initbench.benchmark"  # tag of a benchmark's run
NIGHTLY = "initbench.nightly"  # tag of the runs of a nightly, in MLflow and in Prefect
QUESTION = "initbench.question"  # tag of a benchmark's run: a hash of its study without its seeds
SEEDS = "initbench.seeds"  # and of its seeds
CELLS = "cells.csv"
PAGE = 1000  # runs in one answer to a search


class StoreError(ValueError):
    """The tracking store cannot be used."""


class RecordError(RuntimeError):
    """The tracking store failed while a benchmark ran."""


@dataclass(frozen=True)
class Benchmark:
    """The run of a benchmark in the store, and where MLflow's page shows the run and what belongs to it."""

    uri: str
    experiment_id: str
    run_id: str

    @property
    def link(self) -> str:
        """Return the address at which MLflow's page shows the run."""
        return self.link_to(self.run_id)

    def link_to(self, run_id: str) -> str:
        """Return the address at which MLflow's page shows a run of the same experiment."""
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs/{run_id}"

    @property
    def cells_link(self) -> str:
        """Return the address at which MLflow's page shows the cells of all benchmarks of the study, by initializer."""
        query = f"viewStateShareKey={view.KEY}&compareRunsMode=CHART"
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs?{query}"

    def file_link(self, name: str) -> str:
        """Return the address from which a browser gets a file that was published with the benchmark."""
        return f"{self._ui}/get-artifact?path={name}&run_uuid={self.run_id}"

    @property
    def _ui(self) -> str:
        served = re.sub("//[^/@]*@", "//", self.uri.rstrip("/")) if self.uri.startswith("http") else UI  # no password
        return os.environ.get("INITBENCH_MLFLOW_UI", served).rstrip("/")


def local_store() -> Path:
    """Return the path of the current folder's SQLite store, made or not; its artifacts are in `mlruns` beside it."""
    return Path.cwd() / "mlflow.db"


def uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite store of the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def local_uri() -> str:
    return f"sqlite:///{local_store()}"


def local_artifacts() -> str:
    return Path.cwd().joinpath("mlruns").as_uri()


def served() -> bool:
    """Tell whether the store has a server, so that other machines can reach the store."""
    return uri().startswith("http")


def unmade(uri: str) -> bool:
    """Tell whether this is the current folder's store, and the store is not made yet."""
    return uri == local_uri() and not local_store().exists()


@cache
def client(uri: str) -> MlflowClient:
    """Return a client of a store; make the current folder's store if it does not exist.

    Raises:
        StoreError: if the store cannot be used.
    """
    if uri.startswith("http") and not _answers(uri):
        raise StoreError(f"MLFLOW_TRACKING_URI must be the address of a running MLflow server; {uri} is not")
    fresh = unmade(uri)
    try:
        opened = MlflowClient(uri)
        opened.search_experiments(max_results=1)  # makes the tables where there are none
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        words = f"MLFLOW_TRACKING_URI must be a store that MLflow can use; of {uri} it says: {first_line(error)}"
        raise StoreError(words) from None
    if fresh:
        with closing(sqlite3.connect(local_store())) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # recording a cell then takes a fifth of the time
    return opened


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


def search(client: MlflowClient, experiment_id: str, query: str) -> Iterator[Run]:
    """Yield the runs of an experiment that match a query, the newest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], query, max_results=PAGE, order_by=["attributes.start_time DESC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return

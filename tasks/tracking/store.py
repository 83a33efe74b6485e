"""The store: where MLflow keeps the record, how it is opened, and the faults that it can have.

This folder is the only importer of mlflow. A benchmark is a run of the experiment `initbench/<study>`; its cells are
runs nested under it. Runs are always named by their id, never taken from MLflow's ambient state, which does not reach
the threads that tasks run in.
"""

import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from sqlalchemy.exc import SQLAlchemyError

from tasks.core.training.outcome import first_line
from tasks.tracking import view

UI = "http://127.0.0.1:5000"  # where `initbench ui` serves a store that has no server of its own
BENCHMARK = "initbench.benchmark"  # tag of a benchmark's run
NIGHTLY = "initbench.nightly"  # tag of the runs of a nightly, in Prefect as well
CELLS = "cells.csv"


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
        """Return where the MLflow UI shows it."""
        return self.link_to(self.run_id)

    def link_to(self, run_id: str) -> str:
        """Return where the MLflow UI shows a run of the same experiment."""
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs/{run_id}"

    @property
    def cells_link(self) -> str:
        """Return where the MLflow UI shows the cells of all benchmarks of the study, by initializer."""
        query = f"viewStateShareKey={view.KEY}&compareRunsMode=CHART"
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs?{query}"

    def file_link(self, name: str) -> str:
        """Return where a browser gets a file that was published with it."""
        return f"{self._ui}/get-artifact?path={name}&run_uuid={self.run_id}"

    @property
    def _ui(self) -> str:
        served = re.sub("//[^/@]*@", "//", self.uri.rstrip("/")) if self.uri.startswith("http") else UI  # no password
        return os.environ.get("INITBENCH_MLFLOW_UI", served).rstrip("/")


def local_store() -> Path:
    """Return where the SQLite store of the current folder is or would be; its artifacts are in `mlruns` beside it."""
    return Path.cwd() / "mlflow.db"


def uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite store of the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def local_uri() -> str:
    return f"sqlite:///{local_store()}"


def local_artifacts() -> str:
    return Path.cwd().joinpath("mlruns").as_uri()


def served() -> bool:
    """Tell whether the store has a server, which others reach as well."""
    return uri().startswith("http")


def unmade(uri: str) -> bool:
    """Tell whether this is the current folder's store, and not made yet."""
    return uri == local_uri() and not local_store().exists()


@cache
def client(uri: str) -> MlflowClient:
    """Return a client of the store, made if it is the current folder's and not there.

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
            connection.execute("PRAGMA journal_mode=WAL")  # a run then costs a fifth
    return opened


def _answers(uri: str) -> bool:
    try:
        return httpx.get(f"{uri.rstrip('/')}/health").is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def open_store(at: str | None = None) -> None:
    """Make a store ready for use, by default the configured one.

    Raises:
        StoreError: if it cannot be.
    """
    client(at or uri())


def check_files(benchmark: Benchmark) -> None:
    """Refuse a benchmark whose files lie on the disk of another machine.

    Raises:
        StoreError: if they do.
    """
    location = client(benchmark.uri).get_run(benchmark.run_id).info.artifact_uri
    if is_local_uri(location) and not Path(local_file_uri_to_path(location), "study.yaml").exists():
        raise StoreError(
            f"the benchmark's files must be reached by way of MLflow's server, for they are on another machine; they "
            f"are in {location}. Workers elsewhere need `initbench up --postgres`, or another name for the study"
        )
